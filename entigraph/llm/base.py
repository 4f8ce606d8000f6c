"""The interface of writers: requests in, completions out."""

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, astuple, dataclass, field
from operator import add
from pathlib import Path
from typing import Any, Protocol

from entigraph.text.normalization import is_blank

Notify = Callable[[str], None]  # prints a line for the user
STOP, LENGTH, MULTIPLE_CHOICES = "stop", "length", "several"  # several: `text` is JSON of (text, finish_reason) pairs
ANSWERED = (STOP, LENGTH, MULTIPLE_CHOICES)
REFUSAL, CONTENT_FILTER = "refusal", "content_filter"
REJECTED = "error: "  # prefix of the HTTP status with which the endpoint rejected the request
GAVE_UP = "gave up: "  # prefix of the reason why there was no reply after all attempts
# Omitted from the hash at their defaults, so that requests keep the hashes from before these fields existed.
DEFAULTS_ADDED_LATER: Mapping[str, Any] = {"max_tokens": None, "stop": (), "choices": 1}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt and everything else that determines its answer.

    Attributes:
        sample: Index of a repetition of the same prompt; repetitions get independent answers.
        max_tokens: Maximum length of the answer in tokens; None: the writer's limit.
        stop: Strings at which generation stops.
        choices: Number of answers; `replies.split_choices` separates them.
        suffix: The end of `user` that differs between requests about the same document. It does not affect the answer;
            writers use it to route these requests to one prefix cache, and estimates to group them.
    """

    system: str
    user: str
    temperature: float
    sample: int = 0
    json_schema: Mapping[str, Any] | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    choices: int = 1
    suffix: str = ""

    @property
    def hash(self) -> str:
        hashed = {
            name: value
            for name, value in asdict(self).items()
            if name not in DEFAULTS_ADDED_LATER or value != DEFAULTS_ADDED_LATER[name]
        }
        del hashed["suffix"]
        return json_hash(hashed).hex()

    @property
    def shared_prefix(self) -> str:
        """Returns the beginning of `user` that requests about the same document share."""
        return self.user.removesuffix(self.suffix)


@dataclass(frozen=True)
class Usage:
    """Tokens and cost of an answer. `cached_tokens` are the prompt tokens found in the server's prefix cache, and
    `reasoning_tokens` the completion tokens of a reasoning model's reasoning, even if it is hidden.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0
    reasoning_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*map(add, astuple(self), astuple(other)))


@dataclass(frozen=True, kw_only=True)
class Completion:
    """The outcome of a request.

    Attributes:
        text: The answer without the model's reasoning. The endpoint's message if the request was rejected.
        finish_reason: "stop" if the answer is complete; any other answer is not used as training text. "length" if it
            is truncated, REFUSAL or CONTENT_FILTER, REJECTED and the HTTP status, or GAVE_UP and the reason why there
            is no answer.
        reasoning: The model's reasoning, as far as the endpoint returns it.
        notes: What a result should report about this answer, such as a parameter that the endpoint does not accept.
        discard: Callers call it if the content of a complete answer is unusable, such as a refusal in prose or JSON of
            the wrong form. The answer stays in the response cache, but later commands send the request again. Without
            effect on a truncated answer: another one would end at the same limit.
    """

    text: str
    model: str
    finish_reason: str = "stop"
    usage: Usage = Usage()
    reasoning: str = ""
    notes: tuple[str, ...] = ()
    discard: Callable[[], None] = field(default=lambda: None, compare=False, repr=False)

    @property
    def is_answer(self) -> bool:
        """Whether the model answered. Refusals, rejections and empty replies are never cached."""
        choices = json.loads(self.text) if self.finish_reason == MULTIPLE_CHOICES else [(self.text, self.finish_reason)]
        return any(reason in (STOP, LENGTH) and not is_blank(text) for text, reason in choices)


class LLM(Protocol):
    """A connected writer. `name` is short and readable; it appears in folder names and figures."""

    @property
    def name(self) -> str: ...

    def complete(self, requests: Iterable[Request]) -> Generator[Completion, None, None]:
        """Yields the answers in the order of the requests, which are consumed lazily.

        No further requests are sent once the caller stops iterating. Raises LLMError for errors that affect all
        requests (a wrong key, an endpoint that is down).
        """


class Writer(Protocol):
    """The options of a writer (conf/llm). No request is sent before `connect`."""

    name: str

    def check(self) -> None:
        """Raises LLMError if the writer is not usable. Called before any stage runs."""

    def connect(self, response_cache: Path, notify: Notify = print) -> AbstractContextManager[LLM]:
        """Returns a context manager for the connected writer. `notify` receives status messages for the user."""


def json_hash(value: Any) -> bytes:
    """Returns a 16-byte hash of the canonical JSON of a value."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(canonical.encode(), digest_size=16).digest()
