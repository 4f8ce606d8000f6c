"""A folder of anybody's documents (text, Markdown, PDF, HTML, Word), with questions where there are some."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from entigraph.config.fields import runtime_field
from entigraph.corpus import document_conversion
from entigraph.corpus.base import Content, existing
from entigraph.errors import ConfigError, DataError
from entigraph.storage.question_files import read_questions
from entigraph.storage.schemas import Document, Question, SkippedFile

PLAIN = (".txt", ".md")
DOCUMENTS = frozenset({*PLAIN, *document_conversion.CONVERTERS, *document_conversion.FOREIGN})
EXPECTED = "a folder of documents (.txt, .md, .pdf, .html, .docx)"


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """Every document below `path`, in the order of the names; a document's id is its path below.

    A PDF, HTML or Word file that gives no text is skipped, with its reason. A text file that is none is an error.

    `questions` is a JSONL file, one question a line:
    {"document": "notes/a.txt", "question": "...", "choices": ["...", "..."], "answer": 0, "group": "optional"}
    with `answer` counted from 0, or [0, 2] where several may be right. They are asked without the documents, so they
    should name what they ask about.
    """

    name: str = "text_files"
    path: str = runtime_field("")
    questions: str | None = runtime_field(None)
    fictional: ClassVar[bool] = False

    @property
    def questions_known(self) -> bool:
        return self.questions is not None

    @property
    def folder(self) -> Path:
        return existing(self.path, "corpus.path", EXPECTED)

    @property
    def converters(self) -> dict[str, str]:
        """What turns these files into text, and its version: both decide the documents."""
        return document_conversion.versions(documents_below(self.folder))

    def sources(self) -> list[Path]:
        """Also reads the questions, so that whatever is wrong in them is told before anything is made."""
        found = documents_below(self.folder) if self.folder.is_dir() else []
        if not found:
            raise ConfigError(f"corpus.path: {self.folder} holds no document; give {EXPECTED}")
        document_conversion.versions(found)
        self.asked(found)
        return [*found, self.questions_file] if self.questions else found

    @property
    def questions_file(self) -> Path:
        return existing(self.questions or "", "corpus.questions", "a JSONL file of questions")

    def asked(self, files: list[Path]) -> list[Question]:
        return read_questions(self.questions_file, {self.id_of(file) for file in files}) if self.questions else []

    def id_of(self, file: Path) -> str:
        return str(file.relative_to(self.folder))

    def read(self) -> Content:
        """Questions about a skipped file cannot be answered: they are left out, and counted."""
        files = documents_below(self.folder)
        documents: list[Document] = []
        skipped: list[SkippedFile] = []
        for file in files:
            try:
                text = plain(file) if file.suffix.lower() in PLAIN else document_conversion.converted(file)
                documents.append(Document(id=self.id_of(file), title=title(file), text=text))
            except document_conversion.Unreadable as why:
                skipped.append(SkippedFile(file=self.id_of(file), reason=why.reason, detail=why.detail))
        lost = {each.file for each in skipped}
        asked = self.asked(files)
        kept = [question for question in asked if question.document_id not in lost]
        counts = {"questions_about_skipped_files": len(asked) - len(kept)} if skipped else {}
        return Content(documents, kept, counts, skipped)


def documents_below(folder: Path) -> list[Path]:
    """In the order of their names; not in hidden folders, nor in what this program wrote (its outputs may lie here)."""
    found: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith(".") and not (entry / ".locks").exists():
            found += documents_below(entry)
        elif entry.is_file() and entry.suffix.lower() in DOCUMENTS and not entry.name.startswith(("~$", "._")):
            found.append(entry)  # not what Word (~$) and macOS (._) leave beside a document
    return found


def title(file: Path) -> str:
    return file.stem.replace("_", " ").replace("-", " ").strip()


def plain(file: Path) -> str:
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
