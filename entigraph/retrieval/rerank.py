"""The best passages of a retriever in the order that a reranker gives them (paper App. F: 128 of them)."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from entigraph.retrieval.base import Ranked, Reranker, Retriever, Vector, answered, best
from entigraph.retrieval.embedding_cache import Vectors, key_of

QUERIES_AT_ONCE = 64


class RerankedRetriever:
    """One request of the reranker for each query, several at a time, each kept as soon as it is answered."""

    def __init__(self, first: Retriever, reranker: Reranker, vectors: Vectors) -> None:
        self.first, self.reranker, self.vectors = first, reranker, vectors
        self.reported: dict[str, Any] = {"reranked": 0}

    def rank(self, texts: Sequence[str], queries: Sequence[str], depth: int) -> Iterator[Ranked]:
        found = zip(queries, self.first.rank(texts, queries, depth), strict=True)
        with ThreadPoolExecutor(self.reranker.concurrency) as pool:
            while block := list(islice(found, QUERIES_AT_ONCE)):
                yield from self.ordered(block, texts, depth, pool)
        self.reported |= {**self.first.reported, **self.reranker.reported}

    def ordered(
        self, block: Sequence[tuple[str, Ranked]], texts: Sequence[str], depth: int, pool: ThreadPoolExecutor
    ) -> Iterator[Ranked]:
        asked = [(query, [texts[place] for place, _ in ranked]) for query, ranked in block]
        keys = [key_of("reranking", self.reranker.identity, *each) for each in asked]
        known = self.vectors.get(keys)
        todo = {key: each for key, each in zip(keys, asked, strict=True) if key not in known and each[1]}
        running = [pool.submit(self.scored, key, *each) for key, each in todo.items()]
        try:
            for key, scores in answered(running):
                self.vectors.put({key: scores})
                known[key] = scores
                self.reported["reranked"] += 1
        finally:
            for each in running:
                each.cancel()
        for key, (_, ranked) in zip(keys, block, strict=True):
            yield in_order(ranked, known[key], depth) if ranked else []

    def scored(self, key: bytes, query: str, texts: Sequence[str]) -> tuple[bytes, Vector]:
        return key, self.reranker.scores(query, texts)


def in_order(ranked: Ranked, scores: Vector, depth: int) -> Ranked:
    return [(ranked[place][0], float(scores[place])) for place in best(scores, depth)]
