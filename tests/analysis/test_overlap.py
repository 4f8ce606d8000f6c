import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from entigraph.analysis.overlap.overlap import Overlap, OverlapCounts, hash_ngrams, measure_corpora
from entigraph.analysis.written_corpus import load_corpora
from entigraph.errors import ConfigError, DataError
from entigraph.tokenization.builders import ByteTokenizer
from tests.analysis.corpora import make_corpus, texts_about
from tests.analysis.studies import make_context
from tests.conftest import Command


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    folder = tmp_path / "bytes"
    folder.mkdir()
    ByteTokenizer().build(folder)
    return folder


def row_of(out: Path, kind: str) -> dict[str, object]:
    rows = json.loads((out / "overlap.json").read_text())["rows"]
    (row,) = (row for row in rows if row["kind"] == kind)
    return dict(row)


def test_overlap_matches_brute_force(tmp_path: Path, tokenizer: Path) -> None:
    rng = random.Random(0)
    documents = {f"d{number}": "".join(rng.choices("abce", k=300)) for number in range(4)}
    texts = [(name, kind, "".join(rng.choices("abcd-", k=rng.randrange(0, 90)))) for name in documents
             for kind in ("pair", "triple") for _ in range(5)]  # fmt: skip
    corpus = make_corpus(tmp_path / "c", documents, texts_about(texts), tokenizer)
    measure_corpora(Overlap(sizes=[2, 4, 7]), [corpus], tmp_path)
    for size in (2, 4, 7):
        shared = tokens = 0
        for name, kind, text in texts:
            source = " " + documents[name]  # the tokenizer prepends a space
            known = {source[start : start + size] for start in range(len(source) - size + 1)}
            padded = " " + text if text else ""
            if kind == "pair":
                shared += sum(padded[start : start + size] in known for start in range(len(padded) - size + 1))
                tokens += len(padded)
        assert row_of(tmp_path, "pair")["overlap"][str(size)] == pytest.approx(shared / tokens)  # type: ignore[index]
    assert row_of(tmp_path, "all")["texts"] == 40 and row_of(tmp_path, "pair")["documents"] == 4


def test_copy_overlaps_except_at_its_end(tmp_path: Path, tokenizer: Path) -> None:
    documents = {"d": "x" + "abcdefghijklmnop" * 4}
    texts = texts_about([("d", "copy", documents["d"]), ("d", "other", "ZYXW" * 16)])
    measure_corpora(Overlap(), [make_corpus(tmp_path / "c", documents, texts, tokenizer)], tmp_path)
    assert row_of(tmp_path, "copy")["overlap"]["16"] == pytest.approx((66 - 15) / 66)  # type: ignore[index]
    assert set(row_of(tmp_path, "other")["overlap"].values()) == {0.0}  # type: ignore[attr-defined]
    assert (tmp_path / "overlap.png").stat().st_size > 400


def test_documents_are_sampled_by_seed(tmp_path: Path, tokenizer: Path) -> None:
    documents = {f"d{number}": f"the text of number {number}" for number in range(30)}
    corpus = make_corpus(
        tmp_path / "c", documents, texts_about([(name, "pair", text) for name, text in documents.items()]), tokenizer
    )
    lines = [measure_corpora(Overlap(documents=5, seed=seed), [corpus], tmp_path) for seed in (0, 0, 1)]
    assert row_of(tmp_path, "all")["texts"] == 5 and lines[0] == lines[1]


def test_hashes_depend_on_content_and_order() -> None:
    grid = np.array([(a, b, c) for a in range(60) for b in range(60) for c in range(60)], dtype=np.uint64)
    hashes = np.concatenate([hash_ngrams(row, 3) for row in grid[:: 60 * 7]])
    assert len(np.unique(hashes)) == len(hashes)
    one, other = np.array([1, 2], dtype=np.uint64), np.array([2, 1], dtype=np.uint64)
    assert hash_ngrams(one, 2) != hash_ngrams(other, 2) and len(hash_ngrams(one, 3)) == 0


def test_standard_error_matches_bootstrap() -> None:
    rng = np.random.default_rng(0)
    tokens, shares = rng.integers(100, 1000, size=40), rng.beta(2, 8, size=40)
    overlap = OverlapCounts()
    for number, (count, share) in enumerate(zip(tokens, shares, strict=True)):
        overlap.add(str(number), int(count), np.array([round(count * share)]))
    samples = rng.integers(0, 40, size=(4000, 40))
    bootstrap_stderr = (np.round(tokens * shares)[samples].sum(axis=1) / tokens[samples].sum(axis=1)).std()
    assert overlap.summarize([2])["stderr"]["2"] == pytest.approx(bootstrap_stderr, rel=0.1)


def test_invalid_options_and_missing_corpora_are_errors(tmp_path: Path) -> None:
    for options in ({"sizes": []}, {"sizes": [2, 2]}, {"documents": 0}, {"tokenizer": str(tmp_path)}):
        with pytest.raises(ConfigError):
            Overlap(**options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no synthetic corpus"):
        load_corpora(make_context(tmp_path))


def test_command_measures_a_finished_study_once(smoke: Path, command: Command, tmp_path: Path) -> None:
    root = tmp_path / "moved"
    shutil.copytree(smoke, root)
    commands = ("analyze", "experiments=smoke", "analysis=overlap", f"paths.root={root}", "logger=none")
    first = command(*commands)
    assert first.returncode == 0, first.stderr
    (folder,) = (root / "analysis").glob("overlap-*")
    rows = json.loads((folder / "overlap.json").read_text())["rows"]
    assert {row["augmenter"] for row in rows} == {"entigraph", "rephrase"}, "raw documents are not measured"
    before = (folder / "overlap.json").stat().st_mtime_ns
    assert command(*commands).stdout == first.stdout and (folder / "overlap.json").stat().st_mtime_ns == before
