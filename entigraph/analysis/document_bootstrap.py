"""Resampling whole documents, each with its questions: the uncertainty that comes from which documents were chosen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
FEW_DOCUMENTS = 10  # below, resampling documents understates the error


@dataclass(frozen=True)
class Resampling:
    """`resamples` draws; intervals cover the middle share `confidence` of them."""

    confidence: float = 0.9
    resamples: int = 2000

    @property
    def quantiles(self) -> tuple[float, float]:
        """The lower and upper quantile of an interval."""
        return (1 - self.confidence) / 2, (1 + self.confidence) / 2

    def interval(self, draws: Vector) -> list[float]:
        return [float(edge) for edge in np.quantile(draws, self.quantiles)]


@dataclass(frozen=True)
class QuestionBlock:
    """Runs that answered the same questions.

    `rows` are the runs' indices, `correct` has shape (runs, questions), `documents` numbers each question's document.
    """

    key: int
    rows: NDArray[np.int64]
    correct: Vector
    documents: NDArray[np.int64]

    @property
    def clusters(self) -> NDArray[np.int64]:
        """The units resampled with replacement: whole documents, or single questions if all are about one document."""
        return self.documents if len(np.unique(self.documents)) > 1 else np.arange(len(self.documents))

    def deviations(self, resamples: int) -> Vector:
        """Returns (resamples, runs): how far the accuracy on other documents like these may lie from the measured one.

        The draws are seeded by the questions alone, so runs on the same questions share them, also across augmenters.
        """
        _, cluster = np.unique(self.clusters, return_inverse=True)
        count = cluster.max() + 1
        rng = np.random.default_rng(self.key)
        weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples)[:, cluster].astype(float)
        means = weights @ self.correct.T / weights.sum(axis=1, keepdims=True)
        unbiased = np.sqrt(count / (count - 1)) if count > 1 else 1.0
        return np.asarray((means - self.correct.mean(axis=1)) * unbiased)


def ratio_of_sums(above: Vector, below: Vector) -> tuple[float, float | None]:
    """Returns the ratio of two sums over documents with its linearized standard error; None for fewer than two."""
    count, total = len(below), below.sum()
    ratio = float(above.sum() / total)
    squares = ((above - ratio * below) ** 2).sum()
    return ratio, float(np.sqrt(count / (count - 1) * squares) / total) if count > 1 else None


def difference_deviations(
    key: int, difference: Vector, documents: list[str], resampling: Resampling, df: int | None = None
) -> Vector:
    """Returns draws of how far a mean difference on other documents like these may lie from the measured one.

    With few documents, the draws are scaled by Student's t over the normal quantile, and those over single questions
    are used if they are wider. `df`: the degrees of freedom of all documents of a comparison, if these are only
    some of them.
    """
    from scipy.stats import norm, t

    def draw(clusters: NDArray[np.int64]) -> Vector:
        block = QuestionBlock(key, np.array([0]), difference[None], clusters)
        return block.deviations(resampling.resamples)[:, 0]

    numbers = np.unique(documents, return_inverse=True)[1]
    df = int(numbers.max()) if df is None else df
    if not 0 < df < FEW_DOCUMENTS - 1:
        return draw(numbers)
    upper = resampling.quantiles[1]
    by_document = draw(numbers) * float(t.ppf(upper, df) / norm.ppf(upper))
    return max(by_document, draw(np.arange(len(difference))), key=np.std)
