"""Perplexity on a text corpus. If it rises on general text after training, the model has forgotten something.

A document longer than the context is scored in sliding windows of `context` tokens with a stride of `stride` tokens.
Every token is scored once, in the first window that contains it. It is conditioned on all preceding tokens in the
first window, and on at least `context - stride` of them in later windows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import TYPE_CHECKING, Any, ClassVar, cast

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.base import ScoredSequence, TaskInputs, sample_documents
from entigraph.evaluation.tasks.base import EvaluationTask, TaskContext
from entigraph.storage.data_losses import count_of
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, DocumentLoss

if TYPE_CHECKING:
    from entigraph.evaluation.backends.local_backend import LocalBackend

DEFAULT_CONTEXT = 2_048
MAX_EXPONENT = 700.0  # exp of more overflows


@dataclass(frozen=True, kw_only=True)
class Perplexity(EvaluationTask):
    """Perplexity on the documents of `corpus`, by default the run's documents, which its training texts are about.

    `limit` samples that many documents, the same for every model. `context` defaults to the training context length in
    conf/evaluation, else to 2,048, and is capped at the model's maximum, with which a long document can take many
    gigabytes. `stride` defaults to half the context.
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
            raise ConfigError(f"evaluation stride must be at most the context of {self.context}, got {self.stride}")

    def evaluate(self, context: TaskContext) -> dict[str, Any]:
        """Writes each document's loss to losses-TASK.jsonl."""
        ids = self.document_ids(context.inputs)

        def compute_missing(missing: set[str]) -> Iterator[DocumentLoss]:
            documents = read_jsonl(context.inputs.documents, Document)
            remaining = (document for document in documents if document.id in missing)
            return self.compute_losses(remaining, cast("LocalBackend", context.backend()))

        file = context.write_records(
            "losses", DocumentLoss, ids, compute_missing, id_field="document_id", unit="documents"
        )
        return {**total_loss(list(read_jsonl(file, DocumentLoss))), **self.compute_metric_scores(file, DocumentLoss)}

    def validate(self, inputs: TaskInputs) -> None:
        self.document_ids(inputs)

    def document_ids(self, inputs: TaskInputs) -> list[str]:
        """Returns the ids of the documents to score, in corpus order. Raises DataError if there are none."""
        ids = [document.id for document in read_jsonl(inputs.documents, Document)]
        if not ids:
            raise DataError(f"{inputs.documents} contains no documents; choose another corpus, or remove the task")
        selected = sample_documents(self.limit, ids)
        return [document_id for document_id in ids if document_id in selected]

    def compute_losses(self, documents: Iterable[Document], backend: "LocalBackend") -> Iterator[DocumentLoss]:
        """Yields one loss per document, in order. Only a few documents are in memory at a time."""
        pending: list[tuple[Document, int, list[ScoredSequence]]] = []
        tokens = 0
        for document in documents:
            ids = backend.encode(document.text)
            windows = self.build_windows(ids, backend.max_length)
            pending.append((document, len(ids) - len(backend.bos), windows))
            tokens += sum(len(window.ids) for window in windows)
            if tokens >= self.batch_tokens:
                yield from self.score_documents(pending, backend)
                pending, tokens = [], 0
        yield from self.score_documents(pending, backend)

    def build_windows(self, ids: Sequence[int], max_length: int) -> list[ScoredSequence]:
        """Returns the sliding windows over a document's token ids."""
        context = min(self.context or DEFAULT_CONTEXT, max_length)
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
        loglikelihoods = iter([score for _, score in sorted(backend.score(sequences, self.batch_tokens))])
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
            f"{count_of(scores['tokens'], 'token')} of {count_of(scores['documents'], 'document')}"
        )


def total_loss(losses: Sequence[DocumentLoss]) -> dict[str, Any]:
    """Returns the loss over all documents. `unscored` counts the first tokens of documents that have no BOS token."""
    nats, tokens, size = (sum(getattr(loss, key) for loss in losses) for key in ("nats", "tokens", "bytes"))
    per_token, per_byte = nats / max(1, tokens), nats / max(1, size) / log(2)
    return {
        "nats_per_token": per_token,
        "perplexity": exp(min(per_token, MAX_EXPONENT)),
        "bits_per_byte": per_byte,
        "bits_per_byte_stderr": ratio_stderr([(loss.nats / log(2), loss.bytes) for loss in losses], per_byte),
        "documents": len(losses),
        "tokens": tokens,
        "unscored": sum(loss.unscored for loss in losses),
        "bytes": size,
    }


def ratio_stderr(parts: Sequence[tuple[float, float]], ratio: float) -> float | None:
    """Returns the standard error of a ratio of sums over independent documents; None for fewer than two documents."""
    count, total = len(parts), sum(denominator for _, denominator in parts)
    if count < 2 or not total:
        return None
    squares = sum((numerator - ratio * denominator) ** 2 for numerator, denominator in parts)
    return sqrt(count / (count - 1) * squares) / total
