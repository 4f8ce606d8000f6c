"""Rounds over documents and kinds of text: the order of generation of augmenters that never run out of tasks."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count

from entigraph.errors import ConfigError
from entigraph.storage.schemas import Document
from entigraph.synthesis.base import WritingTask


def rounds(documents: Iterable[Document], kinds: Sequence[str], limit: int | None) -> Iterator[WritingTask]:
    """Yields one task for each document and kind in every round; `limit` null: rounds without end.

    Each step of a round has one task per document, and neighboring documents get different kinds in it. So a budget
    that ends anywhere covers documents and kinds evenly.
    """
    for sample in count() if limit is None else range(limit):
        for step in range(len(kinds)):
            for number, document in enumerate(documents):
                yield WritingTask(document=document, kind=kinds[(number + step) % len(kinds)], sample=sample)


def check_kinds(kinds: Sequence[str], known: Sequence[str]) -> None:
    """Raises ConfigError unless the option `kinds` names some of the `known` ones, each once."""
    if not kinds or not set(kinds) <= set(known) or len(set(kinds)) < len(kinds):
        raise ConfigError(f"augmenter.kinds: {list(kinds)} found, some of {', '.join(known)} expected, each once")


def check_minimum(key: str, value: int | None, minimum: int = 1) -> None:
    """Raises ConfigError if the value of the option `key` is below `minimum`."""
    if value is not None and value < minimum:
        raise ConfigError(f"augmenter.{key}: {value} found, {minimum} or more expected")
