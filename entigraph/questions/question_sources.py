"""The sources of evaluation questions: the corpus, a file, or an LLM that reads each document."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Protocol

from entigraph.config.fields import check_minimums, runtime_field
from entigraph.errors import ConfigError


class QuestionSource(Protocol):
    """`prompts` are the names of the prompt files that the writer receives."""

    name: ClassVar[str]
    needs_writer: ClassVar[bool]

    @property
    def prompts(self) -> Sequence[str]: ...

    def sources(self) -> list[Path]:
        """Returns the files that determine the questions. Raises ConfigError if one is missing."""


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
    or "answer": [0, 2] if several choices may be correct
    """

    path: str = runtime_field("")
    name: ClassVar[str] = "file"
    needs_writer: ClassVar[bool] = False
    prompts: ClassVar[Sequence[str]] = ()

    def sources(self) -> list[Path]:
        file = Path(self.path).expanduser().resolve()
        if not self.path or not file.is_file():
            raise ConfigError(f"questions.path: {self.path!r} is not a file; set it to a JSONL file of questions")
        return [file]


class QuestionForm(StrEnum):
    """How a question is answered. `short_answer` is for evaluation=free_form."""

    multiple_choice = "multiple_choice"
    short_answer = "short_answer"


@dataclass(frozen=True, kw_only=True)
class GeneratedQuestions:
    """The writer generates `per_document` questions about each document, spread evenly over passages of at most
    `passage_tokens` (of four characters).

    A question with four choices is kept if the writer, given the passage, finds only the keyed choice correct. A
    question with a short answer is kept if the passage contains that answer, and the writer, given the passage, answers
    with it. With `unknown_to_writer`, a question is dropped if the writer also answers it `guesses` times in a row
    without the passage, with the choices in a different order each time. `cite_document` starts each question with the
    title.

    With `documents_per_question=2`, a question is about passages of two documents that mention the same name, and is
    dropped if the writer answers it from one of them alone. A document without such a name has no questions.

    Synthesis requests contain no questions: the texts are written from the documents alone.
    """

    form: QuestionForm = QuestionForm.multiple_choice
    per_document: int = 20
    documents_per_question: int = 1
    passage_tokens: int = 2_000
    unknown_to_writer: bool = False
    guesses: int = 3
    cite_document: bool = False
    temperature: float = 1.0
    seed: int = 0
    name: ClassVar[str] = "generated"
    needs_writer: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_minimums(self, "questions.", per_document=1, passage_tokens=100, guesses=1, temperature=0)
        if self.documents_per_question not in (1, 2):
            raise ConfigError(f"questions.documents_per_question must be 1 or 2, got {self.documents_per_question}")

    @property
    def across_documents(self) -> bool:
        return self.documents_per_question > 1

    @property
    def prompts(self) -> Sequence[str]:
        steps = ["write", "check", *(["recall"] if self.unknown_to_writer else [])]
        across = ["entities", "two_documents", "write_across"] if self.across_documents else []
        return ["writer", *(self.prompt_name(step) for step in steps), *across]

    def prompt_name(self, step: str) -> str:
        return step if self.form == QuestionForm.multiple_choice else f"{step}_short_answer"

    def sources(self) -> list[Path]:
        return []
