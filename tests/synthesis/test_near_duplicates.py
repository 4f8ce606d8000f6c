"""Texts that nearly repeat one another, in several scripts."""

from pathlib import Path

import pytest

from entigraph.storage.schemas import SyntheticText
from entigraph.storage.texts import write_texts
from entigraph.synthesis.near_duplicates import find_near_duplicates
from tests.synthesis.test_document_parts import a_book

ENGLISH = a_book(2).text
CHINESE = "".join(f"第{number}天，陈岚在灰塔里敲响了铜钟，港口的人都听见了，然后回家吃饭。" for number in range(20))
ARABIC = " ".join(f"في اليوم {number} صعد سالم إلى البرج وحفظ المفتاح ثم عاد إلى القرية." for number in range(20))


def duplicates(folder: Path, *texts: tuple[str, str]) -> dict[str, str]:
    """Returns the near-duplicates among texts of documents, each with its original, by numbers."""
    rows = [
        SyntheticText(
            id=str(number),
            document_id=document,
            augmenter="entigraph",
            kind="pair",
            about=(),
            sample=0,
            text=text,
            writer="w",
            prompt_hash="",
            tokens=1,
        )
        for number, (document, text) in enumerate(texts)
    ]
    write_texts(folder, rows)
    return {duplicate.id: duplicate.original_id for duplicate in find_near_duplicates(folder, 0.8)}


@pytest.mark.parametrize(
    ("text", "ending"),
    [(ENGLISH, " The end."), (CHINESE, "完结了。"), (ARABIC, " انتهت القصة.")],
    ids=["en", "zh", "ar"],
)
def test_near_duplicates_are_found_across_documents(text: str, ending: str, tmp_path: Path) -> None:
    other = text[::-1]
    pairs = duplicates(tmp_path, ("a", text), ("a", other), ("a", text + ending), ("b", text), ("b", "Something else"))
    assert pairs == {"2": "0", "3": "0"}


def test_a_duplicate_is_no_original(tmp_path: Path) -> None:
    texts = [("a", ENGLISH + " More." * number) for number in range(5)]
    assert set(duplicates(tmp_path, *texts).values()) == {"0"}
