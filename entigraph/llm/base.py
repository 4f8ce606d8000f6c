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
        canonical = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Completion:
    """`finish_reason` is "stop" for a whole answer; anything else is not training text."""

    text: str
    model: str
    finish_reason: str = "stop"


class LLM(Protocol):
    """A writer. `name` is short and readable; it goes into folder names and onto figures."""

    name: str

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Completion]]:
        """Answers in the order of the requests, drawing them lazily: whoever stops asking stops the spending.

        Raises LLMError where going on makes no sense (a wrong key, an endpoint that is down).
        """
        ...
