"""The loss on each statement of the documents: what a model knows about them, sentence by sentence."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import TYPE_CHECKING, Any, ClassVar, cast

from entigraph.config.fields import runtime_field
from entigraph.errors import DataError
from entigraph.evaluation.base import TaskInputs
from entigraph.evaluation.tasks.base import EvaluationTask, TaskContext
from entigraph.storage.data_losses import DataLoss, count_of
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, ScoredStatement
from entigraph.text.writing_systems import split_statements

if TYPE_CHECKING:
    from entigraph.evaluation.backends.local_backend import LocalBackend

STATEMENTS_PER_CALL = 512  # per call of `Backend.loglikelihoods`, which sorts them by length


@dataclass(frozen=True, kw_only=True)
class StatementLoss(EvaluationTask):
    """The loss on each sentence or line of the documents, after the title and up to `context` preceding statements.

    The preceding statements resolve its pronouns. EntiGraph's adaptive selection reads these losses.
    """

    context: int = 1
    batch_tokens: int = runtime_field(8_192)
    needs_likelihoods: ClassVar[bool] = True
    headline_keys: ClassVar[Sequence[str]] = ("bits_per_byte", "statements", "tokens")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_minimum(context=0, batch_tokens=1)

    def validate(self, inputs: TaskInputs) -> None:
        if not any(True for _ in self.prompts(inputs)):
            raise DataError(f"{inputs.documents} contains no statements; choose another corpus, or remove the task")

    def prompts(self, inputs: TaskInputs) -> Iterator[tuple[ScoredStatement, str]]:
        """Yields each statement, without its loss, and the text before it."""
        for document in read_jsonl(inputs.documents, Document):
            statements = split_statements(document.text)
            for index, text in enumerate(statements):
                preceding = " ".join([document.title, *statements[max(0, index - self.context) : index]])
                yield ScoredStatement(id=f"{document.id}/{index}", document_id=document.id, text=text), preceding

    def evaluate(self, context: TaskContext) -> dict[str, Any]:
        """Writes the statements and their losses to statements-TASK.jsonl."""
        pairs = list(self.prompts(context.inputs))

        def score_missing(missing: set[str]) -> Iterator[ScoredStatement]:
            backend = cast("LocalBackend", context.backend())  # others compute no likelihoods
            return self.score([pair for pair in pairs if pair[0].id in missing], backend)

        file = context.write_records(
            "statements",
            ScoredStatement,
            [statement.id for statement, _ in pairs],
            score_missing,
            id_field="id",
            unit="statements",
        )
        scored = [statement for statement in read_jsonl(file, ScoredStatement) if statement.nats is not None]
        nats, size = sum(statement.nats or 0.0 for statement in scored), sum(len(s.text.encode()) for s in scored)
        bits = nats / max(1, size) / log(2)
        return {
            "bits_per_byte": bits,
            "statements": len(scored),
            "overflowed": len(pairs) - len(scored),
            "tokens": sum(statement.tokens for statement in scored),
            "metrics": {"bits_per_byte": bits, **self.compute_metric_scores(file, ScoredStatement).get("metrics", {})},
        }

    def score(self, pairs: Sequence[tuple[ScoredStatement, str]], backend: "LocalBackend") -> Iterator[ScoredStatement]:
        for start in range(0, len(pairs), STATEMENTS_PER_CALL):
            batch = pairs[start : start + STATEMENTS_PER_CALL]
            texts = [(preceding, f" {statement.text}") for statement, preceding in batch]
            for index, score in backend.loglikelihoods(texts, self.batch_tokens):
                tokens = len(backend.encode_pair(*texts[index]).ids)
                yield replace(batch[index][0], nats=None if score is None else -score, tokens=tokens)

    def data_losses(self, scores: Mapping[str, Any]) -> Sequence[DataLoss]:
        total = scores["statements"] + scores["overflowed"]
        return (DataLoss("statements exceed the model's context (left out)", scores["overflowed"], total),)

    def describe(self, scores: Mapping[str, Any]) -> str:
        return f"{scores['bits_per_byte']:.3f} bits per byte over {count_of(scores['statements'], 'statement')}"
