"""Pairwise comparisons of methods at equal cost, with one error rate for all of them.

The methods are compared at several levels of cost, each with the same questions and seeds. Per level and seed, the
difference of two methods is paired by question. Its standard error has two parts:

- the variance over seeds, pooled over all methods and token budgets: the residual of accuracy after removing the mean
of
  each method and of each seed at a budget, that is the residual of a randomized block design. If every seed has
  documents of its own, this includes the choice of the documents. Levels of other costs interpolate the same runs, so
  they have no variance of their own and use that of the budgets;
- the choice of the documents, by the variance of the difference over documents, less what the variance over seeds adds
  to it. It is added if all seeds share their documents, or if there is one seed only.

A difference is tested by Student's t distribution with Satterthwaite's degrees of freedom. Holm's method (1979)
corrects the p-values of all comparisons of a family, so that the probability of any false one stays below `alpha`. With
one seed no difference of methods is significant, because the variance of training is unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import ceil, inf, sqrt
from typing import Any

import numpy as np
from scipy.stats import norm, t

from entigraph.analysis.document_bootstrap import Vector

POWER = 0.8  # probability that the stated number of seeds or documents makes a difference of this size significant
MAX_SEEDS, MAX_DOCUMENTS = 50, 1000  # larger numbers are not stated
RunVariance = tuple[float, int]  # the variance of one run, and its degrees of freedom


@dataclass(frozen=True)
class SeedAnswers:
    """The correctness of each answer (0 or 1; between them at an interpolated cost) and the document of its question.

    Documents of different corpora have different names. `questions_key` is the same for equal questions.
    """

    correct: Vector
    documents: Sequence[str]
    questions_key: int = 0

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())


@dataclass(frozen=True)
class CostLevel:
    """The answers of every method at one cost, by seed; all methods answered the same questions of a seed.

    `at` is the cost in the unit of the family: tokens or dollars. `notes` say which seeds and methods are left out.
    """

    at: float
    answers: Mapping[str, Mapping[int, SeedAnswers]]
    notes: Sequence[str] = ()

    @property
    def methods(self) -> list[str]:
        return list(self.answers)

    @property
    def seeds(self) -> list[int]:
        """The seeds that all methods have."""
        return sorted(set.intersection(*(set(by_seed) for by_seed in self.answers.values())))

    def table(self) -> Vector:
        """Returns the accuracies, (methods, seeds)."""
        return np.array([[by_seed[seed].accuracy for seed in self.seeds] for by_seed in self.answers.values()])


@dataclass(frozen=True)
class StandardError:
    """A standard error from several independent parts, each a variance with its degrees of freedom."""

    parts: Sequence[tuple[float, int]]

    @property
    def value(self) -> float:
        return sqrt(sum(variance for variance, _ in self.parts))

    @property
    def degrees_of_freedom(self) -> float:
        """Satterthwaite's degrees of freedom."""
        total = sum(variance for variance, _ in self.parts)
        if not total:
            return float(max((df for _, df in self.parts), default=1))
        return total**2 / sum(variance**2 / df for variance, df in self.parts if variance)


@dataclass
class MethodDifference:
    """The accuracy of `one` minus that of `other` at a cost. `adjusted_p` is Holm's, over the family.

    `needed_seeds` and `needed_documents` would make a difference as large as this one significant: seeds like these, or
    documents with questions like these; null where no such number suffices, or the difference is significant.
    """

    one: str
    other: str
    equal: str
    at: float
    accuracy: tuple[float, float]
    difference: float
    standard_error: float
    degrees_of_freedom: float
    interval: tuple[float, float]
    p: float
    seeds: int
    questions: int
    documents: int
    adjusted_p: float = 1.0
    significant: bool = False
    needed_seeds: int | None = None
    needed_documents: int | None = None
    parts: dict[str, float] = field(default_factory=dict)  # variances by source


def compare_methods(
    levels: Sequence[CostLevel],
    cost_unit: str,
    confidence: float,
    alpha: float,
    run_variance: RunVariance | None = None,
) -> list[MethodDifference]:
    """Returns every pair of methods at every level; the family that Holm's method corrects.

    `run_variance` is that of the measured runs; None if `levels` are measured runs themselves.
    """
    run_variance = run_variance or seed_variance(levels)
    differences = [
        compare_pair(level, cost_unit, one, other, run_variance, confidence)
        for level in levels
        for other, one in combinations(level.methods, 2)
    ]
    for difference, adjusted in zip(differences, holm([item.p for item in differences]), strict=True):
        difference.adjusted_p = adjusted
        difference.significant = adjusted <= alpha and difference.seeds > 1  # one run says little about a method
        if not difference.significant:
            plan_replication(difference, alpha / len(differences))
    return differences


def seed_variance(levels: Sequence[CostLevel]) -> RunVariance:
    """Returns the variance of one run around the means of methods and seeds, pooled over levels, and its df."""
    squares, df = 0.0, 0
    for level in levels:
        if len(level.seeds) < 2 or len(level.methods) < 2:
            continue
        table = level.table()
        residuals = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
        squares += float((residuals**2).sum())
        df += (table.shape[0] - 1) * (table.shape[1] - 1)
    return (squares / df if df else 0.0), df


