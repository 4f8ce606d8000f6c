"""How well a model foretells a text corpus, before and after training: what it forgets shows in text to be replayed.

A document that is longer than the context is read in windows of `context` tokens, each beginning `stride` tokens after
the one before it. Every token is scored once, in the first window that holds it: at the beginning of a document after
all tokens before it, further on after at least `context - stride` of them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path
from typing import Any, ClassVar, cast

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.base import Engine, LossEngine, Source, Window, within
from entigraph.runtime.progress import Progress
from entigraph.storage.artifact import CHECKPOINTS
from entigraph.storage.jsonl import ResumableJsonLines, read_jsonl, write_jsonl
from entigraph.storage.schemas import Document, DocumentLoss


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """Over the documents of `corpus`, a corpus folder (null: the run's own documents, which it is trained to know).

    `limit` draws that many documents, the same ones for every model. `context` is null for all that the model has, and
    never more; `stride` is null for half of it.
    """

    corpus: str | None = runtime_field(None)
    limit: int | None = None
    context: int | None = None
    stride: int | None = None
    batch_tokens: int = runtime_field(8_192)
    needs_likelihoods: ClassVar[bool] = True
    asks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for key, least in (("limit", 1), ("context", 2), ("stride", 1), ("batch_tokens", 1)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise ConfigError(f"evaluation {key}: {value} found, {least} or more, or null, expected")
        if self.context and self.stride and self.stride > self.context:
            raise ConfigError(f"evaluation stride: {self.stride} found, at most the context of {self.context} expected")

    @property
    def cache_key(self) -> dict[str, str]:
        return {}

    def measured(
        self, name: str, source: Source, engine: Callable[[], Engine], out: Path, progress: Progress
    ) -> dict[str, Any]:
        """Its losses by document go to losses-<task>.jsonl; those from before a kill are kept."""
        names = self.documents(source)
        kept = ResumableJsonLines(out / CHECKPOINTS / f"losses-{name}.jsonl", DocumentLoss, "document_id")
        wanted = {each for each in names if each not in kept}
        if wanted:
            todo = (document for document in read_jsonl(source.documents, Document) if document.id in wanted)
            with kept, progress.bar("evaluation", len(names), "documents") as advance:
                advance(len(names) - len(wanted))
                for loss in self.losses(todo, cast(LossEngine, engine())):
                    kept.write(loss)
                    advance(1)
        write_jsonl(out / f"losses-{name}.jsonl", (kept.read(each) for each in names))
        return scored(list(read_jsonl(out / f"losses-{name}.jsonl", DocumentLoss)))

    def documents(self, source: Source) -> list[str]:
        """The ids of those that are read, in the order of the corpus. Raises DataError where there is none."""
        names = [document.id for document in read_jsonl(source.documents, Document)]
        if not names:
            raise DataError(f"{source.documents} holds no documents; give another corpus, or leave the task out")
        chosen = within(self.limit, names)
        return [name for name in names if name in chosen]

    def losses(self, documents: Iterable[Document], engine: LossEngine) -> Iterator[DocumentLoss]:
        """One for each document, in their order; of few documents at once."""
        waiting: list[tuple[Document, int, list[Window]]] = []
        tokens = 0
        for document in documents:
            ids, unpredicted = engine.encoded(document.text)
            windows = self.windows(ids, engine.positions)
            waiting.append((document, len(ids) - 1 + unpredicted, windows))
            tokens += sum(len(window.ids) for window in windows)
            if tokens >= 4 * self.batch_tokens:
                yield from self.scored_together(waiting, engine)
                waiting, tokens = [], 0
        yield from self.scored_together(waiting, engine)

    def windows(self, ids: Sequence[int], positions: int) -> list[Window]:
        context = min(self.context or positions, positions)
        stride = min(self.stride or max(1, context // 2), context)
        found, scored = [], 1  # nothing stands before the first id
        for start in range(0, len(ids), stride):
            end = min(start + context + 1, len(ids))  # the last id is foretold, not read
            if end > scored:
                found.append(Window(ids[start:end], scored - start))
                scored = end
        return found

    def scored_together(
        self, waiting: Sequence[tuple[Document, int, list[Window]]], engine: LossEngine
    ) -> Iterator[DocumentLoss]:
        losses = iter(engine.losses([window for _, _, own in waiting for window in own], self.batch_tokens))
        for document, tokens, own in waiting:
            nats = sum(next(losses) for _ in own)
            scored = sum(len(window.ids) - window.first for window in own)
            yield DocumentLoss(
                document_id=document.id,
                nats=nats,
                tokens=scored,
                unscored=tokens - scored,
                bytes=len(document.text.encode()),
            )


def scored(losses: Sequence[DocumentLoss]) -> dict[str, Any]:
    """Totals over all documents. `unscored` tokens are firsts of a text before which nothing stands."""
    nats, tokens, size = (sum(getattr(loss, key) for loss in losses) for key in ("nats", "tokens", "bytes"))
    per_token, per_byte = nats / max(1, tokens), nats / max(1, size) / log(2)
    return {
        "nats_per_token": per_token,
        "perplexity": exp(min(per_token, 700.0)),
        "bits_per_byte": per_byte,
        "bits_per_byte_stderr": ratio_error([(loss.nats / log(2), loss.bytes) for loss in losses], per_byte),
        "documents": len(losses),
        "tokens": tokens,
        "unscored": sum(loss.unscored for loss in losses),
        "bytes": size,
    }


def ratio_error(parts: Sequence[tuple[float, float]], ratio: float) -> float | None:
    """The standard error of a ratio of sums over independent documents; None of fewer than two."""
    count, total = len(parts), sum(below for _, below in parts)
    if count < 2 or not total:
        return None
    return sqrt(count / (count - 1) * sum((above - ratio * below) ** 2 for above, below in parts)) / total
