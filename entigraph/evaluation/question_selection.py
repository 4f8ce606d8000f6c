"""Which questions a multiple-choice task asks: of a corpus, a split of it, some of its titles, or a few drawn ones."""

import random
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.base import Source
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, Question

VALIDATION_SHARE = 0.2


class Titles(StrEnum):
    """The published code keeps a fifth of the documents, the first by title, for choosing settings, and reports the
    others (paper's repository, tasks/quality.py).
    """

    all = "all"
    validation = "validation"
    test = "test"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """`corpus` names whose questions: null for the run's own. `limit` draws that many, the same for every model.
    `evidence_parts` leaves those whose evidence is known and has at most so many parts.
    """

    corpus: str | None = runtime_field(None)
    split: str | None = None
    limit: int | None = None
    evidence_parts: int | None = None
    asks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"evaluation limit: {self.limit} found, at least 1 or null expected")
        if self.evidence_parts is not None and self.evidence_parts < 1:
            raise ConfigError(f"evaluation evidence_parts: {self.evidence_parts} found, at least 1 or null expected")

    @property
    def cache_key(self) -> dict[str, str]:
        return {}

    @property
    def asked(self) -> dict[str, Any]:
        """What decides which of its corpus's questions are asked."""
        own = {found.name: getattr(self, found.name) for found in fields(Asked) if found.name != "corpus"}
        return {**own, "titles": str(self.documents_asked)}

    @property
    def documents_asked(self) -> Titles:
        return Titles.all

    def questions(self, source: Source) -> list[Question]:
        """Raises DataError where there is none, or one whose answer is none of its choices."""
        found = list(read_jsonl(source.questions, Question))
        if self.split is not None:
            found = [question for question in found if question.split == self.split]
        if self.evidence_parts is not None:
            found = [question for question in found if 1 <= len(question.evidence) <= self.evidence_parts]
        found = of_titles(found, source, self.documents_asked)
        if self.limit is not None and self.limit < len(found):
            found = random.Random(f"limit/{self.limit}").sample(found, self.limit)
        for question in found:
            right = question.answer if isinstance(question.answer, list) else [question.answer]
            if not right or not all(0 <= number < len(question.choices) for number in right):
                raise DataError(f"{source.questions}: {question.id} has no choice number {question.answer}")
        if not found:
            raise DataError(
                f"{source.questions} holds no questions{f' of the split {self.split!r}' if self.split else ''}"
                f"{f' with evidence of at most {self.evidence_parts} parts' if self.evidence_parts else ''}; "
                "without questions there is no accuracy: give some (corpus.questions), have some written "
                "(questions=generated), or leave the task out (evaluation=none)"
            )
        return found


def of_titles(questions: list[Question], source: Source, titles: Titles) -> list[Question]:
    """Raises DataError for a question about a document that the corpus does not hold: it has no title."""
    if titles is Titles.all:
        return questions
    documents = {document.id: document.title for document in read_jsonl(source.documents, Document)}
    unknown = next((question for question in questions if question.document_id not in documents), None)
    if unknown:
        raise DataError(f"{source.questions}: {unknown.id} is about {unknown.document_id!r}, which has no title")
    asked = sorted({question.document_id for question in questions}, key=lambda each: (documents[each], each))
    first = set(asked[: int(len(asked) * VALIDATION_SHARE)])
    return [question for question in questions if (question.document_id in first) is (titles is Titles.validation)]
