from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from entigraph.config.schema import Synthesis
from entigraph.storage.schemas import Document, SyntheticText
from entigraph.storage.texts import write_texts
from entigraph.synthesis.dataset_card import COLUMNS, MAX_DOCUMENTS_LISTED, render_card

COUNTS: dict[str, Any] = {
    "texts": 2_345,
    "tokens": 1_234_567,
    "entities": 40,
    "kinds": {"triple": 1_000, "pair": 1_345},
    "documents_with_texts": 2,
    "requests": 2_350,
    "near_duplicates": 5,
    "entities_left_out": 0,
    "failures": {"finish_reason length": 7, "an empty answer": 1},
    "prompt_tokens": 9_000_000,
    "cached_tokens": 8_000_000,
    "completion_tokens": 1_300_000,
    "dollars": 12.3456,
}
DOCUMENTS = [
    Document(id="a.txt", title="The lamp", text="SECRET TEXT"),
    Document(id="b.txt", title="Oil | letters\n# <b>and</b> [more](http://x)", text="SECRET TEXT"),
]


def made(counts: dict[str, Any] = COUNTS, documents: list[Document] = DOCUMENTS, **settings: Any) -> str:
    given: dict[str, Any] = {
        "name": "notes-entigraph",
        "augmenter": "entigraph",
        "options": {"name": "entigraph", "temperature": 1.0, "triples_per_document": 500},
        "writer": "gpt-4o-mini",
        "rules": Synthesis(token_budget=2_000_000, seed=3),
        **settings,
    }
    return render_card(counts, documents, **given)


def head(text: str) -> dict[str, Any]:
    _, front, _ = text.split("---\n", 2)
    return yaml.safe_load(front)


def test_front_matter_lists_only_the_parquet_files(tmp_path: Path) -> None:
    texts = [
        SyntheticText(
            id=str(n),
            document_id="a.txt",
            augmenter="entigraph",
            kind="pair",
            about=("lamp", "oil"),
            sample=n,
            text="The lamp burns oil.",
            writer="w",
            prompt_hash="",
            tokens=5,
        )
        for n in range(3)
    ]
    write_texts(tmp_path, texts)
    for other in ("graphs.jsonl", "failures.jsonl", "manifest.json"):
        (tmp_path / other).write_text("{}\n")
    front_matter = head(made())
    (config,) = front_matter["configs"]
    (split,) = config["data_files"]
    assert split["split"] == "train"
    assert [file.name for file in tmp_path.glob(split["path"])] == ["texts-00000.parquet"]
    assert front_matter["license"] == "other" and front_matter["size_categories"] == ["1K<n<10K"]


def test_card_states_settings_and_cost() -> None:
    text = made(label="Simulated.")
    for expected in (
        "> Simulated.",
        "2,345 texts (1,234,567 tokens)",
        "written by `gpt-4o-mini`",
        "| augmenter.triples\\_per\\_document | 500 |",
        "| synthesis.token\\_budget | 2,000,000 |",
        "| synthesis.seed | 3 |",
        "| near-duplicate texts | 5 |",
        "| pair | 1,345 |\n| triple | 1,000 |",
        "| finish\\_reason length | 7 |",
        "| cached prompt tokens | 8,000,000 |",
        "| cost of the answers | $12.35 |",
    ):
        assert expected in text, expected
    assert "Every request yielded a text." in made({**COUNTS, "failures": {}})


def test_document_titles_are_escaped() -> None:
    text = made()
    assert "| a.txt | The lamp |" in text and "SECRET TEXT" not in text
    assert "| b.txt | Oil \\| letters # \\<b\\>and\\</b\\> \\[more\\](http://x) |" in text
    many_documents = [Document(id=f"{n}.txt", title=f"n{n}", text="") for n in range(MAX_DOCUMENTS_LISTED + 7)]
    assert text.count("\n| ") + MAX_DOCUMENTS_LISTED - len(DOCUMENTS) == made(documents=many_documents).count("\n| ")
    assert "and 7 more." in made(documents=many_documents)


def test_card_without_writer() -> None:
    counts = {**COUNTS, "prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0, "dollars": 0.0, "entities": 0}
    text = made(counts, augmenter="raw", options={"name": "raw"}, writer=None)
    assert "the source documents themselves" in text
    assert not any(absent in text for absent in ("| writer |", "synthesis.", "paid", "prompt tokens"))


def test_every_column_is_documented() -> None:
    assert list(COLUMNS) == [field.name for field in fields(SyntheticText)]
