"""Rounds over documents and kinds of text: the order of generation of augmenters that never run out of tasks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import ceil
from typing import ClassVar

from entigraph.config.fields import check_minimums
from entigraph.errors import ConfigError
from entigraph.storage.schemas import Document
from entigraph.synthesis.base import Augmenter, Graphs, PromptAugmenter, Steps, WritingTask


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


def check_kinds(kinds: Sequence[str], known: Sequence[str], key: str = "kinds") -> None:
    """Raises ConfigError unless the option `key` names some of the `known` kinds, each once."""
    if not kinds or not set(kinds) <= set(known) or len(set(kinds)) < len(kinds):
        raise ConfigError(f"augmenter.{key} must be some of {', '.join(known)}, each once, got {list(kinds)}")


@dataclass(frozen=True, kw_only=True)
class RoundsAugmenter(PromptAugmenter):
    """Writes in `rounds` rounds over the documents; null: until the token budget is reached."""

    rounds: int | None = None

    def __post_init__(self) -> None:
        check_minimums(self, "augmenter.", rounds=1)
        super().__post_init__()

    @property
    def endless(self) -> bool:
        return self.rounds is None


@dataclass(frozen=True, kw_only=True)
class KindsAugmenter(RoundsAugmenter):
    """Writes one text of each of the `kinds` about each document in every round, each with the prompt of its name."""

    known_kinds: ClassVar[Sequence[str]]
    kinds: list[str]

    def __post_init__(self) -> None:
        check_kinds(self.kinds, self.known_kinds)
        super().__post_init__()

    @property
    def prompt_names(self) -> Sequence[str]:
        return self.kinds

    @property
    def list_lengths(self) -> Mapping[str, int]:
        """For kinds whose texts take an item of a list each: the number of texts until the next list."""
        return {}

    def tasks(self, documents: Iterable[Document], graphs: Graphs, seed: int) -> Iterator[WritingTask]:
        return rounds(documents, self.kinds, self.rounds, self.list_lengths)

    def divide(self, token_budget: int | None) -> Sequence[tuple[Augmenter, int | None]]:
        """Divides the token budget equally between the kinds if they take different numbers of requests.

        Their texts do not arrive in the order of the tasks, so one budget for all of them would end before the slower
        kinds have their share.
        """
        if not self.list_lengths:
            return super().divide(token_budget)
        share = None if token_budget is None else ceil(token_budget / len(self.kinds))
        return [(replace(self, kinds=[kind]), share) for kind in self.kinds]

    def write(self, task: WritingTask) -> Steps[Sequence[str | None]]:
        answer = yield self.build_request(task.document, task.kind, sample=task.sample)
        return [answer]
