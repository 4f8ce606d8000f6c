"""Counts the texts on each edge of an entity graph. A text about three entities lies on three edges."""

from array import array
from collections.abc import Iterable, Sequence
from itertools import combinations, groupby
from math import comb


class EdgeCounts:
    """`counted`: counts the texts on each edge, at four bytes per edge; otherwise whether there is one, at one byte.

    Edges are in the order (0, 1), (0, 2), ..., (1, 2), ... of the indices of the entities.
    """

    def __init__(self, entities: Sequence[str], counted: bool) -> None:
        self.indices = {name: index for index, name in enumerate(entities)}
        self.entities, self.counted, self.pairs = len(entities), counted, comb(len(entities), 2)
        self.texts = array("I" if counted else "B", [0]) * self.pairs
        self.texts_per_entity = [0] * self.entities

    def add(self, about: Iterable[str]) -> list[int]:
        """Adds a text and returns the indices of its entities. Names that are not in the graph are ignored."""
        indices = sorted({self.indices[name] for name in about if name in self.indices})
        for first, second in combinations(indices, 2):
            edge = first * (2 * self.entities - first - 1) // 2 + second - first - 1
            self.texts[edge] = self.texts[edge] + 1 if self.counted else 1
        for index in indices:
            self.texts_per_entity[index] += 1
        return indices

    @property
    def covered(self) -> int:
        """The number of edges with a text."""
        return self.pairs - self.texts.count(0)

    @property
    def partners(self) -> list[int]:
        """For each entity, the number of others with which it shares a text."""
        partners = [0] * self.entities
        for (first, second), texts in zip(combinations(range(self.entities), 2), self.texts, strict=True):
            if texts:
                partners[first] += 1
                partners[second] += 1
        return partners

    @property
    def run_length_encoded(self) -> str:
        """The number of texts on each edge in order; -n stands for n edges without a text."""
        runs: list[str] = []
        for texts, edges in groupby(self.texts):
            length = sum(1 for _ in edges)
            runs += [str(texts)] * length if texts else [str(-length)]
        return " ".join(runs)
