"""The order in which EntiGraph writes about the pairs or triples of a document's entities.

Every order contains every relation once, so that a token budget determines how many of them are written about. It is a
function of the document, its entities and a seed. Relations are tuples of names in the order of the entity list.
"""

import heapq
import random
from array import array
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import combinations
from math import comb, gcd, inf, log1p, prod

from entigraph.storage.schemas import Document
from entigraph.text.writing_systems import find_names_in, name_pattern, split_statements

PAIR = 2  # the size of a relation; 3 is a triple
Relation = Sequence[str]
Indices = tuple[int, ...]  # of the entities of a relation, ascending


class Selection(StrEnum):
    """The order of relations: `uniform` (`shuffle`), `importance` (`sample_by_importance`), `coverage` (`cover_first`),
    `adaptive` (highest student loss first, student_feedback.py).
    """

    uniform = "uniform"
    importance = "importance"
    coverage = "coverage"
    adaptive = "adaptive"


def shuffle(document_id: str, entities: Sequence[str], size: int, seed: int) -> Iterator[Relation]:
    """Yields all relations in random order, the paper's selection."""
    if size == PAIR:
        order = array("I", range(comb(len(entities), 2)))  # four bytes per pair: a large corpus has millions
        random.Random(f"pairs/{seed}/{document_id}").shuffle(order)
        yield from (pair_at(index, entities) for index in order)
    else:
        indices = pseudo_shuffled_range(comb(len(entities), 3), random.Random(f"triples/{seed}/{document_id}"))
        yield from (triple_at(index, entities) for index in indices)


def sample_by_importance(document: Document, entities: Sequence[str], size: int, seed: int) -> Iterator[Relation]:
    """Yields all relations, sampled without replacement with probability proportional to weight.

    The weight of a relation is the product of the weights of its entities, which are one plus the number of times that
    the document names them.
    """
    weights = [1 + len(name_pattern(name).findall(document.text)) for name in entities]
    rng = random.Random(f"importance/{size}/{seed}/{document.id}")
    # Sorting by exponential arrival times with these rates samples without replacement.
    times = (-log1p(-rng.random()) / prod(weights[i] for i in indices) for indices in all_indices(len(entities), size))
    yield from sort_relations(array("d", times), entities, size, rng)


def cover_first(document: Document, entities: Sequence[str], size: int, seed: int) -> Iterator[Relation]:
    """Yields a greedy set cover of the document's statements first, then all other relations in random order.

    A relation covers the statements (sentences or lines) that name all its entities. The next relation is always the
    one that covers the most uncovered statements; then come redundant relations whose entities co-occur in a statement.
    """
    statements = [mentioned_indices(entities, statement) for statement in split_statements(document.text)]
    covers: dict[Indices, set[int]] = {}
    for number, names in enumerate(statements):
        for indices in combinations(names, size):
            covers.setdefault(indices, set()).add(number)
    first = [tuple(entities[i] for i in indices) for indices in cover_greedily(covers, f"{size}/{seed}/{document.id}")]
    chosen = set(first)
    yield from first
    yield from (relation for relation in shuffle(document.id, entities, size, seed) if relation not in chosen)


def cover_greedily(covers: Mapping[Indices, set[int]], label: str) -> list[Indices]:
    """Returns the relations by decreasing marginal coverage; ties are broken at random."""
    rng = random.Random(f"coverage/{label}")
    queue = [(-len(statements), rng.random(), indices) for indices, statements in covers.items()]
    heapq.heapify(queue)
    covered: set[int] = set()
    order, redundant = list[Indices](), list[tuple[float, Indices]]()
    while queue:
        gain, rank, indices = heapq.heappop(queue)
        current_gain = len(covers[indices] - covered)
        if not current_gain:
            redundant.append((rank, indices))
        elif current_gain < -gain:  # stale: gains only decrease, so reinsert it with the current one (lazy greedy)
            heapq.heappush(queue, (-current_gain, rank, indices))
        else:
            order.append(indices)
            covered |= covers[indices]
    return [*order, *(indices for _, indices in sorted(redundant))]


def mentioned_indices(entities: Sequence[str], text: str) -> list[int]:
    """Returns the indices of the entities that a text names."""
    names = set(find_names_in(entities, text))
    return [index for index, name in enumerate(entities) if name in names]


def all_indices(entities: int, size: int) -> Iterator[Indices]:
    """Yields the indices of the entities of each relation, in the order of `pair_at` or `triple_at`."""
    if size == PAIR:
        return combinations(range(entities), 2)
    return ((a, b, c) for c in range(entities) for b in range(c) for a in range(b))


def sort_relations(
    keys: Sequence[float], entities: Sequence[str], size: int, rng: random.Random, below: float = inf
) -> Iterator[Relation]:
    """Yields the relations with keys less than `below`, in ascending order; ties are in random order.

    `keys` has one for each relation, in the order of `all_indices`. Takes four bytes per relation.
    """
    shuffled = rng.sample(range(len(keys)), len(keys))
    order = array("I", sorted((index for index in shuffled if keys[index] < below), key=keys.__getitem__))
    at = pair_at if size == PAIR else triple_at
    return (at(index, entities) for index in order)


def pseudo_shuffled_range(count: int, rng: random.Random) -> Iterator[int]:
    """Yields each of 0..count-1 once, scattered, in constant memory: a document of 100 entities has 161,700 triples."""
    if count < 1:
        return
    stride = rng.randrange(1, count + 1)
    while gcd(stride, count) != 1:
        stride = rng.randrange(1, count + 1)
    start = rng.randrange(count)
    for step in range(count):
        yield (start + step * stride) % count


def pair_at(index: int, entities: Sequence[str]) -> tuple[str, str]:
    """Returns the index-th pair in lexicographic order."""
    first, row = 0, len(entities) - 1
    while index >= row:
        index, first, row = index - row, first + 1, row - 1
    return entities[first], entities[first + 1 + index]


def triple_at(index: int, entities: Sequence[str]) -> tuple[str, str, str]:
    """Returns the index-th 3-combination in the combinatorial number system."""
    chosen = []
    for size in (3, 2, 1):
        position = size - 1
        while comb(position + 1, size) <= index:
            position += 1
        index -= comb(position, size)
        chosen.append(entities[position])
    return chosen[2], chosen[1], chosen[0]
