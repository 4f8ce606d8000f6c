"""Reads a folder of documents (text, Markdown, PDF, HTML, Word), with questions if there are some."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from entigraph.config.fields import runtime_field
from entigraph.corpus import document_conversion
from entigraph.corpus.base import CorpusContent, resolve_path
from entigraph.errors import ConfigError, DataError
from entigraph.storage.question_files import read_questions
from entigraph.storage.schemas import Document, Question, SkippedFile

PLAIN_TEXT = (".txt", ".md")
DOCUMENTS = frozenset({*PLAIN_TEXT, *document_conversion.CONVERTERS, *document_conversion.UNSUPPORTED})
EXPECTED = "a folder of documents (.txt, .md, .pdf, .html, .docx)"


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """Reads every document below `path`, in the order of the names; the id of a document is its relative path.

    A PDF, HTML or Word file without text is skipped with a reason. A text file that is not text is an error.

    `questions` is a JSONL file with one question per line:
    {"document": "notes/a.txt", "question": "...", "choices": ["...", "..."], "answer": 0, "group": "optional"}
    where `answer` counts from 0, or is a list such as [0, 2] if several may be right. The questions are asked without
    the documents, so they should name what they ask about.
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
        return resolve_path(self.path, "corpus.path", EXPECTED)

    @property
    def converters(self) -> dict[str, str]:
        """The packages that convert these files and their versions, which decide the documents."""
        return document_conversion.converter_versions(find_documents(self.folder))

    def sources(self) -> list[Path]:
        """Also reads the questions, so that a problem in them is reported before anything is built."""
        files = find_documents(self.folder) if self.folder.is_dir() else []
        if not files:
            raise ConfigError(f"corpus.path: {self.folder} contains no document; give {EXPECTED}")
        document_conversion.converter_versions(files)
        self.read_questions(files)
        return [*files, self.questions_file] if self.questions else files

    @property
    def questions_file(self) -> Path:
        return resolve_path(self.questions or "", "corpus.questions", "a JSONL file of questions")

    def read_questions(self, files: list[Path]) -> list[Question]:
        return read_questions(self.questions_file, {self.document_id(file) for file in files}) if self.questions else []

    def document_id(self, file: Path) -> str:
        return str(file.relative_to(self.folder))

    def read(self) -> CorpusContent:
        """Questions about a skipped file cannot be answered: they are left out and counted."""
        files = find_documents(self.folder)
        documents: list[Document] = []
        skipped: list[SkippedFile] = []
        for file in files:
            try:
                text = read_text(file) if file.suffix.lower() in PLAIN_TEXT else document_conversion.convert_file(file)
                documents.append(Document(id=self.document_id(file), title=title_from_name(file), text=text))
            except document_conversion.UnreadableFile as error:
                skipped.append(SkippedFile(file=self.document_id(file), reason=error.reason, detail=error.detail))
        skipped_ids = {file.file for file in skipped}
        questions = self.read_questions(files)
        kept = [question for question in questions if question.document_id not in skipped_ids]
        counts = {"questions_about_skipped_files": len(questions) - len(kept)} if skipped else {}
        return CorpusContent(documents, kept, counts, skipped)


def find_documents(folder: Path) -> list[Path]:
    """Returns the documents in the order of their names, without hidden folders and the outputs of this program."""
    files: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith(".") and not (entry / ".locks").exists():
            files += find_documents(entry)
        elif entry.is_file() and entry.suffix.lower() in DOCUMENTS and not entry.name.startswith(("~$", "._")):
            files.append(entry)  # without the temporary files of Word (~$) and macOS (._)
    return files


def title_from_name(file: Path) -> str:
    return file.stem.replace("_", " ").replace("-", " ").strip()


def read_text(file: Path) -> str:
    try:
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: not UTF-8 text at byte {error.start}; convert it, or move it out of corpus.path"
        ) from None
    if "\0" in text:
        raise DataError(f"{file}: a binary file; convert it to text, or take it out")
    if not text.strip():
        raise DataError(f"{file}: an empty file; take it out")
    return text.strip()
