"""Where the questions of an evaluation come from: the corpus, a file, or an LLM that reads each document."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class FromCorpus:
    """Those that the corpus has."""

    name: ClassVar[str] = "from_corpus"
    needs_writer: ClassVar[bool] = False
    prompts: ClassVar[Sequence[str]] = ()

    def sources(self) -> list[Path]:
        return []


@dataclass(frozen=True, kw_only=True)
class QuestionsFile:
    """A JSONL file, one question a line, such as an amended review.jsonl: taken as it is, nothing is checked anew.

    {"document": "<id in documents.jsonl>", "question": "...", "choices": ["...", "..."], "answer": 0, "group": "..."}
    or "answer": [0, 2], where several may be right
    """

    path: str = runtime_field("")
    name: ClassVar[str] = "file"
    needs_writer: ClassVar[bool] = False
    prompts: ClassVar[Sequence[str]] = ()

    def sources(self) -> list[Path]:
        found = Path(self.path).expanduser().resolve()
        if not self.path or not found.is_file():
            raise ConfigError(f"questions.path: {self.path!r} is no file; give a JSONL file of questions")
        return [found]


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The writer is asked for `per_document` four-option questions about each document, spread evenly over passages of
    at most `passage_tokens` (of four characters). A question stays where the writer, given the passage, finds exactly
    the keyed option right; with `unknown_to_writer` only where it does not also find it `guesses` times in a row
    without the passage, the options in another order each time. `name_document` begins each question with the title.

    No request of a synthesis holds a question: they are made from the documents alone.
    """

    per_document: int = 20
    passage_tokens: int = 2_000
    unknown_to_writer: bool = False
    guesses: int = 3
    name_document: bool = False
    temperature: float = 1.0
    seed: int = 0
    name: ClassVar[str] = "generated"
    needs_writer: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for key, least in (("per_document", 1), ("passage_tokens", 100), ("guesses", 1), ("temperature", 0)):
            if getattr(self, key) < least:
                raise ConfigError(f"questions.{key}: {getattr(self, key)} found, {least} or more expected")

    @property
    def prompts(self) -> Sequence[str]:
        return ["writer", "write", "check", *(["recall"] if self.unknown_to_writer else [])]

    def sources(self) -> list[Path]:
        return []
