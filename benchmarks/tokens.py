"""Compares texts to shards with Hugging Face's tokenizers, ids included, on generated text; then measures memory.

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

from entigraph.config.resolvers import cores
from entigraph.storage.schemas import SyntheticText
from entigraph.storage.texts import read_texts, write_texts
from entigraph.storage.token_shards import TokenStore
from entigraph.tokenization import stage
from entigraph.tokenization.builders import PretrainedTokenizer
from entigraph.tokenization.packing import draw_texts
from entigraph.tokenization.text_selection import TextSelection
from entigraph.tokenization.tokenizer import Tokenizer

# The pre-tokenization pattern of Llama 3.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCABULARY, WORD_KINDS, SENTENCES = 32_000, 120_000, 40_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--megabytes", type=int, default=64)
    arguments.add_argument("--large", type=int, default=1000, help="megabytes of the corpus for the memory measurement")
    arguments.add_argument("--stage-on", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.stage_on:
        print(json.dumps(measure_stage(options.stage_on)))
        return
    sentences = make_sentences()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_tokenizer(root, sentences)
        print(f"{cores()} cores, a BPE of {VOCABULARY:,} tokens with the pre-tokenization of Llama 3")
        small = compare_with_hugging_face(root, sentences, options.megabytes)
        make_corpus(root, sentences, options.large)
        large = run_in_process(root)
        for result in (small, large):
            size = result["bytes"] / 1e6
            print(
                f"memory, {size:,.0f} MB of text: {result['peak_mb']:,.0f} MB peak, including Python and libraries "
                f"({result['idle_mb']:,.0f} MB before the stage); {size / result['seconds']:,.0f} MB/s"
            )


def compare_with_hugging_face(root: Path, sentences: list[str], megabytes: int) -> dict[str, Any]:
    size = make_corpus(root, sentences, megabytes) / 1e6
    ours = min((run_in_process(root) for _ in range(3)), key=lambda run: run["seconds"])
    tokenizer = Tokenizer(root / "tokenizer")
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    fast = tokenizer.fast
    alternatives: dict[str, Callable[[list[str]], list[list[int]]]] = {
        "loop": lambda texts: [fast.encode(text, add_special_tokens=False).ids for text in texts],
        "encode_batch": lambda texts: [encoding.ids for encoding in fast.encode_batch(texts, add_special_tokens=False)],
        "encode_batch_fast": lambda texts: [
            encoding.ids for encoding in fast.encode_batch_fast(texts, add_special_tokens=False)
        ],
    }
    seconds = {}
    for name, encode in alternatives.items():
        started = time.perf_counter()
        ids = hugging_face(root, tokenizer, encode)
        seconds[name] = time.perf_counter() - started
        print(f"  {'Hugging Face ' + name:32}{size / seconds[name]:>8,.1f} MB/s")
    print(f"  {'texts to shards, sample checked':32}{size / ours['seconds']:>8,.1f} MB/s   ({ours['encoder']})")
    fastest = min(seconds.values())
    same = check_identical(root, ids)
    print(f"{size:,.0f} MB: {fastest / ours['seconds']:.1f} times the fastest; all {same:,} ids identical")
    return ours


def hugging_face(root: Path, tokenizer: Tokenizer, encode: Callable[[list[str]], list[list[int]]]) -> list[np.ndarray]:
    """Does the same work in the simplest way: texts from Parquet, ids with their separators to one file."""
    arrays = []
    texts = (text.text for text in read_texts(root / "texts"))
    marks = tokenizer.separators
    with (root / "theirs.bin").open("wb") as file:
        while some := list(islice(texts, 1000)):
            for ids in encode(some):
                arrays.append(np.asarray([marks.bos_id, *ids, marks.eos_id], dtype="<u4"))
                file.write(arrays[-1].tobytes())
    return arrays


def check_identical(root: Path, ids: list[np.ndarray]) -> int:
    store, ends = TokenStore(root / "out"), np.load(root / "out" / "document-ends.npy")
    order = draw_texts(np.array([len(row) for row in ids]), None, False, 0)
    for text, start, end in zip(order, [0, *ends], ends, strict=False):
        assert (store.read(int(start), int(end - start)) == ids[text]).all(), f"text {text} differs"
    return len(store)


def run_in_process(root: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--stage-on", str(root)]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def measure_stage(root: Path) -> dict[str, Any]:
    """Runs the stage; called in a separate process."""
    out = root / "out"
    out.mkdir(exist_ok=True)
    for file in out.rglob("*.*"):
        file.unlink()
    Tokenizer(root / "tokenizer").encode_batch(["warm"])
    idle = peak_mb()
    started = time.perf_counter()
    counts = stage.run(root / "texts", root / "tokenizer", out, TextSelection(None, repeat=False, seed=0))
    return {
        "seconds": time.perf_counter() - started,
        "idle_mb": idle,
        "peak_mb": peak_mb(),
        "bytes": int((root / "bytes").read_text()),
        "encoder": counts["encoder"]["name"],
    }


def peak_mb() -> float:
    """Returns the peak memory of this process in MB, from /proc on Linux and from getrusage elsewhere."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1000
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def make_sentences() -> list[str]:
    """Returns sentences of words with Zipf-distributed frequencies."""
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
    PretrainedTokenizer(path=str(root / "theirs")).build(root / "tokenizer")


def make_corpus(root: Path, sentences: list[str], megabytes: int) -> int:
    """Writes texts of 10 to 60 sentences, each with a unique word, and returns their size in bytes."""
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
                document_id="generated",
                augmenter="generated",
                kind="generated",
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
