"""Prompts in, completions out: the one method that every writer has."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that decides an answer. `sample` tells repetitions of one prompt apart."""

    system: str
    user: str
    temperature: float
    sample: int = 0
    json_schema: Mapping[str, Any] | None = None

    @property
    def hash(self) -> str:
        return hashed(asdict(self)).hex()


@dataclass(frozen=True)
class Usage:
    """What an answer took. `cached_tokens` are those of the prompt that the server had read before."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Completion:
    """`finish_reason` is "stop" for a whole answer; anything else is not training text."""

    text: str
    model: str
    finish_reason: str = "stop"
    usage: Usage = Usage()


class LLM(Protocol):
    """A writer. `name` is short and readable; it goes into folder names and onto figures."""

    @property
    def name(self) -> str: ...

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Completion]]:
        """Answers in the order of the requests, drawing them lazily: whoever stops asking stops the spending.

        Raises LLMError where going on makes no sense (a wrong key, an endpoint that is down).
        """
        ...


def hashed(value: Any) -> bytes:
    """16 bytes of the canonical JSON of a value."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(canonical.encode(), digest_size=16).digest()
