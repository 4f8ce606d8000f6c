"""Lexical retrieval with BM25, which needs no API key, download or model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from entigraph.retrieval.base import Ranked, RetrievalContext, top_indices
from entigraph.retrieval.rerank import RerankingRetriever


@dataclass(frozen=True, kw_only=True)
class BM25(RerankingRetriever):
    """Lucene's variant of BM25 with English stemming and stop word removal. `k1` is the saturation of term frequency,
    `b` the length normalization. Texts without any word of the query are not ranked.
    """

    k1: float = 1.5
    b: float = 0.75

    def first_stage(self, texts: Sequence[str], queries: Sequence[str], context: RetrievalContext) -> Iterator[Ranked]:
        import bm25s

        index = bm25s.BM25(k1=self.k1, b=self.b)
        tokenized = tokenize(texts)
        if not any(tokenized):  # an empty index, which the library rejects
            yield from ([] for _ in queries)
            return
        index.index(tokenized, show_progress=False)
        for words in tokenize(queries):
            query_terms = [word for word in words if word in index.vocab_dict]
            if not query_terms:
                yield []
                continue
            scores = index.get_scores(query_terms)
            yield [(index, float(scores[index])) for index in top_indices(scores, self.depth) if scores[index] > 0]


def tokenize(texts: Sequence[str]) -> list[list[str]]:
    import bm25s
    import Stemmer

    words: list[list[str]] = bm25s.tokenize(
        list(texts), stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )
    return words
