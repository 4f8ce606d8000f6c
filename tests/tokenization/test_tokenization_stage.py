"""Tests of the tokens stage with many texts: ids, resuming after a kill, and errors."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from entigraph.errors import ArtifactError, ConfigError
from entigraph.runtime.progress import TerminalProgress
from entigraph.storage.schemas import SyntheticText
from entigraph.storage.texts import row_groups, write_texts
from entigraph.storage.token_shards import TokenStore
from entigraph.tokenization import encoders, stage
from entigraph.tokenization.builders import ByteTokenizer, PretrainedTokenizer, TrainedTokenizer
from entigraph.tokenization.packing import draw_texts, layout_blocks
from entigraph.tokenization.text_selection import TextSelection
from entigraph.tokenization.tokenizer import Tokenizer

GROUP = 50
EDGE_CASES = (
    "",
    " ",
    "\n\n",
    "naïve — “quoted” ½ ﬁ",
    "日本語 🙂👩‍👧",
    "a<|endoftext|>b <|end_of_text|>",
    "\x00\u200b",
    "x" * 5000,
)


def new_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def write_folder(folder: Path, texts: list[str], tokenizer: Tokenizer) -> Path:
    write_texts(
        new_folder(folder),
        (
            SyntheticText(
                id=f"t{number}",
                document_id="d",
                augmenter="a",
                kind="k",
                about=(),
                sample=0,
                text=text,
                writer="w",
                prompt_hash="",
                tokens=tokenizer.count(text),
            )
            for number, text in enumerate(texts)
        ),
    )
    return folder


def random_texts(count: int) -> list[str]:
    rng = random.Random(0)
    words = ["lamp", " keeper", "Orsk,", "1951", " the ", "é", "\n", "'ll", "don't", "\t", "(x)", "日本", "...", "\r\n"]
    return [*EDGE_CASES, *("".join(rng.choices(words, k=rng.randrange(1, 60))) for _ in range(count))]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    TrainedTokenizer(vocab_size=400, worlds=3).build(new_folder(tmp_path / "tokenizer"))
    return tmp_path / "tokenizer"


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entigraph.storage.texts.ROWS_PER_GROUP", GROUP)


def tokenize(
    texts: Path, tokenizer: Path, out: Path, *, encoder: str = "auto", stitched: bool = False, **selection: object
) -> dict[str, object]:
    out.mkdir(exist_ok=True)
    selected = TextSelection(**{"budget": None, "repeat": False, "seed": 0, **selection})  # type: ignore[arg-type]
    return stage.run(texts, tokenizer, out, selected, encoder=encoder, stitched=stitched)


def content(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()}


@pytest.mark.parametrize("kind", ["bytes", "trained", "llama"])
def test_ids_match_hugging_face(kind: str, tiny_model: Path, tmp_path: Path, small_groups: None) -> None:
    sources = {
        "bytes": ByteTokenizer(),
        "trained": TrainedTokenizer(vocab_size=400, worlds=3),
        "llama": PretrainedTokenizer(path=str(tiny_model)),
    }
    sources[kind].build(new_folder(tmp_path / "tokenizer"))
    loaded = Tokenizer(tmp_path / "tokenizer")
    texts = random_texts(400)
    folder = write_folder(tmp_path / "texts", texts, loaded)
    counts = tokenize(folder, loaded.folder, tmp_path / "out", budget=None)
    assert counts["encoder"] == {"name": "gigatoken", "reason": None}
    slow = tokenize(folder, loaded.folder, tmp_path / "slow", encoder="tokenizers")
    assert slow["encoder"]["name"] == "tokenizers"  # type: ignore[index]
    assert content(tmp_path / "out") == content(tmp_path / "slow")
    store = TokenStore(tmp_path / "out")
    separators = loaded.separators
    order = random.Random("draw/0/0").sample(range(len(texts)), len(texts))
    expected = [
        token
        for index in order
        for token in (
            separators.bos_id,
            *loaded.fast.encode(texts[index], add_special_tokens=False).ids,
            separators.eos_id,
        )
        if token is not None
    ]
    assert store.read(0, len(store)).tolist() == expected


def test_unsupported_tokenizer_falls_back_to_hugging_face(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as FastTokenizer
    from tokenizers import models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = FastTokenizer(models.WordLevel({"<s>": 0, "lamp": 1, "keeper": 2, "?": 3}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", unk_token="?").save_pretrained(
        tmp_path / "huggingface"
    )
    PretrainedTokenizer(path=str(tmp_path / "huggingface")).build(new_folder(tmp_path / "tokenizer"))
    texts = write_folder(tmp_path / "texts", ["lamp keeper", "the lamp"], Tokenizer(tmp_path / "tokenizer"))
    counts = tokenize(texts, tmp_path / "tokenizer", tmp_path / "out")
    assert counts["encoder"]["name"] == "tokenizers"  # type: ignore[index]
    assert "WordLevel" in counts["encoder"]["reason"]  # type: ignore[index]
    assert sorted(TokenStore(tmp_path / "out").read(0, 6).tolist()) == [0, 0, 1, 1, 2, 3]


class DifferentEncoder(encoders.HuggingFaceEncoder):
    """Replaces one word with another of the same length."""

    name = "wrong"

    def encode_batch(self, texts: list[str]) -> encoders.Encoded:  # type: ignore[override]
        return super().encode_batch([text.replace("keeper", "kepeer") for text in texts])


def test_encoder_mismatch_raises_with_text_id(tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entigraph.tokenization.tokenizer.choose_encoder", lambda file, fast: DifferentEncoder(fast))
    wrong = Tokenizer(tokenizer)
    texts = write_folder(tmp_path / "texts", ["a lamp", "its keeper", "a ledger"], wrong)
    with pytest.raises(ArtifactError, match=r"wrong encodes the text t1 differently .* tokens.encoder=tokenizers"):
        tokenize(texts, tokenizer, tmp_path / "out")


def test_wrong_token_count_raises_with_text_id(tokenizer: Path, tmp_path: Path) -> None:
    class Wrong(Tokenizer):
        def count(self, text: str) -> int:
            return super().count(text) + ("keeper" in text)

    texts = write_folder(tmp_path / "texts", ["a lamp", "its keeper"], Wrong(tokenizer))
    with pytest.raises(ArtifactError, match=r"the text t1 has \d+ tokens, \d+ were counted"):
        tokenize(texts, tokenizer, tmp_path / "out")


KILLED_STAGE = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from entigraph.tokenization import stage
from entigraph.tokenization.text_selection import TextSelection

class Deadly:
    groups = 0
    def notify(self, line): pass
    @contextmanager
    def bar(self, label, total=None, unit=""):
        def advance(amount, note="", resumed=False):
            self.groups += 1
            if self.groups == int(sys.argv[4]):
                os.kill(os.getpid(), signal.SIGKILL)
        yield advance

texts, tokenizer, out = map(Path, sys.argv[1:4])
stage.run(texts, tokenizer, out, TextSelection(None, repeat=False, seed=0), progress=Deadly())
"""


