"""Labels by a person, and the agreement of two judges."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from entigraph.errors import DataError

Verdict = TypeVar("Verdict", bound=StrEnum)


def read_labels(file: Path, ids: Sequence[str], verdicts: type[Verdict], noun: str) -> list[Verdict | None]:
    """Returns one verdict per id, of what `noun` names; None if its `verdict` is left empty.

    Raises DataError for a word that is no verdict, an id of another sample, or one labeled twice.
    """
    labels: dict[str, Verdict | None] = {}
    known = set(ids)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        for number, line in enumerate(csv.DictReader(stream), 2):
            name, word = (line.get("id") or "").strip(), (line.get("verdict") or "").strip().lower()
            if name not in known or name in labels:
                problem = "labeled twice" if name in labels else "not of this sample"
                raise DataError(
                    f"{file}, row {number}: {noun} {name!r} is {problem}; label the to_label.csv that the same "
                    f"analysis wrote (same inputs, analysis.{noun}s and analysis.seed)"
                )
            if word and word not in set(verdicts):
                raise DataError(f"{file}, row {number}: verdict {word!r} found, one of {', '.join(verdicts)}, or none")
            labels[name] = verdicts(word) if word else None
    return [labels.get(name) for name in ids]


def measure_agreement(
    one: str, other: str, first: Sequence[StrEnum | None], second: Sequence[StrEnum | None]
) -> dict[str, Any]:
    """Compares two judges over what both have a verdict on; `kappa` is None if chance alone would agree fully."""
    pairs = [(left, right) for left, right in zip(first, second, strict=True) if left and right]
    counts = Counter(f"{left}, {right}" for left, right in pairs)
    return {
        "one": one,
        "other": other,
        "compared": len(pairs),
        "agreed": sum(left is right for left, right in pairs) / len(pairs) if pairs else None,
        "kappa": cohens_kappa(pairs),
        "pairs": dict(sorted(counts.items())),
    }


def cohens_kappa(pairs: Sequence[tuple[StrEnum, StrEnum]]) -> float | None:
    """The agreement beyond that of two judges who give the same shares of verdicts at random (Cohen 1960)."""
    if not pairs:
        return None
    count = len(pairs)
    left, right = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    agreed = sum(one is other for one, other in pairs) / count
    by_chance = sum(left[verdict] * right[verdict] for verdict in left) / count**2
    return None if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def kappa_text(agreement: Mapping[str, Any]) -> str:
    kappa = agreement["kappa"]
    return "Cohen's kappa undefined" if kappa is None else f"Cohen's kappa {kappa:.2f}"
