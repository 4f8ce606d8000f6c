"""Interfaces of evaluation: a backend generates from and scores with one model, and tasks send prompts to it."""

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from entigraph.llm.base import Notify
from entigraph.storage.schemas import Question


@dataclass(frozen=True)
class Prompt:
    """A prompt. `key` seeds its samples, so that they do not depend on the rest of the batch.

    A base model continues `text`. A chat endpoint also receives `system`, the instruction to continue the text. With
    `instruction`, the model's chat template is applied if it has one.
    """

    key: str
    text: str
    system: str = ""
    instruction: bool = False


@dataclass(frozen=True)
class Generation:
    """A generated text. `finish_reason` is "stop", "length" (truncated at `max_tokens`), or an error message."""

    text: str
    finish_reason: str = "stop"


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampling parameters. Generation ends before one of the `stop` strings, or after `max_tokens`.

    `until` is a regular expression: generation may end after its match, which is part of the text. A temperature
    of 0 is greedy decoding. `batch_tokens` limits the KV cache of a local backend (65,536 tokens are 8 GB for Llama 3
    8B in bf16).
    """

    samples: int = 1
    temperature: float = 0.0
    max_tokens: int = 300
    stop: Sequence[str] = ()
    until: str | None = None
    batch_tokens: int = 65_536

    @property
    def distinct_samples(self) -> int:
        """Returns the number of samples to generate: 1 for greedy decoding."""
        return self.samples if self.temperature else 1

    def repeat(self, generations: list[Generation]) -> list[Generation]:
        """Returns `samples` generations from `distinct_samples`."""
        return generations * (self.samples // self.distinct_samples)

    def truncate(self, text: str, finish_reason: str) -> Generation:
        """Returns the text up to the first stop string or `until` match; `finish_reason` applies without either."""
        untruncated = text
        for stop in self.stop:
            text = text.partition(stop)[0]
        match = re.search(self.until, text) if self.until else None
        text = text[: match.end()] if match else text
        return Generation(text, "stop" if match or text != untruncated else finish_reason)


class ScoredSequence(NamedTuple):
    """Token ids. The ids from index `first` on are scored, conditioned on all preceding ids."""

    ids: Sequence[int]
    first: int


@dataclass(frozen=True)
class AnswerNotes:
    """The notes of a completion (`Completion.notes`). `request` is the hash of its request."""

    request: str
    notes: Sequence[str]


class Backend(Protocol):
    """A loaded model."""

    @property
    def has_likelihoods(self) -> bool:
        """Whether the backend computes log-likelihoods; endpoints do not."""

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Generation]]]:
        """Yields the index of each prompt and its generations, in order of completion.

        The list is empty if the prompt plus `max_tokens` exceeds the model's context: prompts are never truncated.
        """

    def loglikelihoods(self, pairs: Sequence[tuple[str, str]], batch_tokens: int) -> Iterator[tuple[int, float | None]]:
        """Yields the index of each (prompt, continuation) pair and the log-likelihood of its continuation in nats, in
        order of completion.

        The log-likelihood is None if the pair exceeds the context.
        """


class ModelUnderTest(Protocol):
    """A model to evaluate, in a local engine or served by an endpoint."""

    def connect(self, notify: Notify) -> AbstractContextManager[Backend]: ...


@dataclass(frozen=True)
class TaskInputs:
    """The files that a task reads. `retrieval` is the folder with the ranked passages, if the task needs them."""

    questions: Path
    documents: Path
    retrieval: Path | None = None


@dataclass(frozen=True)
class RetrievedPassages:
    """The passages in a question's prompt. `article_shown` and `evidence_shown` become fields of its Answer."""

    passages: Sequence[str]
    article_shown: bool | None = None
    evidence_shown: bool | None = None


PassageLookup = Callable[[Question], RetrievedPassages | None]


def no_passages(question: Question) -> None:
    """The passage lookup of closed-book tasks."""


def retrieval_fields(retrieved: RetrievedPassages | None) -> dict[str, Any]:
    """Returns the fields of an Answer that describe its passages."""
    return {"retrieved": len(retrieved.passages), **vars(retrieved)} if retrieved else {}


def sample_documents(limit: int | None, ids: Sequence[str]) -> set[str]:
    """Returns a random sample of `limit` document ids, the same for every model; all ids if the limit is None."""
    if limit is None or limit >= len(ids):
        return set(ids)
    return set(random.Random(f"limit/{limit}").sample(ids, limit))


def hash_prompt(prompt: str) -> str:
    """Returns the `prompt_hash` of an Answer or a Summary."""
    return hashlib.blake2b(prompt.encode(), digest_size=16).hexdigest()
