"""Interfaces of the evaluation: a backend answers prompts on behalf of one model, and tasks send prompts to it."""

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
    """A prompt and the `key` that seeds its samples, so that they do not depend on what else is in the batch.

    A base model continues `text`. A chat endpoint also receives `system`, which tells it to continue the text. A prompt
    that is an `instruction` is put in the model's chat template if it has one.
    """

    key: str
    text: str
    system: str = ""
    instruction: bool = False


@dataclass(frozen=True)
class Generation:
    """A generated text. `finish_reason` is "stop", "length" (cut at `max_tokens`) or an error message."""

    text: str
    finish_reason: str = "stop"


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a prompt is continued: up to one of the `stop` strings (excluded) or `max_tokens`.

    `until` is a regular expression after which generation may end; the match is kept. A temperature of 0 is greedy
    decoding. `batch_tokens` bounds the key-value cache of a local backend (65,536 tokens are 8 GB for Llama 3 8B in
    bf16).
    """

    samples: int = 1
    temperature: float = 0.0
    max_tokens: int = 300
    stop: Sequence[str] = ()
    until: str | None = None
    batch_tokens: int = 65_536

    @property
    def distinct_samples(self) -> int:
        """The number of samples to generate: greedy ones are identical."""
        return self.samples if self.temperature else 1

    def repeat(self, generations: list[Generation]) -> list[Generation]:
        """Returns `samples` generations from `distinct_samples`."""
        return generations * (self.samples // self.distinct_samples)

    def truncate(self, text: str, finish_reason: str) -> Generation:
        """Returns the text up to its first stop string or `until` match, with the backend's `finish_reason` if none."""
        untruncated = text
        for stop in self.stop:
            text = text.partition(stop)[0]
        match = re.search(self.until, text) if self.until else None
        text = text[: match.end()] if match else text
        return Generation(text, "stop" if match or text != untruncated else finish_reason)


class ScoredSequence(NamedTuple):
    """Token ids of which those from index `first` on are scored, each given all ids before it."""

    ids: Sequence[int]
    first: int


class Backend(Protocol):
    """A loaded model."""

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Generation]]]:
        """Yields the index of each prompt with its generations, in order of completion.

        The list is empty if the prompt and `max_tokens` exceed the model's context: prompts are never truncated.
        """
        ...

    def loglikelihoods(self, pairs: Sequence[tuple[str, str]], batch_tokens: int) -> list[float | None]:
        """Returns the summed log-likelihood of each (prompt, continuation) pair's continuation, in nats.

        None if both together exceed the context. Endpoints do not implement this.
        """
        ...


class ModelUnderTest(Protocol):
    """A model that is evaluated: in a local engine or behind an endpoint."""

    def connect(self, notify: Notify) -> AbstractContextManager[Backend]: ...


@dataclass(frozen=True)
class TaskInputs:
    """The files a task reads. `retrieval` is the folder with the passages ranked for its questions, if it needs any."""

    questions: Path
    documents: Path
    retrieval: Path | None = None


@dataclass(frozen=True)
class RetrievedPassages:
    """The passages in a question's prompt; `article_shown` and `evidence_shown` are those of an Answer."""

    passages: Sequence[str]
    article_shown: bool | None = None
    evidence_shown: bool | None = None


PassageLookup = Callable[[Question], RetrievedPassages | None]


def no_passages(question: Question) -> None:
    """The passage lookup of a closed-book task."""


def retrieval_fields(retrieved: RetrievedPassages | None) -> dict[str, Any]:
    """Returns the fields of an Answer that describe its passages."""
    return {"retrieved": len(retrieved.passages), **vars(retrieved)} if retrieved else {}


def sample_documents(limit: int | None, ids: Sequence[str]) -> set[str]:
    """Returns `limit` of a corpus's document ids, the same for every model; all if the limit is None."""
    if limit is None or limit >= len(ids):
        return set(ids)
    return set(random.Random(f"limit/{limit}").sample(ids, limit))


def hash_prompt(prompt: str) -> str:
    """Returns the `prompt_hash` of an Answer or a Summary."""
    return hashlib.blake2b(prompt.encode(), digest_size=16).hexdigest()
