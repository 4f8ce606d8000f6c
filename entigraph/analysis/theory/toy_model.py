"""The paper's toy model of synthetic data (§6, App. G): exact in closed form, simulated, and as a branching process.

Entities are vertices of a directed graph whose edges are the relations that the source states. Each round draws an
ordered pair (x, y); where a path leads from x to y, every vertex of a shortest one becomes known from x. Accuracy is
the share of ordered pairs known after t rounds; t stands for the synthetic tokens.

A pair (i, j) is learned in a round with probability (size of the subtree below j in the shortest-path tree of i, j
included) / (V(V-1)), so the exact accuracy needs no more than a histogram of subtree sizes.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from entigraph.analysis.scaling.curve_forms import Vector

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
UNREACHED = -9999  # SciPy's mark of a vertex without predecessor


@dataclass(frozen=True)
class Trees:
    """The shortest-path tree of every vertex. Row i: the tree whose root is i."""

    source: Booleans
    distances: Integers
    parents: Integers

    @property
    def vertices(self) -> int:
        return len(self.source)

    @property
    def pairs(self) -> int:
        """V(V-1): every share below is one of these."""
        return self.vertices * (self.vertices - 1)

    @cached_property
    def reachable(self) -> Booleans:
        return self.distances > 0

    @cached_property
    def sizes(self) -> Integers:
        """Of the subtree below each vertex, itself included; 0 where the root does not reach it. (V, V)"""
        sizes = self.reachable.astype(np.int64).ravel()
        offsets = np.arange(self.vertices)[:, None] * self.vertices
        above = (offsets + np.where(self.reachable, self.parents, 0)).ravel()
        distances = self.distances.ravel()
        order = np.argsort(distances, kind="stable")
        levels = np.searchsorted(distances[order], np.arange(2, distances.max() + 2))
        for start, end in zip(levels[-2::-1], levels[:0:-1], strict=True):  # from the leaves up
            here = order[start:end]
            sizes += np.bincount(above[here], weights=sizes[here], minlength=sizes.size).astype(np.int64)
        return sizes.reshape(self.vertices, self.vertices)


def trees(source: Booleans) -> Trees:
    """All shortest paths of a graph; among several of one length, the one that SciPy finds (the paper says nothing)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    if source.diagonal().any():
        raise ValueError("a relation leads from an entity to another one")
    lengths, parents = dijkstra(csr_array(source), unweighted=True, return_predecessors=True)
    return Trees(source, np.where(np.isfinite(lengths), lengths, -1).astype(np.int64), parents.astype(np.int64))


@dataclass(frozen=True)
class Growth:
    """Everything that the accuracy depends on: how many unstated pairs have which probability of being learned.

    `counts[k]` ordered pairs are reachable, not stated by the source, and learned in a round with probability k/V(V-1).
    """

    pairs: int
    stated: int
    counts: Vector

    @property
    def start(self) -> float:
        """Accuracy before the first round: p."""
        return self.stated / self.pairs

    @property
    def unstated(self) -> float:
        """|R \\ D| / V(V-1): what can be learned. The paper's formulas have |R| here and count p twice at finite V."""
        return float(self.counts.sum() / self.pairs)

    @property
    def limit(self) -> float:
        return self.start + self.unstated

    @cached_property
    def mu(self) -> Vector:
        """The share of learnable pairs by k: the paper's µ(k), over the pairs that the source does not state."""
        return np.asarray(self.counts / max(1.0, self.counts.sum()))

    @property
    def mean(self) -> float:
        """Of k under µ: how fast accuracy grows at first, in pairs a round."""
        return float(self.mu @ np.arange(len(self.mu)))

    def accuracy(self, rounds: Vector) -> Vector:
        """Exact, in expectation over the rounds, for any number of them (App. G)."""
        sizes = np.flatnonzero(self.counts)
        unlearned = np.log1p(-np.minimum(sizes / self.pairs, 1 - 1e-15))
        missing = np.exp(np.multiply.outer(np.asarray(rounds, dtype=float), unlearned)) @ self.counts[sizes]
        return np.asarray(self.start + (self.counts.sum() - missing) / self.pairs)

    def bounds(self, rounds: Vector) -> tuple[Vector, Vector]:
        """Both bounds of Theorem 1 as they hold for one finite graph.

        Every pair is learned with probability at least 1/V(V-1), and by Jensen at most as fast as if all had the mean;
        both reach |R \\ D| / V(V-1), which the graph itself gives.
        """
        low = 1 - (1 - 1 / self.pairs) ** np.asarray(rounds, dtype=float)
        high = 1 - (1 - self.mean / self.pairs) ** np.asarray(rounds, dtype=float)
        return self.start + self.unstated * low, self.start + self.unstated * high


def growth(found: Trees) -> Growth:
    learnable = found.reachable & ~found.source
    counts = np.bincount(found.sizes[learnable], minlength=2).astype(float)
    return Growth(found.pairs, int(found.source.sum()), counts)


