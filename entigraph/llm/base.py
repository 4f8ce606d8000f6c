"""Prompts in, completions out: the one method that every writer has."""

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

Say = Callable[[str], None]
CHARACTERS_PER_TOKEN = 4.0  # for estimates and limits: a writer's tokenizer is not ours to ask


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that decides an answer. `sample` tells repetitions of one prompt apart.

    `max_tokens` of an answer (None: what the writer's options say), which ends before one of `stop`. Of several
    `choices` the answer is all of them: `chat.choices_of`.

    `own` is the end of `user` that its sibling requests about the same document do not share; it decides nothing, and
    is known so that siblings are kept together and counted together.
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
        cache_key = {
            name: value
            for name, value in asdict(self).items()
            if name not in DEFAULTS_ADDED_LATER or value != DEFAULTS_ADDED_LATER[name]
        }
        del cache_key["suffix"]
        return json_hash(cache_key).hex()

    @property
    def shared_prefix(self) -> str:
        """What of `user` all siblings begin with."""
        return self.user.removesuffix(self.suffix)


# Left out of a hash where they say nothing: the hashes of requests without them stay what they were.
DEFAULTS_ADDED_LATER: Mapping[str, Any] = {"max_tokens": None, "stop": (), "choices": 1}


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

    def complete(self, requests: Iterable[Request]) -> Generator[Completion, None, None]:
        """Answers in the order of the requests, drawing them lazily: whoever stops asking stops the spending.

        Raises LLMError where going on makes no sense (a wrong key, an endpoint that is down).
        """
        ...


class Writer(Protocol):
    """What conf/llm describes: the options of a writer, which cost nothing until they connect."""

    name: str

    def check(self) -> None:
        """Raises LLMError where it could not answer: asked before anything is made."""
        ...

    def connect(self, response_cache: Path, say: Say = print) -> AbstractContextManager[LLM]:
        """`say` is for what somebody who waits should know."""
        ...


def json_hash(value: Any) -> bytes:
    """16 bytes of the canonical JSON of a value."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(canonical.encode(), digest_size=16).digest()
