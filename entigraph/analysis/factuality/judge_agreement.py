"""Verdicts of judges and of a person on one sample, and how far they agree."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from entigraph.analysis.factuality.judges import JudgedAnalysis
from entigraph.config.fields import check_minimums, runtime_field
from entigraph.errors import ConfigError, DataError
from entigraph.storage.artifact import artifact_folder
from entigraph.storage.fingerprints import fingerprint

TO_LABEL = "to_label.csv"

Verdict = TypeVar("Verdict", bound=StrEnum)


@dataclass(frozen=True)
class Rater:
    """The verdicts of an evaluation, a judge or a person on a sample, and the reasons why some are missing."""

    key: str
    name: str
    verdicts: Sequence[StrEnum | None]
    missing: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class LabeledAnalysis(JudgedAnalysis):
    """`labels`: the file to_label.csv of the sample, labeled by a human, fully or in part. `seed`: of the sample.

    `sampled` names what is sampled; the option of the sample's size is its plural.
    """

    sampled: ClassVar[str]
    labels: str | None = runtime_field(None)  # enters the cache key by content
    seed: int = 0

    def __post_init__(self) -> None:
        check_minimums(self, "analysis.", **{f"{self.sampled}s": 1})
        if self.labels is not None and not Path(self.labels).expanduser().is_file():
            raise ConfigError(f"analysis.labels: {self.labels!r} is not a file; give the labeled to_label.csv, or null")
        super().__post_init__()

    @property
    def cache_key(self) -> Mapping[str, Any]:
        labels = fingerprint(Path(self.labels).expanduser()) if self.labels else None
        return {**super().cache_key, "labels": labels}

    def read_labels(self, ids: Sequence[str], verdicts: type[Verdict]) -> Iterator[Rater]:
        """Yields the person who labeled the sample, if there is one."""
        if self.labels:
            labels = read_labels(Path(self.labels).expanduser(), ids, verdicts, self.sampled)
            yield Rater("person", "a person", labels, Counter({"not labeled": labels.count(None)}))

    def agreement_lines(self, agreement: Iterable[Mapping[str, Any]], out: Path) -> Iterator[str]:
        for pair in agreement:
            agreed = f"no {self.sampled} has a verdict of both"
            if pair["compared"]:
                agreed = f"agree on {pair['agreed']:.1%} of {pair['compared']}, {kappa_text(pair)}"
            yield f"{pair['one']} and {pair['other']}: {agreed}"
        yield f"to label by hand: {artifact_folder(out) / TO_LABEL}, then analysis.labels=<the labeled copy>"


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
                raise DataError(
                    f"{file}, row {number}: verdict must be empty or one of {', '.join(verdicts)}, got {word!r}"
                )
            labels[name] = verdicts(word) if word else None
    return [labels.get(name) for name in ids]


def write_csv(file: Path, headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([headings, *rows])


def compare_raters(raters: Sequence[Rater]) -> list[dict[str, Any]]:
    """Returns the agreement of each two."""
    return [
        measure_agreement(one.key, other.key, one.verdicts, other.verdicts) for one, other in combinations(raters, 2)
    ]


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
