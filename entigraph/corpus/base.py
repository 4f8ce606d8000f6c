"""What every corpus is: a source that reads into documents and, where it has some, questions."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from entigraph.errors import ConfigError
from entigraph.storage.schemas import Document, Question, SkippedFile


@dataclass
class Content:
    """What a source holds. `documents` may be a stream; `counts` says what the reader passed over, by reason.

    `skipped` lists the files that gave no document.
    """

    documents: Iterable[Document] = ()
    questions: list[Question] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    skipped: list[SkippedFile] = field(default_factory=list)


class Corpus(Protocol):
    """`name` goes into folder names. `fictional`: the offline writer understands the documents. `questions_known`: it
    comes with questions, so that there can be an accuracy.
    """

    name: str
    fictional: bool

    @property
    def questions_known(self) -> bool: ...

    def sources(self) -> list[Path]:
        """The files or folders read: they decide the content. Raises ConfigError where one is missing."""
        ...

    def read(self) -> Content:
        """Raises DataError naming file and line."""
        ...


def existing(path: str, key: str, expected: str) -> Path:
    found = Path(path).expanduser().resolve()
    if not path:
        raise ConfigError(f"{key}: nothing given; give {expected}: {key}=PATH")
    if not found.exists():
        raise ConfigError(f"{key}: {found} does not exist; give {expected}")
    return found
