"""What retrieval is made of: something that ranks texts for a query, something that scores the best of them again."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from entigraph.storage.schemas import Question

Vector = NDArray[np.float32]
Ranked = list[tuple[int, float]]  # the numbers of texts with their scores, the best first
Result = TypeVar("Result")


class Retriever(Protocol):
    """`reported` counts what a reader must know, such as texts that a model could not read to their end."""

    reported: dict[str, Any]

    def rank(self, texts: Sequence[str], queries: Sequence[str], depth: int) -> Iterator[Ranked]:
        """For each query up to `depth` texts; fewer, or none, where no more has to do with it."""
        ...


class Reranker(Protocol):
    """`identity` tells its scores from those of another model; `concurrency`: how many queries it takes at once."""

    identity: str
    concurrency: int
    reported: dict[str, Any]

    def scores(self, query: str, texts: Sequence[str]) -> Vector:
        """One for each text, the higher the better."""
        ...


def answered(requests: "Sequence[Future[Result]]") -> Iterator[Result]:
    """As they come. One that fails ends it, after those that were on their way: what is paid for is not lost."""
    failed: BaseException | None = None
    for done in as_completed(requests):
        if done.cancelled():
            continue
        if (error := done.exception()) is None:
            yield done.result()
            continue
        failed = failed or error
        for each in requests:
            each.cancel()
    if failed:
        raise failed


def query_of(question: Question, with_choices: bool) -> str:
    """The question, which names its document where the corpus has it so, and its options (paper §5)."""
    return "\n".join([question.text, *(question.choices if with_choices else ())])


def best(scores: Vector, depth: int) -> list[int]:
    """The places of the highest, equal ones in their order: a cut through a tie is the same on every machine."""
    if depth < len(scores):
        least = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        places = np.flatnonzero(scores >= least)
    else:
        places = np.arange(len(scores))
    found: list[int] = places[np.lexsort((places, -scores[places]))][:depth].tolist()
    return found
