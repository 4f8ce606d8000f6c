"""The sources of evaluation questions: the corpus, a file, or an LLM that reads each document."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError


class QuestionSource(Protocol):
    """`prompts`: the names of the prompt files that the writer is asked with."""

    name: ClassVar[str]
    needs_writer: ClassVar[bool]

    @property
    def prompts(self) -> Sequence[str]: ...

    def sources(self) -> list[Path]:
        """Returns the files that decide the questions. Raises ConfigError if one is missing."""
        ...


@dataclass(frozen=True, kw_only=True)
class CorpusQuestions:
    """The questions of the corpus."""

    name: ClassVar[str] = "from_corpus"
    needs_writer: ClassVar[bool] = False
    prompts: ClassVar[Sequence[str]] = ()

    def sources(self) -> list[Path]:
        return []


@dataclass(frozen=True, kw_only=True)
class QuestionsFile:
    """A JSONL file with one question per line, such as an edited review.jsonl. It is used as it is, without checks.

    {"document": "<id in documents.jsonl>", "question": "...", "choices": ["...", "..."], "answer": 0, "group": "..."}
    or "answer": [0, 2] if several may be right
    """

    path: str = runtime_field("")
    name: ClassVar[str] = "file"
    needs_writer: ClassVar[bool] = False
    prompts: ClassVar[Sequence[str]] = ()

    def sources(self) -> list[Path]:
        file = Path(self.path).expanduser().resolve()
        if not self.path or not file.is_file():
            raise ConfigError(f"questions.path: {self.path!r} is not a file; give a JSONL file of questions")
        return [file]


@dataclass(frozen=True, kw_only=True)
class GeneratedQuestions:
    """The writer generates `per_document` four-option questions about each document, spread evenly over passages of at
    most `passage_tokens` (of four characters). A question is kept if the writer, given the passage, finds exactly the
    keyed option right. With `unknown_to_writer` it is dropped if the writer also finds that option `guesses` times in a
    row without the passage, with the options in another order each time. `name_document` starts each question with the
    title.

    No request of a synthesis contains a question: the texts are written from the documents alone.
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
        for key, minimum in (("per_document", 1), ("passage_tokens", 100), ("guesses", 1), ("temperature", 0)):
            if getattr(self, key) < minimum:
                raise ConfigError(f"questions.{key}: {getattr(self, key)} found, {minimum} or more expected")

    @property
    def prompts(self) -> Sequence[str]:
        return ["writer", "write", "check", *(["recall"] if self.unknown_to_writer else [])]

    def sources(self) -> list[Path]:
        return []
