"""Words in common, weighed by their rarity: no key, no download, no model."""

from collections.abc import Iterator, Sequence
from typing import Any

import bm25s
import Stemmer

from entigraph.retrieval.base import Ranked, best


class BM25Retriever:
    """Lucene's variant with its usual constants, English stems, no stop words. A text without a common word is none."""

    def __init__(self, k1: float, b: float) -> None:
        self.k1, self.b = k1, b
        self.reported: dict[str, Any] = {}

    def rank(self, texts: Sequence[str], queries: Sequence[str], depth: int) -> Iterator[Ranked]:
        index = bm25s.BM25(k1=self.k1, b=self.b)
        known = tokens(texts)
        if not any(known):  # nothing to look up, which the library takes for a fault
            yield from ([] for _ in queries)
            return
        index.index(known, show_progress=False)
        for words in tokens(queries):
            found = [word for word in words if word in index.vocab_dict]
            if not found:
                yield []
                continue
            scores = index.get_scores(found)
            yield [(place, float(scores[place])) for place in best(scores, depth) if scores[place] > 0]


def tokens(texts: Sequence[str]) -> list[list[str]]:
    found: list[list[str]] = bm25s.tokenize(
        list(texts), stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )
    return found
