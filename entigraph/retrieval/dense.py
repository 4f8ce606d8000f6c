"""Dense retrieval: exact nearest neighbors by Euclidean distance between embeddings (paper App. F).

The paper uses a flat FAISS index, which is exact too. For QuALITY's at most 31,000 passages, one matrix product per
block of queries is sufficient and needs no additional library.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError
from entigraph.llm.cost import Price
from entigraph.llm.openai.openai_options import DEFAULT_KEY_VARIABLE, check_address, check_key_variable
from entigraph.retrieval.base import Ranked, RetrievalContext, RetrievalCost, top_indices
from entigraph.retrieval.embedding_cache import Vector, hash_request
from entigraph.retrieval.rerank import RerankingRetriever
from entigraph.retrieval.retrieval_endpoints import (
    MIN_CHARACTERS_PER_TOKEN,
    EmbeddingEndpoint,
    EndpointAddress,
    check_price,
    endpoint_price,
)
from entigraph.retrieval.sentence_transformers_models import LocalEmbedder

QUERIES_PER_BLOCK = 256
Embedder = LocalEmbedder | EmbeddingEndpoint


@dataclass(frozen=True, kw_only=True)
class Dense(RerankingRetriever):
    """`model` is the folder or Hub ID of a sentence-transformers model, or, with `base_url`, a model served by that
    OpenAI-compatible endpoint at `price` dollars per million tokens.
    """

    model: str = runtime_field("")
    base_url: str | None = runtime_field(None)
    api_key_env: str | None = runtime_field(None)
    price: float | None = runtime_field(None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model:
            raise ConfigError(
                "retriever.model: not set; set it to the folder of a sentence-transformers model, or set "
                "retriever.base_url=URL and the name of a model at that endpoint"
            )
        check_key_variable("retriever.api_key_env", self.api_key_env)
        if self.base_url:
            check_address("retriever.base_url", self.base_url, "retriever.api_key_env")
            check_price("price", "million tokens", self.base_url, self.price)

    @property
    def embedding_price(self) -> Price:
        return endpoint_price(self.base_url, self.price or 0.0)

    @property
    def paid(self) -> bool:
        return super().paid or not self.embedding_price.free

    @property
    def models(self) -> Sequence[str]:
        return [self.model, *super().models]

    @property
    def address(self) -> EndpointAddress:
        url, keys = self.base_url or "", (self.api_key_env, DEFAULT_KEY_VARIABLE)
        return EndpointAddress("base_url", url, *keys, self.timeout_s, self.attempts)

    def check(self) -> None:
        super().check()
        if self.base_url:
            _ = self.address.key

    def estimate_cost(self, characters: int, questions: int) -> RetrievalCost:
        cost = super().estimate_cost(characters, questions)
        tokens = 0.0 if self.embedding_price.free else characters / MIN_CHARACTERS_PER_TOKEN
        return RetrievalCost(tokens, cost.searches, cost.dollars + self.embedding_price.dollars(tokens, 0, 0))

    def first_stage(self, texts: Sequence[str], queries: Sequence[str], context: RetrievalContext) -> Iterator[Ranked]:
        return rank_by_distance(texts, queries, self.depth, self.build_embedder(context), context)

    def build_embedder(self, context: RetrievalContext) -> Embedder:
        if not self.base_url:
            return LocalEmbedder(self.model, self.batch_size)
        limit = self.spending_limit(context, self.embedding_price)
        return EmbeddingEndpoint(self.address, self.model, self.batch_size, self.concurrency, limit)


def rank_by_distance(
    texts: Sequence[str], queries: Sequence[str], depth: int, embedder: Embedder, context: RetrievalContext
) -> Iterator[Ranked]:
    """Yields the nearest texts of each query. Scores are negative squared distances."""
    context.counts["embedded"] = 0
    if not texts or not queries:
        yield from ([] for _ in queries)
        return
    passages = embed_all(texts, False, embedder, context)
    embedded_queries = embed_all(queries, True, embedder, context)
    context.counts.update(embedder.counts)
    squares = (passages**2).sum(axis=1)
    for start in range(0, len(embedded_queries), QUERIES_PER_BLOCK):
        block = embedded_queries[start : start + QUERIES_PER_BLOCK]
        # The negative squared distance without the term that is constant per query.
        block_scores = 2 * block @ passages.T - squares
        for query, scores in zip(block, block_scores, strict=True):
            query_square = float((query**2).sum())
            yield [(index, float(scores[index]) - query_square) for index in top_indices(scores, depth)]


def embed_all(texts: Sequence[str], queries: bool, embedder: Embedder, context: RetrievalContext) -> Vector:
    """Returns embeddings of shape (texts, dimension). Each batch is cached as soon as it is computed."""
    keys = [hash_request("embedding", embedder.identity, queries, text) for text in texts]
    distinct = dict(zip(keys, texts, strict=True))
    cached = context.embeddings.get(list(distinct))
    missing = [key for key in distinct if key not in cached]
    unit = "queries" if queries else "passages"
    with context.progress.bar("embedding", len(distinct), unit) as advance:
        advance(len(cached), resumed=True)
        for batch in embedder.embed([distinct[key] for key in missing], queries):
            vectors = {missing[index]: vector for index, vector in batch.items()}
            context.embeddings.put(vectors)
            cached |= {key: vector.astype(np.float32) for key, vector in vectors.items()}
            context.counts["embedded"] += len(batch)
            advance(len(batch))
    return np.stack([cached[key] for key in keys]).astype(np.float32)
