"""The released corpus, on a small file of its form (one row a document, texts and entities joined by separators)."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from entigraph.storage.texts import read_texts
from tests.conftest import ARTICLE, Command


def released(path: Path, **changes: list[str]) -> Path:
    columns = {
        "uid": ["The Lamp of Orsk 1 by Vale", "Elsewhere by Nobody"],
        "raw": [f'"The Lamp of Orsk 1", Miriam Vale, 1951.\n{ARTICLE} That was in year 1.\n', "Another article."],
        "entity": ["Orsk<|entityseptoekn|>Miriam Vale", "Nobody<|entityseptoekn|>Elsewhere"],
        "entigraph": ["First text.<|entigraphseptoekn|> Second text. <|entigraphseptoekn|>", "Only text."],
    }
    pq.write_table(pa.table(columns | changes), path)
    return path


def test_released_texts_become_a_corpus_without_cost(command: Command, quality_file: Path, tmp_path: Path) -> None:
    file = released(tmp_path / "release.parquet")
    given = [
        "corpus=quality",
        f"corpus.path={quality_file}",
        "augmenter=entigraph_release",
        f"augmenter.path={file}",
        "run",
        "tokenizer=bytes",
        "trainer.max_steps=1",
        "data.context_length=32",
        "logger=none",
    ]
    result = command(*given)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "outputs/synthesis").iterdir()
    texts = list(read_texts(folder))
    assert [(text.text, text.sample) for text in texts] == [("First text.", 0), ("Second text.", 1), ("Only text.", 0)]
    assert [text.document_id for text in texts] == ["quality-1", "quality-1", "Elsewhere by Nobody"]
    assert texts[0].writer == "gpt-4-turbo (released by the paper's authors)" and len({text.id for text in texts}) == 3
    assert json.loads((folder / "manifest.json").read_text())["counts"]["dollars"] == 0
    released(file, entigraph=["Changed.", "Only text."])
    assert "to do" in command(*given[:-5], "logger=none").stdout, "another file is another corpus"


def test_file_with_other_columns_raises(command_here: Command, quality_file: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "other.parquet")
    common = ["run", "corpus=quality", f"corpus.path={quality_file}", "augmenter=entigraph_release"]
    wrong = command_here(*common, f"augmenter.path={tmp_path}/other.parquet", "logger=none")
    assert wrong.returncode == 1 and "no column uid, raw, entigraph" in wrong.stderr
    missing = command_here(*common, "augmenter.path=./nowhere", "logger=none")
    assert missing.returncode == 1 and "augmenter.path: ./nowhere does not exist" in missing.stderr
