"""Texts to shards, on text made here: against Hugging Face's tokenizers, ids compared; then memory on a large corpus.

python benchmarks/tokens.py [--megabytes 64] [--large 1000]        (make bench)
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from entigraph.config.schema import cores
from entigraph.runtime.progress import SilentProgress
from entigraph.storage.schemas import SyntheticText
from entigraph.storage.texts import read_texts, write_texts
from entigraph.storage.token_shards import TokenStore
from entigraph.tokenization import stage
from entigraph.tokenization.packing import drawn
from entigraph.tokenization.tokenizer import Pretrained, Tokenizer

# How Llama 3 cuts text into words.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCABULARY, WORD_KINDS, SENTENCES = 32_000, 120_000, 40_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--megabytes", type=int, default=64)
    arguments.add_argument("--large", type=int, default=1000, help="megabytes of the corpus that memory is measured on")
    arguments.add_argument("--stage-on", type=Path, help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    if asked.stage_on:
        print(json.dumps(measured(asked.stage_on)))
        return
    sentences = made_up_sentences()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_tokenizer(root, sentences)
        print(f"{cores()} cores, a BPE of {VOCABULARY:,} tokens that cuts words as Llama 3 does")
        small = against_hugging_face(root, sentences, asked.megabytes)
        make_corpus(root, sentences, asked.large)
        large = in_a_process(root)
        for found in (small, large):
            size = found["bytes"] / 1e6
            print(
                f"memory, {size:,.0f} MB of text: {found['peak_mb']:,.0f} MB at most, Python and libraries included "
                f"({found['idle_mb']:,.0f} MB before the stage); {size / found['seconds']:,.0f} MB/s"
            )


def against_hugging_face(root: Path, sentences: list[str], megabytes: int) -> dict[str, Any]:
    size = make_corpus(root, sentences, megabytes) / 1e6
    ours = min((in_a_process(root) for _ in range(3)), key=lambda run: run["seconds"])
    tokenizer = Tokenizer(root / "tokenizer")
    os.environ["TOKENIZERS_PARALLELIZM"] = "true"
    fast = tokenizer.fast
    rivals: dict[str, Callable[[list[str]], list[list[int]]]] = {
        "loop": lambda texts: [fast.encode(text, add_special_tokens=False).ids for text in texts],
        "encode_batch": lambda texts: [found.ids for found in fast.encode_batch(texts, add_special_tokens=False)],
        "encode_batch_fast": lambda texts: [
            found.ids for found in fast.encode_batch_fast(texts, add_special_tokens=False)
        ],
    }
    seconds = {}
    for name, encode in rivals.items():
        started = time.perf_counter()
        ids = hugging_face(root, tokenizer, encode)
        seconds[name] = time.perf_counter() - started
        print(f"  {'Hugging Face ' + name:32}{size / seconds[name]:>8,.1f} MB/s")
    print(f"  {'texts to shards, sample checked':32}{size / ours['seconds']:>8,.1f} MB/s   ({ours['encoder']})")
    fastest = min(seconds.values())
    same = refuse_differences(root, ids)
    print(f"{size:,.0f} MB: {fastest / ours['seconds']:.1f} times the fastest of these; all {same:,} ids identical")
    return ours


def hugging_face(root: Path, tokenizer: Tokenizer, encode: Callable[[list[str]], list[list[int]]]) -> list[np.ndarray]:
    """The same work in the plainest way: texts from Parquet, ids with their separators to one file."""
    found = []
    texts = (text.text for text in read_texts(root / "texts"))
    marks = tokenizer.separators
    with (root / "theirs.bin").open("wb") as file:
        while some := list(islice(texts, 1000)):
            for ids in encode(some):
                found.append(np.asarray([marks.bos_id, *ids, marks.eos_id], dtype="<u4"))
                file.write(found[-1].tobytes())
    return found


def refuse_differences(root: Path, ids: list[np.ndarray]) -> int:
    store, ends = TokenStore(root / "out"), np.load(root / "out" / "document-ends.npy")
    order = drawn(np.array([len(row) for row in ids]), None, False, 0)
    for text, start, end in zip(order, [0, *ends], ends, strict=False):
        assert (store.read(int(start), int(end - start)) == ids[text]).all(), f"text {text} differs"
    return len(store)


def in_a_process(root: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--stage-on", str(root)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measured(root: Path) -> dict[str, Any]:
    """The stage in a process of its own."""
    out = root / "out"
    out.mkdir(exist_ok=True)
    for file in out.rglob("*.*"):
        file.unlink()
    Tokenizer(root / "tokenizer").batch(["warm"])
    idle = peak_mb()
    started = time.perf_counter()
    counts = stage.run(
        root / "texts", root / "tokenizer", out, budget=None, repeat=False, seed=0, progress=SilentProgress()
    )
    return {
        "seconds": time.perf_counter() - started,
        "idle_mb": idle,
        "peak_mb": peak_mb(),
        "bytes": int((root / "bytes").read_text()),
        "encoder": counts["encoder"]["name"],
    }


def peak_mb() -> float:
    """The most that this process has held. Linux only: elsewhere, what getrusage says."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1000
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def made_up_sentences() -> list[str]:
    """Of words whose frequency falls as in a language: the k-th one 1/k as often as the first."""
    rng = np.random.default_rng(0)
    onsets = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr", "ch")
    syllables = [onset + vowel + coda for onset in onsets for vowel in "aeiouéö" for coda in ("", *"nrst")]
    words = ["".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(WORD_KINDS)]
    shares = np.cumsum(1 / np.arange(1, WORD_KINDS + 1))
    sentences = []
    for _ in range(SENTENCES):
        chosen = [words[k] for k in np.searchsorted(shares, rng.random(rng.integers(6, 26)) * shares[-1])]
        chosen[0] = chosen[0].capitalize()
        chosen[rng.integers(len(chosen))] += ","
        sentences.append(
            " ".join(chosen) + str(rng.choice([".", ".", ".", "?", "!", f" in {rng.integers(2000)}.", ".\n\n"]))
        )
    return sentences


def make_tokenizer(root: Path, sentences: list[str]) -> None:
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as FastTokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = FastTokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(WORDS), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(sentences, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[1])
    fast.save_pretrained(str(root / "theirs"))
    (root / "tokenizer").mkdir()
    Pretrained(path=str(root / "theirs")).make(root / "tokenizer")


def make_corpus(root: Path, sentences: list[str], megabytes: int) -> int:
    """Texts of 10 to 60 sentences, each with a word that stands nowhere else; returns their size in bytes."""
    folder = root / "texts"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    tokenizer, size = Tokenizer(root / "tokenizer"), 0

    def texts() -> Iterator[SyntheticText]:
        nonlocal size
        rng = np.random.default_rng(1)
        while size < megabytes * 1e6:
            chosen = [sentences[k] for k in rng.integers(len(sentences), size=rng.integers(10, 60))]
            text = " ".join([*chosen, f"{rng.integers(1 << 60):x}"])
            size += len(text.encode())
            yield SyntheticText(
                id=str(size),
                document_id="made up",
                augmenter="made up",
                kind="made up",
                about=(),
                sample=0,
                text=text,
                writer="",
                prompt_hash="",
                tokens=tokenizer.count(text),
            )

    write_texts(folder, texts())
    (root / "bytes").write_text(str(size))
    return size


if __name__ == "__main__":
    main()
