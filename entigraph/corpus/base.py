"""The corpus reader protocol: a source that is read into documents and, if it has some, questions.

A reader is a frozen dataclass whose fields are its options. `resolve_path` checks a path that the user gives.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from entigraph.errors import ConfigError
from entigraph.storage.schemas import ConversionLoss, Document, Question, SkippedFile


@dataclass
class CorpusContent:
    """The content of a source. `documents` may be a generator, which may add to the other fields.

    `counts` are further counts for the manifest. `skipped` lists the files and records without a document. `changes`
    counts the characters that the reader normalized itself; the stage normalizes all documents and questions.
    `not_converted` lists what the conversion of a file to text left out.
    """

    documents: Iterable[Document] = ()
    questions: list[Question] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    skipped: list[SkippedFile] = field(default_factory=list)
    changes: Counter[str] = field(default_factory=Counter)
    not_converted: list[ConversionLoss] = field(default_factory=list)

    def leave_out(self, reason: str, questions: int = 1) -> None:
        """Counts questions of the source that are not asked."""
        reasons = self.counts.setdefault("questions_left_out", {})
        reasons[reason] = reasons.get(reason, 0) + questions


class CorpusReader(Protocol):
    """`name` is used in folder names. `fictional`: the documents follow the grammar of `entigraph.fictional`.
    `has_questions`: the corpus has questions, so an accuracy can be measured. A reader of conversations also has the
    attribute `conversations = True`.
    """

    name: str
    fictional: bool

    @property
    def has_questions(self) -> bool: ...

    def sources(self) -> list[Path]:
        """Returns the files and folders that determine the documents. Raises ConfigError if one is missing."""

    def read(self) -> CorpusContent:
        """Returns the documents and questions. Raises DataError naming file and line of the first problem."""


def resolve_path(path: str, key: str, expected: str) -> Path:
    """Returns the absolute path of an existing file or folder. Raises ConfigError naming `key` and what is expected."""
    resolved = Path(path).expanduser().resolve()
    if not path:
        raise ConfigError(f"{key}: nothing given; give {expected}: {key}=PATH")
    if not resolved.exists():
        raise ConfigError(f"{key}: {resolved} does not exist; give {expected}")
    return resolved
