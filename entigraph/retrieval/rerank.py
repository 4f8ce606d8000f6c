"""Reranking: a cross-encoder or an endpoint reorders the best passages of a retriever (paper App. F: 128 of them)."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from entigraph.config.fields import check_positive, runtime_field
from entigraph.errors import ConfigError
from entigraph.llm.cost import Price, SpendingLimit
from entigraph.llm.openai.openai_options import check_address, check_key_variable
from entigraph.retrieval.base import Ranked, RetrievalContext, RetrievalCost, Retriever, iterate_completed, top_indices
from entigraph.retrieval.embedding_cache import Vector, hash_request
from entigraph.retrieval.retrieval_endpoints import (
    EndpointAddress,
    RerankEndpoint,
    check_price,
    count_searches,
    endpoint_price,
)
from entigraph.retrieval.sentence_transformers_models import LocalReranker
from entigraph.runtime.progress import Advance

QUERIES_PER_BLOCK = 64
Reranker = LocalReranker | RerankEndpoint


@dataclass(frozen=True, kw_only=True)
class RerankingRetriever(Retriever):
    """Base class of retrievers with an optional reranker.

    `reranker` is the folder or Hub ID of a cross-encoder, or, with `reranker_url`, a model served by that
    Cohere-compatible endpoint ("": no reranking). The environment variable `reranker_key_env` holds the API key (None:
    CO_API_KEY). `reranker_price` is in dollars per thousand searches; a search is one query with up to 100 passages.
    `max_cost_usd` limits the spending of one command, including all jobs of a sweep. Servers on a private network are
    free.
    """

    batch_size: int = runtime_field(64)
    concurrency: int = runtime_field(8)
    reranker: str = runtime_field("")
    reranker_url: str | None = runtime_field(None)
    reranker_key_env: str | None = runtime_field(None)
    reranker_price: float | None = runtime_field(None)
    max_cost_usd: float | None = runtime_field(5.0)
    timeout_s: float = runtime_field(120.0)
    attempts: int = runtime_field(6)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "retriever", "batch_size", "concurrency", "timeout_s", "attempts")
        check_key_variable("retriever.reranker_key_env", self.reranker_key_env)
        if self.reranker_url and not self.reranker:
            raise ConfigError("retriever.reranker: not set; name the model at retriever.reranker_url")
        if self.reranker_url:
            check_address("retriever.reranker_url", self.reranker_url, "retriever.reranker_key_env")
            check_price("reranker_price", "thousand searches", self.reranker_url, self.reranker_price)

    @abstractmethod
    def first_stage(self, texts: Sequence[str], queries: Sequence[str], context: RetrievalContext) -> Iterator[Ranked]:
        """Yields up to `depth` texts for each query."""

    def rank(self, texts: Sequence[str], queries: Sequence[str], context: RetrievalContext) -> Iterator[Ranked]:
        ranked = self.first_stage(texts, queries, context)
        if not self.reranker:
            return ranked
        return rerank(ranked, texts, queries, self.depth, self.build_reranker(context), context)

    @property
    def search_price(self) -> Price:
        """Returns the price in dollars per million searches."""
        return endpoint_price(self.reranker_url, 1000 * (self.reranker_price or 0.0))

    @property
    def paid(self) -> bool:
        return not self.search_price.free

    @property
    def models(self) -> Sequence[str]:
        return [self.reranker] if self.reranker else []

    @property
    def reranker_address(self) -> EndpointAddress:
        url, keys = self.reranker_url or "", (self.reranker_key_env, "CO_API_KEY")
        return EndpointAddress("reranker_url", url, *keys, self.timeout_s, self.attempts)

    def check(self) -> None:
        if self.reranker_url:
            _ = self.reranker_address.key

    def estimate_cost(self, characters: int, questions: int) -> RetrievalCost:
        searches = 0 if self.search_price.free else questions * count_searches(self.depth)
        return RetrievalCost(0.0, searches, self.search_price.dollars(searches, 0, 0))

    def build_reranker(self, context: RetrievalContext) -> Reranker:
        if not self.reranker_url:
            return LocalReranker(self.reranker, self.batch_size)
        limit = self.spending_limit(context, self.search_price)
        return RerankEndpoint(self.reranker_address, self.reranker, self.concurrency, limit)

    def spending_limit(self, context: RetrievalContext, price: Price) -> SpendingLimit:
        return SpendingLimit(
            context.spending, self.max_cost_usd, price, "retriever.max_cost_usd", "lower the evaluation's limit"
        )


def rerank(
    ranked: Iterator[Ranked],
    texts: Sequence[str],
    queries: Sequence[str],
    depth: int,
    reranker: Reranker,
    context: RetrievalContext,
) -> Iterator[Ranked]:
    """Yields the texts of each query in the order of the reranker, with its scores."""
    context.counts["reranked"] = 0
    pairs = zip(queries, ranked, strict=True)
    with (
        ThreadPoolExecutor(reranker.concurrency) as pool,
        context.progress.bar("reranking", len(queries), "queries") as advance,
    ):
        while block := list(islice(pairs, QUERIES_PER_BLOCK)):
            requests = [(query, [texts[index] for index, _ in candidates]) for query, candidates in block]
            scores = score_block(requests, reranker, context, pool, advance)
            for (_, candidates), values in zip(block, scores, strict=True):
                order = top_indices(values, depth) if candidates else []
                yield [(candidates[position][0], float(values[position])) for position in order]
    context.counts.update(reranker.counts)


def score_block(
    requests: Sequence[tuple[str, Sequence[str]]],
    reranker: Reranker,
    context: RetrievalContext,
    pool: ThreadPoolExecutor,
    advance: Advance,
) -> list[Vector]:
    """Returns the scores of each (query, texts) request; caches each response as it arrives."""
    import numpy as np

    def score(key: bytes, query: str, texts: Sequence[str]) -> tuple[bytes, Vector]:
        return key, reranker.scores(query, texts)

    keys = [hash_request("reranking", reranker.identity, *request) for request in requests]
    scores = context.embeddings.get(keys)
    missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in scores and request[1]}
    advance(len(requests) - len(missing), resumed=True)
    futures = [pool.submit(score, key, *request) for key, request in missing.items()]
    try:
        for key, values in iterate_completed(futures):
            context.embeddings.put({key: values})
            scores[key] = values
            context.counts["reranked"] += 1
            advance(1)
    finally:
        for future in futures:
            future.cancel()
    no_scores: Vector = np.empty(0, dtype=np.float32)  # of a query without texts
    return [scores.get(key, no_scores) for key in keys]
