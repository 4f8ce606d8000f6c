"""The paper's toy model of synthetic data (§6, App. G): exact in closed form, simulated, and as a branching process.

Entities are the vertices of a directed graph whose edges are the relations that the source states. Each round draws an
ordered pair (x, y); if a path leads from x to y, every vertex on a shortest one becomes known from x. Accuracy is the
share of ordered pairs known after t rounds; t corresponds to the synthetic tokens.

A pair (i, j) is learned in a round with probability (size of the subtree below j in the shortest-path tree of i, j
included) / (V(V-1)), so a histogram of subtree sizes determines the exact accuracy.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from entigraph.analysis.document_bootstrap import Vector

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class ShortestPathTrees:
    """The shortest-path tree of every vertex; row i is the tree with root i."""

    source: Booleans
    distances: Integers
    parents: Integers

    @property
    def vertices(self) -> int:
        return len(self.source)

    @property
    def pairs(self) -> int:
        """V(V-1): the denominator of every share below."""
        return self.vertices * (self.vertices - 1)

    @cached_property
    def reachable(self) -> Booleans:
        return self.distances > 0

    @cached_property
    def sizes(self) -> Integers:
        """(V, V): the size of the subtree below each vertex, itself included; 0 if the root does not reach it."""
        sizes = self.reachable.astype(np.int64).ravel()
        offsets = np.arange(self.vertices)[:, None] * self.vertices
        parents = (offsets + np.where(self.reachable, self.parents, 0)).ravel()
        distances = self.distances.ravel()
        order = np.argsort(distances, kind="stable")
        levels = np.searchsorted(distances[order], np.arange(2, distances.max() + 2))
        for start, end in zip(levels[-2::-1], levels[:0:-1], strict=True):  # from the leaves up
            level = order[start:end]
            sizes += np.bincount(parents[level], weights=sizes[level], minlength=sizes.size).astype(np.int64)
        return sizes.reshape(self.vertices, self.vertices)


def shortest_path_trees(source: Booleans) -> ShortestPathTrees:
    """Among several shortest paths, SciPy's choice is used; the paper does not state one."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    if source.diagonal().any():
        raise ValueError("an entity has no relation to itself")
    lengths, parents = dijkstra(csr_array(source), unweighted=True, return_predecessors=True)
    return ShortestPathTrees(
        source, np.where(np.isfinite(lengths), lengths, -1).astype(np.int64), parents.astype(np.int64)
    )


@dataclass(frozen=True)
class Growth:
    """How accuracy grows: the number of unstated pairs by their probability of being learned in a round.

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
        """|R \\ D| / V(V-1): what can be learned. The paper's formulas use |R|, which counts p twice at finite V."""
        return float(self.counts.sum() / self.pairs)

    @property
    def limit(self) -> float:
        return self.start + self.unstated

    @cached_property
    def mu(self) -> Vector:
        """The paper's µ(k): the share of learnable pairs by k, over the pairs that the source does not state."""
        return np.asarray(self.counts / max(1.0, self.counts.sum()))

    @property
    def mean(self) -> float:
        """The mean of k under µ: how fast accuracy grows at first, in pairs per round."""
        return float(self.mu @ np.arange(len(self.mu)))

    def accuracy(self, rounds: Vector) -> Vector:
        """Exact, in expectation over the rounds, for any number of them (App. G)."""
        sizes = np.flatnonzero(self.counts)
        unlearned = np.log1p(-np.minimum(sizes / self.pairs, 1 - 1e-15))
        missing = np.exp(np.multiply.outer(np.asarray(rounds, dtype=float), unlearned)) @ self.counts[sizes]
        return np.asarray(self.start + (self.counts.sum() - missing) / self.pairs)

    def bounds(self, rounds: Vector) -> tuple[Vector, Vector]:
        """Returns both bounds of Theorem 1 for a single finite graph.

        Every pair is learned with probability at least 1/V(V-1) and, by Jensen's inequality, at most as fast as if all
        had the mean probability; both bounds reach |R \\ D| / V(V-1).
        """
        low = 1 - (1 - 1 / self.pairs) ** np.asarray(rounds, dtype=float)
        high = 1 - (1 - self.mean / self.pairs) ** np.asarray(rounds, dtype=float)
        return self.start + self.unstated * low, self.start + self.unstated * high


def measure_growth(trees: ShortestPathTrees) -> Growth:
    learnable = trees.reachable & ~trees.source
    counts = np.bincount(trees.sizes[learnable], minlength=2).astype(float)
    return Growth(trees.pairs, int(trees.source.sum()), counts)


