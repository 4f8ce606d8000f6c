"""Cleans what a reader returns: normalizes documents and questions, and leaves out empty and equal documents."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from entigraph.corpus.base import CorpusContent
from entigraph.errors import DataError
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Document, DuplicateDocument, Question, SkippedFile
from entigraph.text.normalization import fold_whitespace, is_blank, normalize_line, normalize_text

VERSION = 1  # enters the cache key of a corpus: increment it when documents or questions change
NO_TEXT = "no text in it"
DUPLICATES = "duplicates.jsonl"


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
        self.originals: dict[bytes, str] = {}
        self.questions_skipped = self.questions_merged = 0

    def documents(self) -> Iterator[Document]:
        """Yields the documents of the corpus. Raises DataError if two have the same id."""
        known: set[str] = set()
        for document in map(self.normalize_document, self.content.documents):
            if document.id in known:
                raise DataError(f"two documents have the id {document.id!r}; ids must be unique")
            known.add(document.id)
            if is_blank(document.text):
                self.content.skipped.append(SkippedFile(file=document.id, reason=NO_TEXT))
                continue
            folded = fold_whitespace(document.text).encode()
            original = self.originals.setdefault(blake2b(folded, digest_size=16).digest(), document.id)
            if original != document.id:
                self.duplicates.append(DuplicateDocument(id=document.id, original_id=original))
                continue
            yield document

    def normalize_document(self, document: Document) -> Document:
        text = normalize_text(document.text, self.changes)
        identity, title = (normalize_line(name, self.changes) for name in (document.id, document.title))
        meta = {key: normalize_line(value, self.changes) for key, value in document.meta.items()}
        if (text, identity, title, meta) == (document.text, document.id, document.title, document.meta):
            return document
        return replace(document, text=text, id=identity, title=title, meta=meta)

    def questions(self) -> list[Question]:
        """Returns the questions, those about a duplicate as questions about its original. Call it after `documents`."""
        skipped = {file.file for file in self.content.skipped}
        originals = {duplicate.id: duplicate.original_id for duplicate in self.duplicates}
        questions = [self.normalize_question(question) for question in self.content.questions]
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


def distinguish_titles(file: Path, titles: Counter[str]) -> None:
    """Adds the id to the titles of a documents file that occur more than once."""
    repeated = {title for title, count in titles.items() if title and count > 1}
    if repeated:
        documents = read_jsonl(file, Document)
        write_jsonl(
            file,
            (
                replace(document, title=f"{document.title} ({document.id})") if document.title in repeated else document
                for document in documents
            ),
        )
