"""The edges of one entity graph: a text about some entities lies on each pair of them (a triple's on three)."""

from array import array
from collections.abc import Iterable, Sequence
from itertools import combinations, groupby
from math import comb


class Edges:
    """`counted`: how many texts lie on each edge, at four bytes an edge; otherwise only whether one does, at one byte.

    Edges stand in the order (0, 1), (0, 2), ..., (1, 2), ... of the entities' numbers.
    """

    def __init__(self, entities: Sequence[str], counted: bool) -> None:
        self.numbers = {name: number for number, name in enumerate(entities)}
        self.entities, self.counted, self.pairs = len(entities), counted, comb(len(entities), 2)
        self.texts = array("I" if counted else "B", [0]) * self.pairs
        self.texts_of = [0] * self.entities

    def add(self, about: Iterable[str]) -> list[int]:
        """Returns the numbers of the entities that the text is about; names that are no entity here are none."""
        found = sorted({self.numbers[name] for name in about if name in self.numbers})
        for one, other in combinations(found, 2):
            edge = one * (2 * self.entities - one - 1) // 2 + other - one - 1
            self.texts[edge] = self.texts[edge] + 1 if self.counted else 1
        for number in found:
            self.texts_of[number] += 1
        return found

    @property
    def covered(self) -> int:
        """On how many edges a text lies."""
        return self.pairs - self.texts.count(0)

    @property
    def partners(self) -> list[int]:
        """With how many others each entity shares a text."""
        found = [0] * self.entities
        for (one, other), texts in zip(combinations(range(self.entities), 2), self.texts, strict=True):
            if texts:
                found[one] += 1
                found[other] += 1
        return found

    @property
    def written(self) -> str:
        """The number of texts on each edge in order; a negative number stands for so many edges without a text."""
        runs: list[str] = []
        for texts, edges in groupby(self.texts):
            length = sum(1 for _ in edges)
            runs += [str(texts)] * length if texts else [str(-length)]
        return " ".join(runs)