def pool_growth(parts: list[Growth]) -> Growth:
    """Returns the mean over graphs, each of which draws every round. Raises ValueError if their sizes differ."""
    if len({part.pairs for part in parts}) != 1:
        raise ValueError("graphs must be of the same size")
    counts = np.zeros(max(len(part.counts) for part in parts))
    for part in parts:
        counts[: len(part.counts)] += part.counts / len(parts)
    return Growth(parts[0].pairs, round(sum(part.stated for part in parts) / len(parts)), counts)


def random_graph(vertices: int, p: float, rng: np.random.Generator) -> Booleans:
    """Each ordered pair with probability p (§6.1)."""
    return without_loops(rng.random((vertices, vertices)) < p)


def without_loops(edges: Booleans) -> Booleans:
    np.fill_diagonal(edges, False)
    return edges


def simulate(trees: ShortestPathTrees, rounds: int, rng: np.random.Generator) -> Integers:
    """Returns, in ascending order, the round in which each unstated pair that was learned was learned."""
    count = trees.vertices
    roots = rng.integers(count, size=rounds)
    targets = (roots + rng.integers(1, count, size=rounds)) % count
    learned = np.full((count, count), rounds + 1)
    when = np.arange(1, rounds + 1)
    active = trees.reachable[roots, targets]
    roots, vertex, when = roots[active], targets[active], when[active]
    while len(vertex):  # from each target up to its root
        np.minimum.at(learned, (roots, vertex), when)
        vertex = trees.parents[roots, vertex]
        active = vertex != roots
        roots, vertex, when = roots[active], vertex[active], when[active]
    learned[trees.source] = rounds + 1  # known from the start
    return np.sort(learned[learned <= rounds])


def simulated_accuracy(trees: ShortestPathTrees, learned: Integers, rounds: Vector) -> Vector:
    return np.asarray((trees.source.sum() + np.searchsorted(learned, rounds, side="right")) / trees.pairs)


# --- the paper's formulas, in the limit of many vertices ---


def extinction(mean: float) -> float:
    """The extinction probability of a Poisson branching process: the smallest root of rho = exp(mean (rho - 1))."""
    from scipy.special import lambertw

    return 1.0 if mean <= 1 else float(-lambertw(-mean * np.exp(-mean)).real / mean)


def reachable_share(mean: float) -> float:
    """C = (1 - rho)^2 (Definition 1)."""
    return (1 - extinction(mean)) ** 2


def branching_accuracy(vertices: int, mean: float, rounds: Vector, corrected: bool = False) -> Vector:
    """The branching formula (App. G), by the generating function of total progenies at s = exp(-t/V(V-1)).

    This replaces (1 - k/V(V-1))^t by exp(-kt/V(V-1)); the relative difference is about t k^2/V^4.

    As printed, the formula needs two corrections at finite V, which `corrected` makes. Stated pairs are reachable too,
    so the limit is C, not p + C. And a tree has no more levels than vertices, so levels with less than one expected
    vertex are left out; with all of them, the mean subtree size and the initial slope are infinite.
    """
    pairs, p = vertices * (vertices - 1), mean / vertices
    s = np.exp(-np.asarray(rounds, dtype=float) / pairs)
    generating, unlearned, total = s, np.zeros_like(s), 0.0
    weight = (mean - 1) / mean
    min_weight = 1 / (vertices * (1 - extinction(mean))) if corrected else 1e-12
    while weight > min_weight or not total:
        unlearned, total = unlearned + weight * generating, total + weight
        generating = s * np.exp(mean * (generating - 1))
        weight /= mean
    scale = reachable_share(mean) - (p if corrected else 0.0)
    return np.asarray(p + scale * (1 - unlearned / total))


def find_phases(growth: Growth, tolerance: float = 0.1) -> tuple[float, float]:
    """Returns the rounds at which the linear phase ends and the plateau begins; Lemma G.3 proves only that they exist.

    Here: where accuracy falls below its initial slope by `tolerance` of the gain, and where all but `tolerance` of the
    gain is reached.
    """
    t = np.geomspace(1, 1e4 * growth.pairs, 4000)
    gain = growth.accuracy(t) - growth.start
    linear = growth.unstated * growth.mean * t / growth.pairs
    return (
        float(t[np.argmax(gain < (1 - tolerance) * linear)]),
        float(t[np.argmax(gain >= (1 - tolerance) * growth.unstated)]),
    )
