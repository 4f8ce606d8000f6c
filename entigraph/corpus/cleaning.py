"""Cleans what a reader returns: normalizes documents and questions, and leaves out empty and equal documents."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from entigraph.corpus.base import CorpusContent
from entigraph.errors import DataError
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Document, DuplicateDocument, Question, SkippedFile
from entigraph.text.normalization import fold_whitespace, is_blank, normalize_line, normalize_text

VERSION = 5  # enters the cache key of a corpus: increment it when the output of readers or converters changes
NO_TEXT = "no text in it"
DUPLICATES = "duplicates.jsonl"
OPENING_WORDS, OPENING_CHARACTERS = 16, 64


class Cleaner:
    """Cleans the content of one corpus.

    Attributes:
        changes: The normalized characters by kind.
        duplicates: The documents that are equal to an earlier one.
        questions_skipped: The questions about documents that are left out.
        questions_merged: The questions about duplicates that their originals have too.
    """

    def __init__(self, content: CorpusContent) -> None:
        self.content = content
        self.changes: Counter[str] = content.changes
        self.duplicates: list[DuplicateDocument] = []
        self.questions_skipped = self.questions_merged = 0
        self.counts = {"documents": 0, "characters": 0}
        self.titles: Counter[str] = Counter()
        self.openings: set[int] = set()
        self.repeated_openings: set[int] = set()

    def write_documents(self, file: Path) -> dict[str, int]:
        """Writes the documents; returns their number and that of their characters.

        Raises DataError if two have the same id.
        """
        write_jsonl(file, self.documents())
        if self.repeated_openings:  # few texts begin alike, and only those are compared
            write_jsonl(file, self.merge_duplicates(read_jsonl(file, Document)))
        repeated_titles = {title for title, count in self.titles.items() if title and count > 1}
        if repeated_titles:
            write_jsonl(file, distinguish_titles(read_jsonl(file, Document), repeated_titles))
        return self.counts

    def documents(self) -> Iterator[Document]:
        """Yields the documents that have a text, and notes which begin alike."""
        known: set[str] = set()
        for document in map(self.normalize_document, self.content.documents):
            if document.id in known:
                raise DataError(f"two documents have the id {document.id!r}; ids must be unique")
            known.add(document.id)
            if is_blank(document.text):
                self.content.skipped.append(SkippedFile(file=document.id, reason=NO_TEXT))
                continue
            opening = hash_opening(document.text)
            if opening in self.openings:
                self.repeated_openings.add(opening)
            self.openings.add(opening)
            self.count(document, 1)
            yield document

    def merge_duplicates(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Yields the documents without those that have the words of an earlier one."""
        originals: dict[bytes, str] = {}
        for document in documents:
            if hash_opening(document.text) in self.repeated_openings:
                content = sha256(fold_whitespace(document.text).encode()).digest()
                original = originals.setdefault(content, document.id)
                if original != document.id:
                    self.duplicates.append(DuplicateDocument(id=document.id, original_id=original))
                    self.count(document, -1)
                    continue
            yield document

    def count(self, document: Document, change: int) -> None:
        self.counts["documents"] += change
        self.counts["characters"] += change * len(document.text)
        self.titles[document.title] += change

    def normalize_document(self, document: Document) -> Document:
        """Returns the document itself if it is clean."""
        text, document_id = normalize_text(document.text, self.changes), normalize_line(document.id, self.changes)
        title = document_id if document.title == document.id else normalize_line(document.title, self.changes)
        meta = {key: normalize_line(value, self.changes) for key, value in document.meta.items()}
        if text is document.text and document_id is document.id and title == document.title and meta == document.meta:
            return document
        return replace(document, text=text, id=document_id, title=title, meta=meta)

    def questions(self) -> list[Question]:
        """Returns the questions, those about a duplicate as questions about its original, after `write_documents`.

        Raises DataError if two have the same id.
        """
        skipped = {file.file for file in self.content.skipped}
        originals = {duplicate.id: duplicate.original_id for duplicate in self.duplicates}
        questions = [self.normalize_question(question) for question in self.content.questions]
        ids = Counter(question.id for question in questions)
        if repeated := next((question_id for question_id, count in ids.items() if count > 1), None):
            raise DataError(f"two questions have the id {repeated!r}; ids must be unique")
        kept = [question for question in questions if question.document_id not in skipped]
        self.questions_skipped = len(questions) - len(kept)
        known = {question_content(question) for question in kept if question.document_id not in originals}
        merged: list[Question] = []
        for question in kept:
            if question.document_id in originals:
                question = replace(question, document_id=originals[question.document_id])
                if question_content(question) in known:
                    self.questions_merged += 1
                    continue
                known.add(question_content(question))
            merged.append(question)
        return merged

    def normalize_question(self, question: Question) -> Question:
        changes: Counter[str] = Counter()
        cleaned = replace(
            question,
            id=normalize_line(question.id, changes),
            document_id=normalize_line(question.document_id, changes),
            text=normalize_text(question.text, changes),
            choices=[normalize_text(choice, changes) for choice in question.choices],
            accepted=[normalize_text(answer, changes) for answer in question.accepted],
            evidence=[normalize_text(part, changes) for part in question.evidence],
        )
        self.changes.update(changes)
        return cleaned if changes else question


def question_content(question: Question) -> tuple[Any, ...]:
    """Returns what makes two questions equal."""
    answers = (tuple(question.choices), str(question.answer), tuple(question.accepted))
    return question.document_id, question.text, *answers


def distinguish_titles(documents: Iterable[Document], repeated: Collection[str]) -> Iterator[Document]:
    """Yields the documents with their ids in titles that several have."""
    for document in documents:
        title = f"{document.title} ({document.id})" if document.title in repeated else document.title
        yield replace(document, title=title)


def hash_opening(text: str) -> int:
    """Returns a number that is equal for texts that differ only in whitespace, and different for most others."""
    return hash("".join(text.split(None, OPENING_WORDS)[:OPENING_WORDS])[:OPENING_CHARACTERS])
