"""What an evaluation is made of: an engine that answers for a model, and tasks that ask it."""

import hashlib
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from entigraph.llm.base import Say
from entigraph.runtime.progress import Progress
from entigraph.storage.schemas import Answer, Question


@dataclass(frozen=True)
class Prompt:
    """`key` is what its samples are seeded by, so that they do not depend on what else is asked.

    A model goes on with `text`; one behind a chat endpoint is told by `system` that it is to do so. An `instruction`
    tells what to do by itself, and a model with a chat template is asked in that.
    """

    key: str
    text: str
    system: str = ""
    instruction: bool = False


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a prompt is continued: up to one of `stop` (left out), or `max_tokens`.

    `until` is a pattern after which nothing of interest follows: an engine that sees single tokens ends there.
    A temperature of 0 is greedy. `batch_tokens` bounds the keys and values that an engine on this machine holds at once
    (65,536 are 8 GB for Llama 3 8B in bf16).
    """

    samples: int = 1
    temperature: float = 0.0
    max_tokens: int = 300
    stop: Sequence[str] = ()
    until: str | None = None
    batch_tokens: int = 65_536

    @property
    def drawn(self) -> int:
        """How many are written: greedy ones are all alike."""
        return self.samples if self.temperature else 1

    def ended(self, text: str, finish_reason: str) -> "Sampled":
        """A text up to where it ends, by a stop or behind `until`; one that has neither ended as the engine says."""
        whole = text
        for stop in self.stop:
            text = text.partition(stop)[0]
        found = re.search(self.until, text) if self.until else None
        text = text[: found.end()] if found else text
        return Sampled(text, "stop" if found or text != whole else finish_reason)


@dataclass(frozen=True)
class Sampled:
    """`finish_reason` is "stop" for a text that ended by itself, "length" for one that was cut, else its fault."""

    text: str
    finish_reason: str = "stop"


def within(limit: int | None, documents: Sequence[str]) -> set[str]:
    """Which of a corpus's documents a task's limit leaves: the same for every model."""
    if limit is None or limit >= len(documents):
        return set(documents)
    return set(random.Random(f"limit/{limit}").sample(documents, limit))


def hash_of(prompt: str) -> str:
    """Under which an Answer keeps what its model was asked."""
    return hashlib.blake2b(prompt.encode(), digest_size=16).hexdigest()


Pair = tuple[str, str]  # a prompt and its continuation


class Engine(Protocol):
    """A model that answers. An endpoint samples only: it tells no likelihood of a text that it did not write."""

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Sampled]]]:
        """Each prompt's number with its samples, in the order in which they are done.

        No samples where the prompt and `max_tokens` exceed the model's context: nothing is cut silently.
        """
        ...

    def loglikelihoods(self, pairs: Sequence[Pair], batch_tokens: int) -> list[float | None]:
        """Each continuation's summed log-likelihood after its prompt; None where both exceed the context."""
        ...


@dataclass(frozen=True)
class Window:
    """Token ids of which those from `first` on are scored, each after all ids before it."""

    ids: Sequence[int]
    first: int


class LossEngine(Protocol):
    """A model on this machine, which tells the loss of any text."""

    positions: int

    def encoded(self, text: str) -> tuple[list[int], int]:
        """A text's ids with what stands before it in training, and how many of its tokens have nothing before them."""
        ...

    def losses(self, windows: Sequence[Window], batch_tokens: int) -> list[float]:
        """Each window's summed loss in nats."""
        ...


class Subject(Protocol):
    """Who is asked. `likelihoods`: whether its engine can tell those."""

    likelihoods: ClassVar[bool]

    def connect(self, say: Say) -> AbstractContextManager[Engine]: ...


@dataclass(frozen=True)
class Source:
    """The files that a task's questions come from; `documents` need not hold those that the questions are about.

    `retrieval` is the folder with the passages that were ranked for them, of a task that needs some.
    """

    questions: Path
    documents: Path
    retrieval: Path | None = None


@dataclass(frozen=True)
class Retrieved:
    """The passages that stand before a question, and whether they are what it takes (as in an Answer)."""

    passages: Sequence[str]
    article_shown: bool | None = None
    evidence_shown: bool | None = None


LookUp = Callable[[Question], Retrieved | None]


def closed(question: Question) -> None:
    """The closed book: nothing is looked up."""


def told(found: Retrieved | None) -> dict[str, Any]:
    """What an Answer says of what was retrieved."""
    return {"retrieved": len(found.passages), **vars(found)} if found else {}


class Measure(Protocol):
    """An evaluation without questions of ours (`asks` is False): a loss, or another harness's results."""

    corpus: str | None
    needs_likelihoods: ClassVar[bool]
    asks: ClassVar[bool]

    @property
    def cache_key(self) -> dict[str, str]: ...

    def measured(
        self, name: str, source: Source, engine: Callable[[], Engine], out: Path, progress: Progress
    ) -> dict[str, Any]:
        """What goes into scores.json under `name`; other files beside it. The engine is loaded when it is called."""
        ...


class Task(Protocol):
    """An evaluation: its questions, how they are asked and judged, and what the answers amount to."""

    corpus: str | None
    needs_likelihoods: ClassVar[bool]
    asks: ClassVar[bool]
    needs_retrieval: ClassVar[bool]

    @property
    def cache_key(self) -> dict[str, str]:
        """What decides its answers beside its options: digests of the files that those name."""
        ...

    def questions(self, source: Source) -> list[Question]:
        """Raises DataError where the source has none that this task would ask."""
        ...

    def answers(self, questions: Sequence[Question], engine: Engine, look_up: LookUp = closed) -> Iterator[Answer]:
        """One for each question, whatever came of it, as soon as it is there."""
        ...

    def scored(self, answers: Iterable[Answer]) -> dict[str, Any]:
        """With an `accuracy` over as many `questions`, its `stderr`, `chance`, and the same by `groups`."""
        ...
