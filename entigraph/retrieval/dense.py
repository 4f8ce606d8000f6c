"""Nearest by embedding, in Euclidean distance over all passages, exactly (paper App. F).

The paper's FAISS index is a flat one: an exact search too. Over the 31,000 passages that QuALITY gives at most, one
matrix product a block of queries is that search, and needs no further library.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from entigraph.retrieval.base import Ranked, Vector, best
from entigraph.retrieval.embedding_cache import Vectors, key_of

QUERIES_AT_ONCE = 256


class Embedder(Protocol):
    """`identity` tells its vectors from those of another model."""

    identity: str
    reported: dict[str, Any]

    def embed(self, texts: Sequence[str], queries: bool) -> Iterator[dict[int, Vector]]:
        """A vector by the number of its text, in batches, as they come. Raises LLMError where embedding them could cost
        more than was allowed.
        """
        ...


class DenseRetriever:
    def __init__(self, embedder: Embedder, vectors: Vectors) -> None:
        self.embedder, self.vectors = embedder, vectors
        self.reported: dict[str, Any] = {"embedded": 0}

    def rank(self, texts: Sequence[str], queries: Sequence[str], depth: int) -> Iterator[Ranked]:
        if not texts or not queries:
            yield from ([] for _ in queries)
            return
        passages, asked = self.matrix(texts, False), self.matrix(queries, True)
        self.reported |= self.embedder.reported
        squares = (passages**2).sum(axis=1)
        for start in range(0, len(asked), QUERIES_AT_ONCE):
            block = asked[start : start + QUERIES_AT_ONCE]
            # Of the squared distance, what differs between passages and decides which is nearer.
            near = 2 * block @ passages.T - squares
            for query, scores in zip(block, near, strict=True):
                lengths = float((query**2).sum())
                yield [(place, float(scores[place]) - lengths) for place in best(scores, depth)]

    def keys(self, texts: Sequence[str], queries: bool) -> list[bytes]:
        return [key_of("embedding", self.embedder.identity, queries, text) for text in texts]

    def unknown(self, texts: Sequence[str], queries: bool) -> list[str]:
        keys = self.keys(texts, queries)
        known = self.vectors.get(list(dict.fromkeys(keys)))
        return list({key: text for key, text in zip(keys, texts, strict=True) if key not in known}.values())

    def matrix(self, texts: Sequence[str], queries: bool) -> Vector:
        """(texts, width). What is computed is kept batch by batch, so that a kill costs one."""
        todo = self.unknown(texts, queries)
        for batch in self.embedder.embed(todo, queries):
            found = self.keys([todo[number] for number in batch], queries)
            self.vectors.put(dict(zip(found, batch.values(), strict=True)))
            self.reported["embedded"] += len(batch)
        keys = self.keys(texts, queries)
        known = self.vectors.get(list(dict.fromkeys(keys)))
        return np.stack([known[key] for key in keys]).astype(np.float32)
