"""Reads a folder of documents (text, Markdown, reStructuredText, PDF, HTML, Word), with questions if there are some."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from entigraph.config.fields import runtime_field
from entigraph.corpus import document_conversion
from entigraph.corpus.base import CorpusContent, resolve_path
from entigraph.corpus.document_conversion import UnreadableFile
from entigraph.corpus.source_files import POINTER, check_distinct, file_id, find_files, is_pointer, is_pointer_file
from entigraph.errors import ConfigError, DataError
from entigraph.storage.jsonl import list_problems
from entigraph.storage.question_files import REPEATED, drop_repeated, read_questions
from entigraph.storage.schemas import ConversionLoss, Document, Question, SkippedFile
from entigraph.text.normalization import decode_text

PLAIN_TEXT = (".txt", ".md", ".markdown", ".rst")
READ = frozenset({*PLAIN_TEXT, *document_conversion.CONVERTERS})
DOCUMENTS = READ | document_conversion.UNSUPPORTED  # the latter are skipped with a hint
MAX_NULL_CHARACTERS = 0.01  # of a text; a file with more is not text, and fewer are removed as other control characters
EXPECTED = "a folder of documents (.txt, .md, .rst, .pdf, .html, .docx, .epub)"


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """Reads every document in `path`, in the order of the names; the id of a document is its relative path.

    Files without text and files of other kinds are skipped with a reason. A text file that is not text is an error.

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
    def has_questions(self) -> bool:
        return self.questions is not None

    @property
    def folder(self) -> Path:
        return resolve_path(self.path, "corpus.path", EXPECTED)

    @property
    def converters(self) -> dict[str, str]:
        """The packages that convert these files and their versions, which determine the documents."""
        return document_conversion.converter_versions(find_files(self.folder, DOCUMENTS)[0])

    def sources(self) -> list[Path]:
        """Also reads the questions, so that a problem in them is reported before anything is built.

        Files of other kinds are no sources: a picture next to the documents does not change the corpus.
        """
        folder = self.folder
        if not folder.is_dir():
            raise ConfigError(f"corpus.path: {folder} is a file; give {EXPECTED}")
        files = find_files(folder, DOCUMENTS)[0]
        if not files:
            raise ConfigError(f"corpus.path: {folder} contains no document; give {EXPECTED}")
        document_conversion.converter_versions(files)
        self.read_questions(folder, files)
        return list(self.named_sources.values())

    @property
    def named_sources(self) -> dict[str, Path]:
        """The files that are read by the ids of their documents, and the questions; not the folders above them."""
        named = {file_id(file, self.folder): file for file in find_files(self.folder, READ)[0]}
        return {**named, "corpus.questions": self.questions_file} if self.questions else named

    @property
    def questions_file(self) -> Path:
        return resolve_path(self.questions or "", "corpus.questions", "a JSONL file of questions")

    def read_questions(self, folder: Path, files: list[Path]) -> list[Question]:
        """Returns the questions. They may name a document by any of its paths, if there are links to it."""
        ids = [(file_id(file, folder), file) for file in files]
        check_distinct(ids)
        if not self.questions:
            return []
        return read_questions(self.questions_file, {name for name, _ in ids}, lambda name: real_id(folder, name, files))

    def read(self) -> CorpusContent:
        folder = self.folder
        files, skipped = find_files(folder, DOCUMENTS)
        questions, repeated = drop_repeated(self.read_questions(folder, files))
        if self.questions:  # in the same folder, they are no document that is left out
            skipped = [file for file in skipped if folder / file.file != self.questions_file]
        documents: list[Document] = []
        not_converted: list[ConversionLoss] = []
        problems: list[str] = []
        for file in files:
            document_id, lost = file_id(file, folder), Counter[str]()
            try:
                documents.append(Document(id=document_id, title=title_from_name(file), text=read_document(file, lost)))
                not_converted += [ConversionLoss(file=document_id, lost=dict(+lost))] if +lost else []
            except UnreadableFile as error:
                skipped.append(SkippedFile(file=document_id, reason=error.reason, detail=error.detail))
            except DataError as error:
                problems.append(str(error))
        if problems:
            raise list_problems(
                f"corpus.path: {len(problems):,} of {len(files):,} files cannot be read; save them as UTF-8 text, or "
                "move them out of the folder",
                problems,
            )
        content = CorpusContent(documents, questions, skipped=skipped, not_converted=not_converted)
        if repeated:
            content.leave_out(REPEATED, repeated)
        return content


def real_id(folder: Path, name: str, files: Iterable[Path]) -> str | None:
    """Returns the id of the document that a path leads to through links; None if there is none."""
    try:
        target = (folder / name).stat()
    except (OSError, ValueError):
        return None
    return next((file_id(file, folder) for file in files if os.path.samestat(file.stat(), target)), None)


def title_from_name(file: Path) -> str:
    return file.stem.replace("_", " ").replace("-", " ").strip() or file.stem


def read_document(file: Path, lost: Counter[str]) -> str:
    """Returns the text of a file; adds what is not converted to `lost`.

    Raises UnreadableFile, or DataError if a text file is not text.
    """
    try:
        if file.suffix.lower() in PLAIN_TEXT:
            return read_text(file)
        if is_pointer_file(file):
            raise UnreadableFile(POINTER)
        return document_conversion.convert_file(file, lost)
    except OSError as error:
        raise UnreadableFile("cannot be read", error.strerror or "") from None


def read_text(file: Path) -> str:
    data = file.read_bytes()
    if is_pointer(data):
        raise UnreadableFile(POINTER)
    try:
        text = decode_text(data)
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text at byte {error.start}") from None
    if text.count("\0") > MAX_NULL_CHARACTERS * len(text):
        raise DataError(f"{file}: a binary file")
    return text.strip()
