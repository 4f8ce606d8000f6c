"""The loss of the accepted answer after the question: a smooth metric for models that rarely generate it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.evaluation.base import Backend, TaskInputs
from entigraph.evaluation.metrics import compute_metrics
from entigraph.evaluation.tasks.base import EvaluationTask, TaskContext
from entigraph.evaluation.tasks.free_form import FreeForm
from entigraph.storage.data_losses import DataLoss
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import AnswerLikelihood, Question

PAIRS_PER_CALL = 512  # (prompt, answer) pairs per call of `Backend.loglikelihoods`, which sorts them by length


@dataclass(frozen=True, kw_only=True)
class AnswerLoss(EvaluationTask):
    """The log-likelihood of the accepted answer as a continuation of the prompt of `free_form`; with several
    accepted answers, the most likely one counts. `limit` and `split` select questions as in `free_form`.
    """

    split: str | None = None
    limit: int | None = None
    examples: str | None = "five_short_answers"
    prompt: str = "Question: {question}\nAnswer:"
    batch_tokens: int = runtime_field(8_192)
    uses_questions: ClassVar[bool] = True
    needs_likelihoods: ClassVar[bool] = True
    headline_keys: ClassVar[Sequence[str]] = ("nats_per_answer", "questions")

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.free_form  # validates the shared settings

    @property
    def free_form(self) -> FreeForm:
        """Returns the task that selects the questions and writes the prompts."""
        return FreeForm(split=self.split, limit=self.limit, examples=self.examples, prompt=self.prompt)

    @property
    def cache_key(self) -> dict[str, Any]:
        return self.free_form.cache_key

    def validate(self, inputs: TaskInputs) -> None:
        self.free_form.load_questions(inputs)

    def evaluate(self, context: TaskContext) -> dict[str, Any]:
        """Writes the likelihood of each answer to likelihoods-TASK.jsonl."""
        questions = self.free_form.load_questions(context.inputs)

        def score_missing(missing: set[str]) -> Iterator[AnswerLikelihood]:
            remaining = [question for question in questions if question.id in missing]
            return self.score_questions(remaining, context.backend())

        ids = [question.id for question in questions]
        file = context.write_records(
            "likelihoods", AnswerLikelihood, ids, score_missing, id_field="question_id", unit="questions"
        )
        records = list(read_jsonl(file, AnswerLikelihood))
        scores = summarize_likelihoods(records)
        return {**scores, "metrics": {**scores["metrics"], **compute_metrics(self.metrics, records)}}

    def score_questions(self, questions: Sequence[Question], backend: Backend) -> Iterator[AnswerLikelihood]:
        task = self.free_form
        pairs = [(q, task.build_prompt(q), f" {text}") for q in questions for text in q.accepted_answers]
        scores: dict[str, list[tuple[float | None, str]]] = {}
        expected = {question.id: len(question.accepted_answers) for question in questions}
        for start in range(0, len(pairs), PAIRS_PER_CALL):
            batch = pairs[start : start + PAIRS_PER_CALL]
            for index, score in backend.loglikelihoods([pair[1:] for pair in batch], self.batch_tokens):
                question, _, text = batch[index]
                scores.setdefault(question.id, []).append((score, text))
                if len(scores[question.id]) == expected[question.id]:
                    yield build_likelihood(question, scores.pop(question.id))

    def data_losses(self, scores: Mapping[str, Any]) -> Sequence[DataLoss]:
        total = scores["questions"] + scores["overflowed"]
        return (DataLoss("prompts exceed the model's context (left out)", scores["overflowed"], total),)

    def describe(self, scores: Mapping[str, Any]) -> str:
        return (
            f"{scores['nats_per_answer']:.3f} nats per accepted answer, {scores['bits_per_byte']:.3f} bits per byte "
            f"over {scores['questions']:,} questions"
        )


def build_likelihood(question: Question, scores: Sequence[tuple[float | None, str]]) -> AnswerLikelihood:
    """Returns the record of the most likely answer. `nats` is None if every answer exceeds the context."""
    known = [(score, text) for score, text in scores if score is not None]
    best, text = max(known, default=(None, scores[0][1]))
    return AnswerLikelihood(
        question_id=question.id,
        document_id=question.document_id,
        nats=None if best is None else -best,
        bytes=len(text.encode()),
    )


def summarize_likelihoods(records: Sequence[AnswerLikelihood]) -> dict[str, Any]:
    scored = [(record.nats, record.bytes) for record in records if record.nats is not None]
    nats, size = sum(nats for nats, _ in scored), sum(size for _, size in scored)
    per_answer, bits = nats / max(1, len(scored)), nats / max(1, size) / log(2)
    return {
        "nats_per_answer": per_answer,
        "bits_per_byte": bits,
        "questions": len(scored),
        "overflowed": len(records) - len(scored),
        "metrics": {"nats_per_answer": per_answer},
    }