def pooled(parts: list[Growth]) -> Growth:
    """Several graphs at once, as when a round is drawn in each: pairs add up. Raises ValueError for different sizes."""
    if len({part.pairs for part in parts}) != 1:
        raise ValueError("graphs of one size expected")
    counts = np.zeros(max(len(part.counts) for part in parts))
    for part in parts:
        counts[: len(part.counts)] += part.counts / len(parts)
    return Growth(parts[0].pairs, round(sum(part.stated for part in parts) / len(parts)), counts)


def random_graph(vertices: int, p: float, rng: np.random.Generator) -> Booleans:
    """Each ordered pair with probability p (§6.1)."""
    found = rng.random((vertices, vertices)) < p
    np.fill_diagonal(found, False)
    return found


def simulate(found: Trees, rounds: int, rng: np.random.Generator) -> Integers:
    """The round in which each unstated pair was learned, one entry a pair that was, in ascending order."""
    count = found.vertices
    roots = rng.integers(count, size=rounds)
    targets = (roots + rng.integers(1, count, size=rounds)) % count
    learned = np.full((count, count), rounds + 1)
    when = np.arange(1, rounds + 1)
    walking = found.reachable[roots, targets]
    roots, here, when = roots[walking], targets[walking], when[walking]
    while len(here):
        np.minimum.at(learned, (roots, here), when)
        here = found.parents[roots, here]
        walking = here != roots
        roots, here, when = roots[walking], here[walking], when[walking]
    learned[found.source] = rounds + 1  # known from the start
    return np.sort(learned[learned <= rounds])


def simulated_accuracy(found: Trees, learned: Integers, rounds: Vector) -> Vector:
    return np.asarray((found.source.sum() + np.searchsorted(learned, rounds, side="right")) / found.pairs)


# --- the paper's formulas, in the limit of many vertices ---


def extinction(mean: float) -> float:
    """Of a Poisson branching process: the smallest root of rho = exp(mean (rho - 1)) (Definition 1)."""
    from scipy.special import lambertw

    return 1.0 if mean <= 1 else float(-lambertw(-mean * np.exp(-mean)).real / mean)


def reachable_share(mean: float) -> float:
    """C = (1 - rho)^2 (Definition 1)."""
    return (1 - extinction(mean)) ** 2


def branching_accuracy(vertices: int, mean: float, rounds: Vector, corrected: bool = False) -> Vector:
    """The branching formula (App. G). Total progenies enter by their generating function, at s = exp(-t/V(V-1)).

    That replaces (1 - k/V(V-1))^t by exp(-kt/V(V-1)), which differ by a share of about t k^2/V^4.

    As printed it needs two corrections at finite V, which `corrected` makes. Stated pairs are reachable too: the limit
    is C, not p + C. And a tree has no more levels than vertices: levels of which less than one vertex is expected are
    left out; with all of them the mean subtree, and so the first slope, is infinite.
    """
    pairs, p = vertices * (vertices - 1), mean / vertices
    s = np.exp(-np.asarray(rounds, dtype=float) / pairs)
    generating, unlearned, total = s, np.zeros_like(s), 0.0
    weight = (mean - 1) / mean
    least = 1 / (vertices * (1 - extinction(mean))) if corrected else 1e-12
    while weight > least or not total:
        unlearned, total = unlearned + weight * generating, total + weight
        generating = s * np.exp(mean * (generating - 1))
        weight /= mean
    scale = reachable_share(mean) - (p if corrected else 0.0)
    return np.asarray(p + scale * (1 - unlearned / total))


def paper_bounds(
    vertices: int, mean: float, rounds: Vector, epsilon: float = 0.0, corrected: bool = False
) -> tuple[Vector, Vector]:
    """Theorem 1's bounds, which hold as V goes to infinity; `corrected` as in `branching_accuracy`."""
    pairs, p, t = vertices * (vertices - 1), mean / vertices, np.asarray(rounds, dtype=float)
    scale = reachable_share(mean) - (p if corrected else 0.0)
    slow = 1 - 1 / pairs
    fast = 1 - (1 + epsilon) * np.log(vertices) / (pairs * np.log(mean))
    return (p + scale * (1 - slow**t)) * (1 - epsilon), (p + scale * (1 - fast**t)) * (1 + epsilon)


def phases(found: Growth, tolerance: float = 0.1) -> tuple[float, float]:
    """Rounds at which the linear phase ends and the plateau begins (Lemma G.3 gives their existence, not their place).

    Here: where accuracy falls short of its first slope by `tolerance` of the gain, and where all of the gain but
    `tolerance` is made.
    """
    t = np.geomspace(1, 1e4 * found.pairs, 4000)
    gain = found.accuracy(t) - found.start
    linear = found.unstated * found.mean * t / found.pairs
    return (
        float(t[np.argmax(gain < (1 - tolerance) * linear)]),
        float(t[np.argmax(gain >= (1 - tolerance) * found.unstated)]),
    )
