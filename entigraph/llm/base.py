"""The interface of writers: requests in, completions out."""

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

Say = Callable[[str], None]  # prints a line for the user
CHARACTERS_PER_TOKEN = 4.0  # for estimates and limits: the writer's own tokenizer is not available here
# Omitted from the hash at their defaults, so that requests without these fields keep the hashes they had before.
DEFAULTS_ADDED_LATER: Mapping[str, Any] = {"max_tokens": None, "stop": (), "choices": 1}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt and everything else that decides its answer.

    Attributes:
        sample: Numbers repetitions of the same prompt, which get independent answers.
        max_tokens: Length limit of the answer; None: the writer's own limit.
        stop: Strings at which the answer ends.
        choices: Number of answers; `wire_format.split_choices` separates them.
        suffix: The end of `user` that sibling requests about the same document do not share. It does not affect the
            answer; writers use it to keep siblings on one prefix cache, and estimates to count them together.
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
        """The beginning of `user` that all sibling requests share."""
        return self.user.removesuffix(self.suffix)


@dataclass(frozen=True)
class Usage:
    """Tokens and cost of an answer. `cached_tokens` are the prompt tokens that the server had in its prefix cache."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Completion:
    """An answer. `finish_reason` is "stop" if it is complete; any other answer is not used as training text."""

    text: str
    model: str
    finish_reason: str = "stop"
    usage: Usage = Usage()


class LLM(Protocol):
    """A connected writer. `name` is short and readable; it appears in folder names and figures."""

    @property
    def name(self) -> str: ...

    def complete(self, requests: Iterable[Request]) -> Generator[Completion, None, None]:
        """Yields the answers in the order of the requests, which are consumed lazily.

        A caller that stops iterating stops the spending. Raises LLMError where continuing is pointless (a wrong key,
        an endpoint that is down).
        """
        ...


class Writer(Protocol):
    """The options of a writer (conf/llm), which cost nothing until they connect."""

    name: str

    def check(self) -> None:
        """Raises LLMError if the writer could not answer. Called before anything is built."""
        ...

    def connect(self, response_cache: Path, say: Say = print) -> AbstractContextManager[LLM]:
        """Returns a context manager for the connected writer. `say` receives messages for a user who waits."""
        ...


def json_hash(value: Any) -> bytes:
    """Returns a 16-byte hash of the canonical JSON of a value."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(canonical.encode(), digest_size=16).digest()
