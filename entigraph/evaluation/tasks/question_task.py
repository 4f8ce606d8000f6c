"""The base class of tasks on questions: selects the questions and stores the answers."""

import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from entigraph.errors import DataError
from entigraph.evaluation.base import (
    Backend,
    PassageLookup,
    RetrievedPassages,
    TaskInputs,
    hash_prompt,
    no_passages,
    retrieval_fields,
)
from entigraph.evaluation.tasks.base import EvaluationTask, TaskContext
from entigraph.storage.data_losses import DataLoss
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer, Document, Question, choice_set

VALIDATION_FRACTION = 0.2


class TitleSplit(StrEnum):
    """The split by title in the published code, which tunes on the first fifth of the documents, sorted by title, and
    reports results on the others (paper's repository, tasks/quality.py).
    """

    all = "all"
    validation = "validation"
    test = "test"


@dataclass(frozen=True, kw_only=True)
class QuestionTask(EvaluationTask):
    """A task on the questions of a corpus. `split` selects a split. `limit` samples that many questions, the same for
    every model. `evidence_parts` selects questions whose evidence is known and has at most that many parts.
    """

    split: str | None = None
    limit: int | None = None
    evidence_parts: int | None = None
    uses_questions: ClassVar[bool] = True
    measures_accuracy: ClassVar[bool] = True
    questions_per_call: ClassVar[int] = 512
    headline_keys: ClassVar[Sequence[str]] = ("accuracy", "questions", "total_questions", "parse_rate", "overflowed")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_minimum(limit=1, evidence_parts=1)

    def answers(
        self, questions: Sequence[Question], backend: Backend, look_up: PassageLookup = no_passages
    ) -> Iterator[Answer]:
        """Yields one answer per question as soon as it is available, including questions that exceed the context."""
        for batch in self.batches(questions):
            yield from self.answer_batch(batch, [look_up(question) for question in batch], backend)

    def batches(self, questions: Sequence[Question]) -> Iterator[Sequence[Question]]:
        """Yields the questions of each call to the backend."""
        for start in range(0, len(questions), self.questions_per_call):
            yield questions[start : start + self.questions_per_call]

    def answer_batch(
        self, questions: Sequence[Question], retrieved: Sequence[RetrievedPassages | None], backend: Backend
    ) -> Iterator[Answer]:
        """Yields the answers to the questions of one batch, each with the passages in its prompt."""
        raise NotImplementedError(f"{type(self).__name__}.answer_batch")

    @abstractmethod
    def score(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Returns `accuracy`, `stderr`, `questions` and `chance`, and the accuracy of each of the `groups`."""

    def passage_lookup(self, inputs: TaskInputs) -> PassageLookup:
        """Returns a function that maps a question to the passages in its prompt (None in closed-book tasks)."""
        return no_passages

    @property
    def title_split(self) -> TitleSplit:
        return TitleSplit.all

    @property
    def question_selection(self) -> dict[str, Any]:
        """Returns the settings that select the questions, and therefore the queries of the retrieval."""
        names = {each.name for each in fields(QuestionTask)} - {each.name for each in fields(EvaluationTask)}
        return {**{name: getattr(self, name) for name in sorted(names)}, "titles": str(self.title_split)}

    def evaluate(self, context: TaskContext) -> dict[str, Any]:
        questions = self.load_questions(context.inputs)

        def answer_missing(missing: set[str]) -> Iterator[Answer]:
            remaining = [question for question in questions if question.id in missing]
            return self.answers(remaining, context.backend(), self.passage_lookup(context.inputs))

        ids = [question.id for question in questions]
        file = context.write_records("answers", Answer, ids, answer_missing, id_field="question_id", unit="questions")
        return self.score_records(file)

    def score_records(self, file: Path) -> dict[str, Any]:
        """Returns the scores of stored answers with user-defined metrics, next to the task's own metrics if any."""
        scores, custom = self.score(list(read_without_texts(file))), self.compute_metric_scores(file, Answer)
        metrics = {**scores.get("metrics", {}), **custom.get("metrics", {})}
        return {**scores, "metrics": metrics} if metrics else scores

    def validate(self, inputs: TaskInputs) -> None:
        self.load_questions(inputs)

    def load_questions(self, inputs: TaskInputs) -> list[Question]:
        """Returns the selected questions. Raises DataError if there are none, or for a duplicate id or a question that
        the task cannot ask.
        """
        questions = list(read_jsonl(inputs.questions, Question))
        if self.split is not None:
            questions = [question for question in questions if question.split == self.split]
        if self.evidence_parts is not None:
            questions = [question for question in questions if 1 <= len(question.evidence) <= self.evidence_parts]
        questions = select_titles(questions, inputs, self.title_split)
        if self.limit is not None and self.limit < len(questions):
            questions = random.Random(f"limit/{self.limit}").sample(questions, self.limit)
        for question in questions:
            if problem := self.question_problem(question):
                raise DataError(f"{inputs.questions}: {question.id} {problem}")
        if not questions:
            raise DataError(
                f"{inputs.questions} contains no questions{f' of the split {self.split!r}' if self.split else ''}"
                f"{f' with evidence of at most {self.evidence_parts} parts' if self.evidence_parts else ''}; "
                "provide questions (corpus.questions), generate them (questions=generated), or remove the task "
                "(evaluation=none)"
            )
        if len({question.id for question in questions}) < len(questions):
            raise DataError(f"{inputs.questions} contains two questions with the same id; ids must be unique")
        return questions

    def question_problem(self, question: Question) -> str | None:
        """Returns why the task cannot ask a question, as the end of a sentence about it; None if it can."""
        if not question.choices:
            return "has no choices; this task is multiple choice, and evaluation=free_form asks for short answers"
        correct = choice_set(question.answer)
        if not correct or not all(0 <= index < len(question.choices) for index in correct):
            return f"has no choice number {question.answer}"
        return None

    def data_losses(self, scores: Mapping[str, Any]) -> Sequence[DataLoss]:
        total, overflowed = scores.get("total_questions", scores["questions"]), scores.get("overflowed", 0)
        unparsed = total - scores["over_parsed"]["questions"] - overflowed if "over_parsed" in scores else 0
        left_out = "left out" if scores["questions"] < total else "incorrect"
        return (
            DataLoss(f"prompts exceed the model's context (counted as {left_out})", overflowed, total),
            DataLoss(f"questions have no answer that can be parsed (counted as {left_out})", unparsed, total),
        )

    def describe(self, scores: Mapping[str, Any]) -> str:
        parsed = (
            f", {scores['parse_rate']:.1%} of {scores['total_questions']:,} answered" if "parse_rate" in scores else ""
        )
        return f"accuracy {scores['accuracy']:.3f} over {scores['questions']:,} questions{parsed}"


def select_titles(questions: list[Question], inputs: TaskInputs, split: TitleSplit) -> list[Question]:
    """Returns the questions of a title split. Raises DataError if a question's document is not in the corpus."""
    if split is TitleSplit.all:
        return questions
    titles = {document.id: document.title for document in read_jsonl(inputs.documents, Document)}
    unknown = next((question for question in questions if question.document_id not in titles), None)
    if unknown:
        raise DataError(f"{inputs.questions}: {unknown.id} is about {unknown.document_id!r}, which has no title")
    documents = sorted({question.document_id for question in questions}, key=lambda name: (titles[name], name))
    validation = set(documents[: int(len(documents) * VALIDATION_FRACTION)])
    in_validation = split is TitleSplit.validation
    return [question for question in questions if (question.document_id in validation) is in_validation]


def answer_fields(question: Question, prompt: str, retrieved: RetrievedPassages | None) -> dict[str, Any]:
    """Returns the fields of an Answer that are known before the model answers."""
    fields = {"question_id": question.id, "question": question.text, "prompt_hash": hash_prompt(prompt)}
    return {**fields, "document_id": question.document_id, "group": question.group, **retrieval_fields(retrieved)}


def read_without_texts(file: Path) -> Iterator[Answer]:
    """Yields answers without texts and passages, which scoring does not need and which may not fit into memory."""
    for answer in read_jsonl(file, Answer):
        yield Answer(**{**vars(answer), "texts": (), "passages": ()})
