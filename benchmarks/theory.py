"""Measures the exact accuracy of the toy model against an implementation with networkx's breadth-first trees.

python benchmarks/theory.py
"""

import time

import networkx
import numpy as np

from entigraph.analysis.theory.knowledge_growth import measure_growth, random_graph, shortest_path_trees

COMPARED, ALONE, MEAN = 500, (1000, 2000), 3.0


def by_networkx(graph: networkx.DiGraph) -> np.ndarray:
    """Returns the subtree sizes below every vertex, by root, as in `ShortestPathTrees.sizes`."""
    sizes = np.zeros((len(graph), len(graph)), dtype=int)
    for root in graph:
        tree = networkx.bfs_tree(graph, root)
        for vertex in reversed(list(tree)):  # children before their parents
            sizes[root, vertex] = 1 + sum(sizes[root, child] for child in tree.successors(vertex))
        sizes[root, root] = 0
    return sizes


def main() -> None:
    source = random_graph(COMPARED, MEAN / COMPARED, np.random.default_rng(0))
    started = time.perf_counter()
    ours = shortest_path_trees(source).sizes
    middle = time.perf_counter()
    theirs = by_networkx(networkx.from_numpy_array(source, create_using=networkx.DiGraph))
    ended = time.perf_counter()
    assert ((ours > 0) == (theirs > 0)).all() and ours.sum() == theirs.sum(), "the path lengths differ"
    ratio = (ended - middle) / (middle - started)
    print(f"{COMPARED} entities: {middle - started:.2f} s; networkx {ended - middle:.2f} s, {ratio:.0f} times slower")
    for vertices in ALONE:
        started = time.perf_counter()
        measure_growth(shortest_path_trees(random_graph(vertices, MEAN / vertices, np.random.default_rng(0)))).accuracy(
            np.geomspace(1, 1e9, 2000)
        )
        print(f"{vertices} entities, exact accuracy at 2,000 numbers of rounds: {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