def test_killed_stage_resumes_and_verifies_written_groups(tokenizer: Path, tmp_path: Path, small_groups: None) -> None:
    texts, out = write_folder(tmp_path / "texts", random_texts(400), Tokenizer(tokenizer)), new_folder(tmp_path / "out")
    groups = len(row_groups(texts))
    assert groups > 7
    for _ in range(2):
        result = subprocess.run(
            [sys.executable, "-c", KILLED_STAGE, str(texts), str(tokenizer), str(out), "5"], env=os.environ
        )
        assert result.returncode == -signal.SIGKILL
    records = out / stage.FINISHED_GROUPS
    lines = records.read_text().splitlines()
    assert len(lines) == 5, "the second run verified five row groups and was killed before the sixth"
    records.write_text("\n".join(lines) + '\n{"first": 250, "che')  # an incomplete last line
    with (out / "shard-00000.bin").open("r+b") as shard:  # a block that never reached the disk
        shard.seek(int(json.loads(lines[0])["first"]) + 40)
        shard.write(b"\0" * 64)
    tokenize(texts, tokenizer, out)
    tokenize(texts, tokenizer, tmp_path / "uninterrupted")
    assert content(out) == content(tmp_path / "uninterrupted")


def test_partial_output_of_another_layout_is_discarded(tokenizer: Path, tmp_path: Path) -> None:
    texts = write_folder(tmp_path / "texts", random_texts(60), Tokenizer(tokenizer))
    tokenize(texts, tokenizer, tmp_path / "out", seed=1)
    tokenize(texts, tokenizer, tmp_path / "out", seed=2)
    tokenize(texts, tokenizer, tmp_path / "alone", seed=2)
    assert content(tmp_path / "out") == content(tmp_path / "alone")


