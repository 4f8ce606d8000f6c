"""A folder of anybody's .txt and .md files, with questions where there are some."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from entigraph.corpus.base import Content, existing
from entigraph.errors import ConfigError, DataError
from entigraph.records import Document, Question

SUFFIXES = (".txt", ".md")


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """Every .txt and .md file below `path`, in the order of the names; a document's id is its path below.

    `questions` is a JSONL file, one question a line:
    {"document": "notes/a.txt", "question": "...", "choices": ["...", "..."], "answer": 0, "group": "optional"}
    with `answer` counted from 0. They are asked without the documents, so they should name what they ask about.
    """

    name: str = "text_files"
    path: str = ""
    questions: str | None = None
    fictional: ClassVar[bool] = False

    @property
    def questions_known(self) -> bool:
        return self.questions is not None

    def sources(self) -> list[Path]:
        folder = existing(self.path, "corpus.path", "a folder of .txt and .md files")
        found = texts_below(folder) if folder.is_dir() else []
        if not found:
            raise ConfigError(
                f"corpus.path: {folder} holds no .txt or .md file; give the folder that holds your documents"
            )
        if self.questions:
            found.append(existing(self.questions, "corpus.questions", "a JSONL file of questions"))
        return found

    def read(self) -> Content:
        folder = existing(self.path, "corpus.path", "a folder of .txt and .md files")
        documents = [
            Document(id=str(file.relative_to(folder)), title=title(file), text=text(file))
            for file in texts_below(folder)
        ]
        known = {document.id for document in documents}
        asked = read_questions(existing(self.questions, "corpus.questions", "a file"), known) if self.questions else []
        return Content(documents, asked)


def texts_below(folder: Path) -> list[Path]:
    """In the order of their names; not in hidden folders, nor in what this program wrote (its outputs may lie here)."""
    found: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith(".") and not (entry / ".locks").exists():
            found += texts_below(entry)
        elif entry.is_file() and entry.suffix in SUFFIXES:
            found.append(entry)
    return found


def title(file: Path) -> str:
    return file.stem.replace("_", " ").replace("-", " ").strip()


def text(file: Path) -> str:
    try:
        found = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: not UTF-8 text at byte {error.start}; convert it, or move it out of corpus.path"
        ) from None
    if "\0" in found:
        raise DataError(f"{file}: a binary file; convert it to text, or take it out")
    if not found.strip():
        raise DataError(f"{file}: an empty file; take it out")
    return found.strip()


def read_questions(path: Path, known: set[str]) -> list[Question]:
    lines = text(path).split("\n")
    return [read_question(path, number, line, known) for number, line in enumerate(lines, 1) if line.strip()]


def read_question(path: Path, number: int, line: str, known: set[str]) -> Question:
    place = f"{path}:{number}"
    expected = 'expected {"document": "a.txt", "question": "...", "choices": ["...", "..."], "answer": 0}'
    try:
        raw: Any = json.loads(line)
        document, asked, choices, answer = raw["document"], raw["question"], raw["choices"], raw["answer"]
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not JSON ({error.msg}); {expected}") from None
    except (KeyError, TypeError) as error:
        raise DataError(f"{place}: lacks {error}; {expected}") from None
    if not isinstance(document, str) or document not in known:
        raise DataError(
            f"{place}: asks about {document!r}, no document of this corpus ({', '.join(sorted(known)[:5])}, ...)"
        )
    if (
        not isinstance(choices, list)
        or len(choices) < 2
        or not all(str(choice).strip() for choice in choices)
        or not isinstance(answer, int)
        or not 0 <= answer < len(choices)
    ):
        raise DataError(f"{place}: choices {choices!r} with answer {answer!r}; {expected}, answer counted from 0")
    return Question(
        id=f"{path.stem}-{number:05}",
        document_id=document,
        text=str(asked).strip(),
        choices=[str(choice).strip() for choice in choices],
        answer=answer,
        group=str(raw.get("group", "all")),
    )
