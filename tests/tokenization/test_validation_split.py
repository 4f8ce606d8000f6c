"""Held-out texts: the same share of each document, the same texts for every budget."""

from pathlib import Path

import numpy as np

from entigraph.storage.schemas import SyntheticText
from entigraph.storage.texts import write_texts
from entigraph.tokenization.text_selection import split_texts


def texts(folder: Path, counts: dict[str, int]) -> Path:
    folder.mkdir()
    rows = [
        SyntheticText(
            id=f"{document}-{number}",
            document_id=document,
            augmenter="entigraph",
            kind="pair",
            about=[],
            sample=0,
            text="text",
            writer="offline",
            prompt_hash="",
            tokens=1,
        )
        for document, count in counts.items()
        for number in range(count)
    ]
    write_texts(folder, rows)
    return folder


def test_split_is_stratified_by_document_and_keeps_single_texts(tmp_path: Path) -> None:
    folder = texts(tmp_path / "texts", {"a": 40, "b": 20, "c": 1})
    training, held_out = split_texts(folder, np.arange(61), 0.1, seed=0)
    assert sorted([*training, *held_out]) == list(range(61))
    assert sum(number < 40 for number in held_out) == 4 and sum(40 <= number < 60 for number in held_out) == 2
    assert 60 in training
    assert held_out.tolist() == split_texts(folder, np.arange(61), 0.1, seed=0)[1].tolist()
    assert held_out.tolist() != split_texts(folder, np.arange(61), 0.1, seed=1)[1].tolist()
