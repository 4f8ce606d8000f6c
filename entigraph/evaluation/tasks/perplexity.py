"""Perplexity on a text corpus before and after training: a model forgets if it rises on general text.

A document longer than the context is read in windows of `context` tokens, each starting `stride` tokens after the one
before. Every token is scored once, in the first window that contains it: at the beginning of a document given all
tokens before it, later given at least `context - stride` of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import TYPE_CHECKING, Any, ClassVar, cast

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.base import ScoredSequence, TaskInputs, sample_documents
from entigraph.evaluation.tasks.base import EvaluationTask, TaskContext
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, DocumentLoss

if TYPE_CHECKING:
    from entigraph.evaluation.backends.local_backend import LocalBackend

LARGEST_EXPONENT = 700.0  # exp of more overflows


@dataclass(frozen=True, kw_only=True)
class Perplexity(EvaluationTask):
    """Over the documents of `corpus`; the run's own documents are those it is trained on.

    `limit` samples that many documents, the same for every model. `context` is null for the model's whole context and
    never exceeds it; `stride` is null for half the context.
    """

    limit: int | None = None
    context: int | None = None
    stride: int | None = None
    batch_tokens: int = runtime_field(8_192)
    needs_likelihoods: ClassVar[bool] = True
    headline_keys: ClassVar[Sequence[str]] = ("nats_per_token", "bits_per_byte", "documents", "tokens")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_minimum(limit=1, context=2, stride=1, batch_tokens=1)
        if self.context and self.stride and self.stride > self.context:
            raise ConfigError(f"evaluation stride: {self.stride} found, at most the context of {self.context} expected")

    def evaluate(self, context: TaskContext) -> dict[str, Any]:
        """Writes each document's loss to losses-TASK.jsonl."""
        ids = self.document_ids(context.inputs)

        def compute_missing(missing: set[str]) -> Iterator[DocumentLoss]:
            documents = (each for each in read_jsonl(context.inputs.documents, Document) if each.id in missing)
            return self.losses(documents, cast("LocalBackend", context.backend()))

        file = context.write_records(
            "losses", DocumentLoss, ids, compute_missing, id_field="document_id", unit="documents"
        )
        return {**total_loss(list(read_jsonl(file, DocumentLoss))), **self.metric_scores(file, DocumentLoss)}

    def validate(self, inputs: TaskInputs) -> None:
        self.document_ids(inputs)

    def document_ids(self, inputs: TaskInputs) -> list[str]:
        """Returns the ids of the documents to score, in corpus order. Raises DataError if there are none."""
        ids = [document.id for document in read_jsonl(inputs.documents, Document)]
        if not ids:
            raise DataError(f"{inputs.documents} holds no documents; give another corpus, or leave the task out")
        selected = sample_documents(self.limit, ids)
        return [each for each in ids if each in selected]

    def losses(self, documents: Iterable[Document], backend: "LocalBackend") -> Iterator[DocumentLoss]:
        """Yields one loss per document, in order; holds few documents in memory."""
        pending: list[tuple[Document, int, list[ScoredSequence]]] = []
        tokens = 0
        for document in documents:
            ids = backend.encode(document.text)
            windows = self.windows(ids, backend.max_length)
            pending.append((document, len(ids) - len(backend.bos), windows))
            tokens += sum(len(window.ids) for window in windows)
            if tokens >= 4 * self.batch_tokens:
                yield from self.score_documents(pending, backend)
                pending, tokens = [], 0
        yield from self.score_documents(pending, backend)

    def windows(self, ids: Sequence[int], max_length: int) -> list[ScoredSequence]:
        context = min(self.context or max_length, max_length)
        stride = min(self.stride or max(1, context // 2), context)
        windows, scored = [], 1  # nothing precedes the first id
        for start in range(0, len(ids), stride):
            end = min(start + context + 1, len(ids))  # the last id is predicted, not read
            if end > scored:
                windows.append(ScoredSequence(ids[start:end], scored - start))
                scored = end
        return windows

    def score_documents(
        self, pending: Sequence[tuple[Document, int, list[ScoredSequence]]], backend: "LocalBackend"
    ) -> Iterator[DocumentLoss]:
        sequences = [window for _, _, windows in pending for window in windows]
        loglikelihoods = iter(backend.score(sequences, self.batch_tokens))
        for document, tokens, windows in pending:
            scored = sum(len(window.ids) - window.first for window in windows)
            yield DocumentLoss(
                document_id=document.id,
                nats=sum(-next(loglikelihoods) for _ in windows),
                tokens=scored,
                unscored=tokens - scored,
                bytes=len(document.text.encode()),
            )

    def describe(self, scores: Mapping[str, Any]) -> str:
        return (
            f"{scores['nats_per_token']:.4f} nats per token, {scores['bits_per_byte']:.4f} bits per byte over "
            f"{scores['tokens']:,} tokens of {scores['documents']:,} documents"
        )


def total_loss(losses: Sequence[DocumentLoss]) -> dict[str, Any]:
    """Returns the loss over all documents. `unscored` counts first tokens of a document without a beginning token."""
    nats, tokens, size = (sum(getattr(loss, key) for loss in losses) for key in ("nats", "tokens", "bytes"))
    per_token, per_byte = nats / max(1, tokens), nats / max(1, size) / log(2)
    return {
        "nats_per_token": per_token,
        "perplexity": exp(min(per_token, LARGEST_EXPONENT)),
        "bits_per_byte": per_byte,
        "bits_per_byte_stderr": ratio_stderr([(loss.nats / log(2), loss.bytes) for loss in losses], per_byte),
        "documents": len(losses),
        "tokens": tokens,
        "unscored": sum(loss.unscored for loss in losses),
        "bytes": size,
    }


def ratio_stderr(parts: Sequence[tuple[float, float]], ratio: float) -> float | None:
    """Returns the standard error of a ratio of sums over independent documents; None for fewer than two."""
    count, total = len(parts), sum(denominator for _, denominator in parts)
    if count < 2 or not total:
        return None
    squares = sum((numerator - ratio * denominator) ** 2 for numerator, denominator in parts)
    return sqrt(count / (count - 1) * squares) / total
