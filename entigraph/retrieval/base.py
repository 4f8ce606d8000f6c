"""The base class of retrievers: rank passages for each query.

A retriever is any class with `rank`, from this package or the user's:

    # my_package/retrieval.py
    @dataclass(frozen=True, kw_only=True)
    class SharedWords(Retriever):
        def rank(self, texts: Sequence[str], queries: Sequence[str], context: RetrievalContext) -> Iterator[Ranked]:
            for query in queries:
                words = set(query.lower().split())
                scores = np.array([len(words & set(text.lower().split())) for text in texts], dtype=np.float32)
                yield [(index, float(scores[index])) for index in top_indices(scores, self.depth)]

    entigraph run retriever._target_=my_package.retrieval.SharedWords evaluation=[open_book]
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from entigraph.config.fields import check_positive
from entigraph.llm.response_cache import ResponseCache
from entigraph.retrieval.embedding_cache import EmbeddingCache, Vector
from entigraph.retrieval.passages import SEPARATORS
from entigraph.runtime.progress import SILENT, Progress
from entigraph.storage.schemas import Question

Ranked = list[tuple[int, float]]  # indices of texts with their scores, best first
Result = TypeVar("Result")


class RetrievalCost(NamedTuple):
    """An upper bound on what endpoints charge: tokens to embed, searches to rerank, dollars."""

    tokens: float
    searches: int
    dollars: float


@dataclass(frozen=True)
class RetrievalContext:
    """Inputs of a retriever besides texts and queries. `spending` records payments to endpoints; None if all are free.

    `counts`, such as the number of texts that a model truncated, are added to the manifest.
    """

    embeddings: EmbeddingCache
    spending: ResponseCache | None
    counts: dict[str, Any] = field(default_factory=dict)
    progress: Progress = SILENT


@dataclass(frozen=True, kw_only=True)
class Retriever(ABC):
    """Documents are split into passages of at most `characters` characters at `separators`, in order of preference.
    `depth` is the number of ranked passages per question; evaluations use the first of them. With `with_choices`,
    queries include the choices of the question.
    """

    characters: int = 1024
    separators: list[str] = field(default_factory=lambda: list(SEPARATORS))
    with_choices: bool = True
    depth: int = 128

    def __post_init__(self) -> None:
        check_positive(self, "retriever", "characters", "depth")

    @abstractmethod
    def rank(self, texts: Sequence[str], queries: Sequence[str], context: RetrievalContext) -> Iterator[Ranked]:
        """Yields up to `depth` (text index, score) pairs for each query, best first."""

    @property
    def name(self) -> str:
        """Returns the name that artifact folders contain."""
        return type(self).__name__.lower()

    @property
    def models(self) -> Sequence[str]:
        """Returns the folders or Hub IDs of the models. Their content is part of the cache key."""
        return []

    @property
    def paid(self) -> bool:
        """Returns whether an endpoint charges for ranking."""
        return False

    def estimate_cost(self, characters: int, questions: int) -> RetrievalCost:
        """Returns an upper bound on the cost, without cached results."""
        return RetrievalCost(0.0, 0, 0.0)

    def check(self) -> None:  # noqa: B027
        """Raises LLMError if the retriever cannot run, for example because an API key is missing."""


def build_query(question: Question, with_choices: bool) -> str:
    """Returns the text of the question and, optionally, its choices (paper §5)."""
    return "\n".join([question.text, *(question.choices if with_choices else ())])


def top_indices(scores: Vector, depth: int) -> list[int]:
    """Returns the indices of the `depth` highest scores. Equal scores keep their order: the result is deterministic."""
    import numpy as np  # not needed to plan a run

    if depth < len(scores):
        threshold = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        candidates = np.flatnonzero(scores >= threshold)
    else:
        candidates = np.arange(len(scores))
    indices: list[int] = candidates[np.lexsort((candidates, -scores[candidates]))][:depth].tolist()
    return indices


def iterate_completed(requests: "Sequence[Future[Result]]") -> Iterator[Result]:
    """Yields results as they arrive. After a failure, yields the pending results, which are paid for, then raises."""
    failure: BaseException | None = None
    for completed in as_completed(requests):
        if completed.cancelled():
            continue
        if (error := completed.exception()) is None:
            yield completed.result()
            continue
        failure = failure or error
        for request in requests:
            request.cancel()
    if failure:
        raise failure
