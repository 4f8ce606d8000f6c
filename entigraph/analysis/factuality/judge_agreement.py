"""Verdicts of a person, and how far two who judged the same things agree."""

import csv
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from entigraph.analysis.factuality.judge_requests import Verdict
from entigraph.analysis.factuality.sentences import Sentence
from entigraph.errors import DataError


def read_labels(file: Path, sentences: Sequence[Sentence]) -> list[Verdict | None]:
    """One for each sentence; None where its `verdict` is left empty.

    Raises DataError for a word that is no verdict, a sentence of another sample, or one labeled twice.
    """
    labels: dict[str, Verdict | None] = {}
    known = {sentence.id for sentence in sentences}
    with file.open(encoding="utf-8-sig", newline="") as opened:
        for number, line in enumerate(csv.DictReader(opened), 2):
            name, word = (line.get("id") or "").strip(), (line.get("verdict") or "").strip().lower()
            if name not in known or name in labels:
                fault = "labeled twice" if name in labels else "not of this sample"
                raise DataError(
                    f"{file}, row {number}: sentence {name!r} is {fault}; label the to_label.csv that the same "
                    "analysis wrote (same corpora, analysis.sentences and analysis.seed)"
                )
            if word and word not in set(Verdict):
                raise DataError(f"{file}, row {number}: verdict {word!r} found, one of {', '.join(Verdict)}, or none")
            labels[name] = Verdict(word) if word else None
    return [labels.get(sentence.id) for sentence in sentences]


def agreement(
    one: str, other: str, first: Sequence[StrEnum | None], second: Sequence[StrEnum | None]
) -> dict[str, Any]:
    """Over what both have a verdict of; `kappa` is Cohen's, None where chance alone agrees wholly."""
    pairs = [(mine, theirs) for mine, theirs in zip(first, second, strict=True) if mine and theirs]
    counts = Counter(f"{mine}, {theirs}" for mine, theirs in pairs)
    agreed = sum(mine is theirs for mine, theirs in pairs) / len(pairs) if pairs else None
    return {
        "one": one,
        "other": other,
        "compared": len(pairs),
        "agreed": agreed,
        "kappa": kappa(pairs),
        "pairs": dict(sorted(counts.items())),
    }


def kappa(pairs: Sequence[tuple[StrEnum, StrEnum]]) -> float | None:
    """Cohen 1960: the agreement beyond that of two who give their own shares of verdicts at random."""
    if not pairs:
        return None
    count = len(pairs)
    mine, theirs = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    agreed = sum(one is other for one, other in pairs) / count
    by_chance = sum(mine[verdict] * theirs[verdict] for verdict in mine) / count**2
    return None if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)
