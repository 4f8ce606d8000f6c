"""Rounds over documents and kinds of text: the order of generation of augmenters that never run out of tasks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from math import ceil

from entigraph.errors import ConfigError
from entigraph.storage.schemas import Document
from entigraph.synthesis.base import Augmenter, WritingTask


def rounds(
    documents: Iterable[Document],
    kinds: Sequence[str],
    limit: int | None,
    list_lengths: Mapping[str, int] | None = None,
) -> Iterator[WritingTask]:
    """Yields one task for each document and kind in every round; `limit` null: rounds without end.

    `list_lengths`: for kinds whose texts take an item of a list each, the number of texts until the next list.

    Each step of a round has one task per document, and neighboring documents get different kinds in it. So a budget
    that ends anywhere covers documents and kinds evenly.
    """
    for sample in count() if limit is None else range(limit):
        for step in range(len(kinds)):
            for number, document in enumerate(documents):
                kind = kinds[(number + step) % len(kinds)]
                list_number = sample // list_lengths[kind] if list_lengths and kind in list_lengths else None
                yield WritingTask(document=document, kind=kind, sample=sample, list_number=list_number)


def divide_by_kind(
    augmenter: Augmenter, kinds: Sequence[str], token_budget: int | None
) -> Sequence[tuple[Augmenter, int | None]]:
    """Divides a token budget equally between the kinds, each written by a copy of the augmenter.

    Kinds that take different numbers of requests must be divided: their texts do not arrive in the order of the tasks,
    so one budget for all of them would end before the slower kinds have their share.
    """
    share = None if token_budget is None else ceil(token_budget / len(kinds))
    return [(replace(augmenter, kinds=[kind]), share) for kind in kinds]  # type: ignore[call-arg]


def check_kinds(kinds: Sequence[str], known: Sequence[str], key: str = "kinds") -> None:
    """Raises ConfigError unless the option `key` names some of the `known` kinds, each once."""
    if not kinds or not set(kinds) <= set(known) or len(set(kinds)) < len(kinds):
        raise ConfigError(f"augmenter.{key}: {list(kinds)} found, some of {', '.join(known)} expected, each once")
