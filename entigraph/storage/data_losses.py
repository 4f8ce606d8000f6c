"""Data losses: data that a result excludes, counted by the stage that drops it and reported with the result.

A data loss is an entry of a mapping, from a description to `count` and `total` (None if the total is unknown):

    {"documents have no synthetic text": {"count": 1, "total": 4}}
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

DataLosses = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class DataLoss:
    """`count` of `total` items are lost; `description` completes the sentence "3 of 8 ..."."""

    description: str
    count: int
    total: int | None = None


def collect_data_losses(losses: Iterable[DataLoss]) -> dict[str, dict[str, Any]]:
    """Returns the losses that occurred, by description."""
    return {loss.description: {"count": loss.count, "total": loss.total} for loss in losses if loss.count}


def merge_data_losses(results: Iterable[DataLosses]) -> dict[str, dict[str, Any]]:
    """Returns the largest loss of each kind over several results, such as the runs of a study."""
    merged: dict[str, dict[str, Any]] = {}
    for losses in results:
        for description, loss in losses.items():
            if description not in merged or loss["count"] > merged[description]["count"]:
                merged[description] = dict(loss)
    return merged


def render_data_losses(losses: DataLosses, up_to: bool = False) -> str:
    """Returns the losses as text, empty if there are none. `up_to`: they are the largest of several results."""
    return "; ".join(render_data_loss(description, loss, up_to) for description, loss in losses.items())


def render_data_loss(description: str, loss: Mapping[str, Any], up_to: bool) -> str:
    total = "" if loss["total"] is None else f" of {loss['total']:,}"
    if loss["count"] == 1 and not total:
        description = description.replace("s are ", " is ", 1)
    return f"{'up to ' if up_to else ''}{loss['count']:,}{total} {description}"


def count_of(count: int, noun: str) -> str:
    """Returns a number and its noun: "1 document", "2 documents"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
