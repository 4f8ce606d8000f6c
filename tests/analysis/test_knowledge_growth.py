"""The reference values were measured on 20 graphs of 100 entities with p = 0.03, independently of this code."""

import time

import numpy as np
import pytest

from entigraph.analysis.theory import graph_families
from entigraph.analysis.theory.knowledge_growth import (
    branching_accuracy,
    extinction,
    find_phases,
    measure_growth,
    pool_growth,
    random_graph,
    reachable_share,
    shortest_path_trees,
    simulate,
    simulated_accuracy,
)

V, MEAN = 100, 3.0
PAIRS = V * (V - 1)
ROUNDS = np.array([0, 1000, PAIRS, 2 * PAIRS, 10 * PAIRS], dtype=float)
GRAPHS = [shortest_path_trees(random_graph(V, MEAN / V, np.random.default_rng(seed))) for seed in range(20)]


def test_subtree_sizes_match_a_walk_of_every_path() -> None:
    tree = GRAPHS[0]
    counted = np.zeros((V, V), dtype=int)
    for root in range(V):
        for target in np.flatnonzero(tree.reachable[root]):
            node = target
            while node != root:
                counted[root, node] += 1
                node = tree.parents[root, node]
    assert (counted == tree.sizes).all() and counted.max() > 20


def test_growth_of_a_chain_matches_manual_calculation() -> None:
    """0 → 1 → 2: only (0, 2) is unstated, and only drawing (0, 2) itself, one pair of six, teaches it."""
    chain = np.zeros((3, 3), dtype=bool)
    chain[0, 1] = chain[1, 2] = True
    growth = measure_growth(shortest_path_trees(chain))
    assert growth.start == pytest.approx(2 / 6) and growth.limit == pytest.approx(3 / 6)
    assert growth.accuracy(np.array([0, 1, 5])) == pytest.approx([(2 + 1 - (5 / 6) ** t) / 6 for t in (0, 1, 5)])
    assert not shortest_path_trees(np.zeros((3, 3), dtype=bool)).sizes.any()
    with pytest.raises(ValueError, match="no relation to itself"):
        shortest_path_trees(np.eye(3, dtype=bool))


def test_exact_accuracies_match_reference_values() -> None:
    exact = np.array([measure_growth(tree).accuracy(ROUNDS) for tree in GRAPHS])
    error = np.array([0.002, 0.008, 0.027, 0.034, 0.037]) / np.sqrt(20)
    assert (np.abs(exact.mean(axis=0) - [0.030, 0.222, 0.702, 0.822, 0.881]) < 3 * np.sqrt(2) * error).all()


def test_simulation_agrees_with_exact_accuracy() -> None:
    tree = GRAPHS[1]
    at = ROUNDS[1:4]
    graphs = [
        simulated_accuracy(tree, simulate(tree, int(at[-1]), np.random.default_rng(seed)), at) for seed in range(100)
    ]
    error = np.std(graphs, axis=0, ddof=1) / np.sqrt(len(graphs))
    assert (np.abs(np.mean(graphs, axis=0) - measure_growth(tree).accuracy(at)) < 3 * error).all() and (
        error < 0.001
    ).all()


def test_paper_formulas_match_reference_values() -> None:
    assert [extinction(mean) for mean in (1.5, 2, 3, 5)] == pytest.approx([0.4172, 0.2032, 0.05952, 0.00698], abs=5e-5)
    assert [reachable_share(mean) for mean in (1.5, 2, 3, 5)] == pytest.approx(
        [0.3397, 0.6349, 0.8845, 0.9861], abs=5e-5
    )
    assert extinction(1.0) == 1 and reachable_share(0.5) == 0
    assert branching_accuracy(V, MEAN, ROUNDS) == pytest.approx([0.030, 0.222, 0.685, 0.832, 0.9145], abs=5e-4)


def test_corrected_bounds_hold_at_finite_size() -> None:
    parts = [measure_growth(tree) for tree in GRAPHS]
    assert branching_accuracy(V, MEAN, ROUNDS, corrected=True)[-1] == pytest.approx(reachable_share(MEAN), abs=1e-3)
    t = np.geomspace(1, 100 * PAIRS, 200)
    for part in parts:
        low, high = part.bounds(t)
        assert (low <= part.accuracy(t) + 1e-12).all() and (part.accuracy(t) <= high + 1e-12).all()


def test_initial_slope_needs_the_correction() -> None:
    """The printed formula sums infinitely many levels, so its linear phase is too steep."""
    t = np.array([50.0])
    exact = np.mean([measure_growth(tree).accuracy(t) for tree in GRAPHS])
    printed, corrected = branching_accuracy(V, MEAN, t)[0], branching_accuracy(V, MEAN, t, corrected=True)[0]
    assert abs(corrected - exact) < 0.3 * abs(printed - exact)


def test_growth_has_three_phases() -> None:
    together = pool_growth([measure_growth(tree) for tree in GRAPHS])
    linear_end, plateau = find_phases(together)
    assert 10 < linear_end < PAIRS / 10 < plateau < 10 * PAIRS
    early = np.linspace(1, linear_end, 20)
    straight = together.start + together.unstated * together.mean * early / PAIRS
    assert together.accuracy(early) == pytest.approx(straight, rel=0.1)
    assert together.accuracy(np.array([plateau]))[0] > together.limit - 0.1 * together.unstated - 1e-3
    with pytest.raises(ValueError, match="same size"):
        pool_growth(
            [
                measure_growth(GRAPHS[0]),
                measure_growth(shortest_path_trees(np.ones((3, 3), dtype=bool) & ~np.eye(3, dtype=bool))),
            ]
        )


def test_a_thousand_entities_take_less_than_ten_seconds() -> None:
    started = time.perf_counter()
    growth = measure_growth(shortest_path_trees(random_graph(1000, MEAN / 1000, np.random.default_rng(0))))
    growth.accuracy(np.geomspace(1, 1e8, 1000))
    assert time.perf_counter() - started < 10, "0.3 s on two cores"
    assert growth.limit == pytest.approx(reachable_share(MEAN), abs=0.05)


@pytest.mark.parametrize("family", graph_families.FAMILIES)
def test_every_family_has_its_stated_mean_degree(family: str) -> None:
    expected = {"sparser": 1.5, "denser": 6.0}.get(family, 3.0)
    graphs = [graph_families.sample_graph(family, 200, 3.0, np.random.default_rng(seed)) for seed in range(10)]
    assert np.mean([graph.sum() / 200 for graph in graphs]) == pytest.approx(expected, rel=0.08)
    assert not any(graph.diagonal().any() for graph in graphs)


def test_structure_of_each_family() -> None:
    clustered = graph_families.sample_graph("clustered", 200, 3.0, np.random.default_rng(0))
    cluster = np.arange(200) * graph_families.CLUSTERS // 200
    assert clustered[cluster[:, None] == cluster].sum() / clustered.sum() == pytest.approx(
        graph_families.WITHIN, abs=0.05
    )
    tree = graph_families.sample_graph("hierarchical", 200, 3.0, np.random.default_rng(0))
    half = np.arange(200) >= 100
    assert tree[half[:, None] == half].sum() / tree.sum() > 0.75
    hubs = graph_families.sample_graph("hubs", 200, 3.0, np.random.default_rng(0))
    assert np.sort(hubs.sum(axis=1))[-20:].sum() > 0.3 * hubs.sum()