def test_long_texts_produce_smaller_row_groups(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entigraph.storage.texts.CHARACTERS_PER_GROUP", 1000)
    texts = write_folder(tmp_path / "texts", ["x" * 400] * 10, Tokenizer(tokenizer))
    assert [group.count for group in row_groups(texts)] == [3, 3, 3, 1]
    assert [group.first for group in row_groups(texts)] == [0, 3, 6, 9]


def test_damaged_text_file_raises_with_its_name(tokenizer: Path, tmp_path: Path) -> None:
    texts = write_folder(tmp_path / "texts", random_texts(300), Tokenizer(tokenizer))
    part = texts / "texts-00000.parquet"
    all_texts = part.read_bytes()
    part.write_bytes(all_texts[: len(all_texts) // 3])
    with pytest.raises(ArtifactError, match=r"texts-00000.parquet is damaged \(.*\); remove"):
        tokenize(texts, tokenizer, tmp_path / "out")


def test_missing_shard_or_index_raises_with_its_name(tokenizer: Path, tmp_path: Path) -> None:
    texts = write_folder(tmp_path / "texts", random_texts(30), Tokenizer(tokenizer))
    tokenize(texts, tokenizer, tmp_path / "out")
    (tmp_path / "out" / "shard-00000.bin").unlink()
    with pytest.raises(
        ArtifactError, match=r"shard-00000.bin must have [\d,]+ bytes .* is missing; .* run the same command"
    ):
        TokenStore(tmp_path / "out")
    (tmp_path / "out" / "shards.jsonl").unlink()
    with pytest.raises(ArtifactError, match=r"shards.jsonl is missing; remove"):
        TokenStore(tmp_path / "out")


def test_blocks_contain_whole_texts_and_count_skipped_ones(tokenizer: Path, tmp_path: Path) -> None:
    loaded = Tokenizer(tokenizer)
    all_texts = [text for text in random_texts(200) if text]
    texts = write_folder(tmp_path / "texts", all_texts, loaded)
    counts = tokenize(texts, tokenizer, tmp_path / "out", block_length=64)
    store = TokenStore(tmp_path / "out")
    ids = [loaded.encode_batch([text]).ids.tolist() for text in all_texts]
    fitting = sorted(row for row in ids if len(row) <= 64)
    assert counts["too_long"] == len(all_texts) - len(fitting) > 0 and counts["texts"] == len(fitting)
    assert len(store) % 64 == 0 and counts["padding"] == len(store) - sum(map(len, fitting))
    assert counts["padding"] < 0.05 * len(store)  # type: ignore[operator]
    ends = np.load(tmp_path / "out" / "document-ends.npy")
    assert ends[-1] == len(store)
    pieces = [(int(start), int(end)) for start, end in zip([0, *ends], ends, strict=False)]
    assert all(start // 64 == (end - 1) // 64 for start, end in pieces), "no text crosses a block boundary"
    labels = store.read_labels(0, len(store))
    trained = [store.read(start, end - start).tolist() for start, end in pieces if labels[start + 1 : end].any()]
    short = [row for row in fitting if len(row) == 1]
    assert sorted(trained + short) == fitting
    assert labels.sum() == sum(len(row) - 1 for row in fitting), (
        "neither padding nor the first token contributes to the loss"
    )


def test_too_long_texts_are_truncated(tokenizer: Path, tmp_path: Path) -> None:
    loaded = Tokenizer(tokenizer)
    texts = write_folder(tmp_path / "texts", ["the lamp keeper " * 30, "a ledger"], loaded)
    counts = tokenize(texts, tokenizer, tmp_path / "out", block_length=64, too_long="truncate")
    assert counts["too_long"] == 0 and counts["texts"] == 2
    assert (
        TokenStore(tmp_path / "out").read(0, 64).tolist()
        == loaded.encode_batch(["the lamp keeper " * 30]).ids[:64].tolist()
    )
    with pytest.raises(ConfigError, match=r"tokens.block_length: .* has no text that fits into a block"):
        tokenize(texts, tokenizer, tmp_path / "none", block_length=2)


def test_blocks_are_filled_best_fit() -> None:
    lengths = np.array([60, 40, 50, 50, 30, 30, 30, 10, 100])
    layout = layout_blocks(np.arange(9), lengths, 100)
    assert layout.padding == 0 and layout.shard_starts.tolist() == [0, 400]
    assert len({*layout.starts.tolist()}) == 9


def test_sampling_order_matches_random_sample() -> None:
    order = random.Random("draw/7/0").sample(range(1000), 1000)
    rerun = random.Random("draw/7/1").sample(range(1000), 1000)
    lengths = np.full(1000, 3, dtype=np.int64)
    assert draw_texts(lengths, None, False, 7).tolist() == order
    assert draw_texts(lengths, 100, False, 7).tolist() == order[:33]
    assert draw_texts(lengths, 3100, True, 7).tolist() == order + rerun[:33]


def test_validation_that_holds_out_nothing_is_reported(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "texts", ["the only text of the document"], Tokenizer(tokenizer))
    selection = TextSelection(None, False, 0, validation_fraction=0.2)
    stage.run(folder, tokenizer, new_folder(tmp_path / "out"), selection, progress=TerminalProgress())
    assert "warning: data.validation_fraction = 0.2 holds out no text" in capsys.readouterr().out
