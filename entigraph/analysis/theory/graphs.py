"""Random directed graphs other than the paper's: the same mean number of relations, arranged differently.

The paper analyzes independent relations only (§6.1) and leaves other graphs open. In each of these, relations are still
independent, with a probability of their own for each ordered pair.
"""

from collections.abc import Callable, Mapping

import numpy as np

from entigraph.analysis.scaling.curve_forms import Vector
from entigraph.analysis.theory.toy_model import Booleans

CLUSTERS, WITHIN = 10, 0.9  # nine of ten relations stay within one of ten clusters
LEVELS, FALLOFF = 5, 0.35  # at each level of a binary tree that two entities do not share, relations grow rarer
HUB_EXPONENT = 2.5  # of the power law of degrees
SPARSER, DENSER = 0.5, 2.0


def independent(vertices: int, degree: float) -> Vector:
    return np.full((vertices, vertices), degree / vertices)


def clustered(vertices: int, degree: float) -> Vector:
    cluster = np.arange(vertices) * CLUSTERS // vertices
    same = cluster[:, None] == cluster
    return np.asarray(np.where(same, WITHIN * degree / same.sum(axis=1), (1 - WITHIN) * degree / (~same).sum(axis=1)))


def hierarchical(vertices: int, degree: float) -> Vector:
    place = np.arange(vertices) * 2**LEVELS // vertices
    apart = np.zeros((vertices, vertices))
    for level in range(LEVELS):
        apart += (place[:, None] >> level) != (place >> level)
    weight = FALLOFF**apart
    return np.asarray(degree * weight / weight.sum(axis=1, keepdims=True))


def hubs(vertices: int, degree: float) -> Vector:
    weight = (np.arange(vertices) + 1.0) ** (-1 / (HUB_EXPONENT - 1))
    found = np.outer(weight, weight)
    return np.asarray(degree * vertices * found / found.sum())


FAMILIES: Mapping[str, Callable[[int, float], Vector]] = {
    "independent": independent,
    "sparser": lambda vertices, degree: independent(vertices, SPARSER * degree),
    "denser": lambda vertices, degree: independent(vertices, DENSER * degree),
    "clustered": clustered,
    "hierarchical": hierarchical,
    "hubs": hubs,
}


def drawn(family: str, vertices: int, degree: float, rng: np.random.Generator) -> Booleans:
    """Probabilities above 1 (between the largest hubs) count as 1."""
    found = rng.random((vertices, vertices)) < FAMILIES[family](vertices, degree)
    np.fill_diagonal(found, False)
    return found
