"""From answers to numbers, each with what it is a share of and how uncertain it is."""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist
from typing import Any

from entigraph.records import Answer

CONFIDENCE = 0.9
FEW_CLUSTERS = 10


def scored(answers: Sequence[Answer]) -> dict[str, Any]:
    """Accuracy over all questions; one that did not fit the context counts as wrong, and is counted."""
    by_group: dict[str, list[Answer]] = {}
    for answer in answers:
        by_group.setdefault(answer.group, []).append(answer)
    return {
        **accuracy(answers),
        "accuracy_norm": mean([answer.correct_norm for answer in answers]),
        "chance": mean([1 / len(answer.choices) for answer in answers]),
        "overflowed": sum(answer.choice is None for answer in answers),
        "groups": {group: accuracy(members) for group, members in sorted(by_group.items())},
    }


def accuracy(answers: Sequence[Answer]) -> dict[str, Any]:
    """With a standard error clustered by document: questions about one text are not independent."""
    share = mean([answer.correct for answer in answers])
    error = clustered_error([answer.correct for answer in answers], [answer.document_id for answer in answers])
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * error
    return {
        "accuracy": share,
        "stderr": error,
        f"interval_{CONFIDENCE:.0%}": [max(0.0, share - reach), min(1.0, share + reach)],
        "questions": len(answers),
        "documents": len({answer.document_id for answer in answers}),
    }


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def clustered_error(values: Sequence[float], clusters: Sequence[str]) -> float:
    """The standard error of the mean, errors summed within a cluster first.

    Of fewer than ten clusters their spread says little, and may by chance be nearly none: then at least that of
    independent questions.
    """
    if not values:
        return 0.0
    average = mean(values)
    independent = sqrt(average * (1 - average) / len(values))
    sums: dict[str, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value - average
    count = len(sums)
    if count < 2:
        return independent
    clustered = sqrt(count / (count - 1) * sum(total**2 for total in sums.values())) / len(values)
    return max(clustered, independent) if count < FEW_CLUSTERS else clustered