def compare_pair(
    level: CostLevel, cost_unit: str, one: str, other: str, run_variance: RunVariance, confidence: float
) -> MethodDifference:
    pairs = [(level.answers[one][seed], level.answers[other][seed]) for seed in level.seeds]
    differences = [first.correct - second.correct for first, second in pairs]
    documents = [list(first.documents) for first, _ in pairs]
    shared = len(pairs) > 1 and all(names == documents[0] for names in documents)
    parts: dict[str, float] = {}
    errors: list[tuple[float, int]] = []
    variance, df = run_variance
    if df and len(pairs) > 1:
        parts["seeds"] = 2 * variance / len(pairs)
        errors.append((parts["seeds"], df))
    if shared or not errors:
        crossed = shared or len(pairs) == 1
        values = differences if crossed else [np.concatenate(differences)]
        names = documents[0] if crossed else [name for part in documents for name in part]
        parts["documents"], clusters = document_variance(values, names)
        errors.append((parts["documents"], clusters - 1))
    error = StandardError(errors)
    difference = float(np.mean([values.mean() for values in differences]))
    degrees = max(1.0, error.degrees_of_freedom)
    margin = float(t.ppf((1 + confidence) / 2, degrees)) * error.value
    statistic = abs(difference) / error.value if error.value else (inf if difference else 0.0)
    count = len({name for part in documents for name in part}) if shared else sum(len(set(part)) for part in documents)
    return MethodDifference(
        one=one,
        other=other,
        equal=cost_unit,
        at=level.at,
        accuracy=(mean_accuracy([first for first, _ in pairs]), mean_accuracy([second for _, second in pairs])),
        difference=difference,
        standard_error=error.value,
        degrees_of_freedom=degrees,
        interval=(difference - margin, difference + margin),
        p=float(2 * t.sf(statistic, degrees)),
        seeds=len(pairs),
        questions=sum({first.questions_key: len(first.correct) for first, _ in pairs}.values()),
        documents=count,
        parts=parts,
    )


def accuracy_intervals(cells: Sequence[Sequence[SeedAnswers]], confidence: float) -> list[tuple[float, float]]:
    """Returns the interval of the mean accuracy of each cell, which holds the answers of each seed.

    The variance over seeds is pooled over the cells; the variance over documents is added as in comparisons.
    """
    squares = sum(float(np.var([seed.accuracy for seed in cell]) * len(cell)) for cell in cells)
    df = sum(len(cell) - 1 for cell in cells)
    intervals = []
    for cell in cells:
        errors = [(squares / df / len(cell), df)] if df and len(cell) > 1 else []
        if not errors or all(list(seed.documents) == list(cell[0].documents) for seed in cell):
            variance, clusters = document_variance([seed.correct for seed in cell], cell[0].documents)
            errors.append((variance, clusters - 1))
        error = StandardError(errors)
        margin = float(t.ppf((1 + confidence) / 2, max(1.0, error.degrees_of_freedom))) * error.value
        middle = mean_accuracy(cell)
        intervals.append((max(0.0, middle - margin), min(1.0, middle + margin)))
    return intervals


def mean_accuracy(answers: Sequence[SeedAnswers]) -> float:
    return float(np.mean([answer.accuracy for answer in answers]))


def document_variance(values: Sequence[Vector], documents: Sequence[str]) -> tuple[float, int]:
    """Returns the variance of a mean over seeds that comes from the choice of documents, and their number.
    `values` are those of each seed on the same questions. The variance of their mean over documents includes a part of
    the variance over seeds, which is estimated by that of each seed around the mean, and subtracted.
    """
    middle = np.mean(values, axis=0)
    variance, count = cluster_variance(middle, documents)
    seeds = len(values)
    if seeds > 1:
        around = sum(cluster_variance(value - middle, documents)[0] for value in values)
        variance = max(0.0, variance - around / (seeds * (seeds - 1)))
    return variance, count


def cluster_variance(values: Vector, clusters: Sequence[str]) -> tuple[float, int]:
    """Returns the variance of a mean whose values are drawn in clusters, and the number of clusters.

    A single cluster is treated as independent values.
    """
    names, numbers = np.unique(list(clusters), return_inverse=True)
    if len(names) < 2:
        numbers = np.arange(len(values))
    count = int(numbers.max()) + 1
    if count < 2:
        return 0.0, 2
    sums = np.bincount(numbers, weights=values - values.mean())
    return float(count / (count - 1) * (sums**2).sum() / len(values) ** 2), count


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p-values adjusted by Holm's step-down method."""
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def plan_replication(difference: MethodDifference, alpha: float) -> None:
    """Sets how many seeds, or documents, the difference needs for POWER at the level `alpha` of one test."""
    if not difference.difference:
        return
    target = (
        difference.difference / float(norm.isf(alpha / 2) + norm.ppf(POWER))
    ) ** 2  # variance of a significant one
    by_seed, by_document = difference.parts.get("seeds", 0.0), difference.parts.get("documents", 0.0)
    if by_seed and target > by_document:
        difference.needed_seeds = max(difference.seeds + 1, ceil(difference.seeds * by_seed / (target - by_document)))
    if by_document and target > by_seed:
        needed = ceil(difference.documents * by_document / (target - by_seed))
        difference.needed_documents = max(difference.documents + 1, needed)


def describe_needed_data(difference: Mapping[str, Any]) -> str:
    """Returns what would make a difference significant, if it is as large as measured."""
    if not difference["difference"]:
        return "no difference was measured"
    if difference["seeds"] < 2:
        return "the variance of training is unknown with one seed; run two or more"
    options = [
        f"{difference[key]:,} {name}"
        for key, name, most in (("needed_seeds", "seeds", MAX_SEEDS), ("needed_documents", "documents", MAX_DOCUMENTS))
        if difference[key] and difference[key] <= most
    ]
    return f"{' or '.join(options) or 'more seeds and documents together'} would make it significant"
