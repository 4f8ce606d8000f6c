"""Embedding through any OpenAI-compatible endpoint, and reranking through any Cohere-compatible one.

Both use the OpenAI SDK, with a bearer token and retries that respect Retry-After.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import inf
from threading import Lock
from typing import Any
from weakref import finalize

from entigraph.errors import ConfigError, LLMError
from entigraph.llm.cost import FREE, Price, SpendingLimit, is_private_address
from entigraph.llm.openai.openai_options import read_key, redact
from entigraph.retrieval.base import iterate_completed
from entigraph.retrieval.embedding_cache import Vector

MIN_CHARACTERS_PER_TOKEN = 3  # a conservative estimate: English text has more than four
PASSAGES_PER_SEARCH = 100  # billing unit of rerankers


@dataclass(frozen=True)
class EndpointAddress:
    """`key_env` names the environment variable with the API key; None: `default_key_env`, and no key for a server on a
    private network. `option` is the config key of the URL, for error messages.
    """

    option: str
    url: str
    key_env: str | None
    default_key_env: str
    timeout_s: float
    attempts: int

    @property
    def key(self) -> str:
        """Returns the API key. Raises LLMError if it is not set for a public endpoint."""
        option, private = f"retriever.{self.option}: {self.url}", is_private_address(self.url)
        return read_key(option, self.key_env, self.default_key_env, private=private)

    @cached_property
    def client(self) -> Any:
        from openai import DefaultHttpxClient, OpenAI

        http_client = DefaultHttpxClient(timeout=self.timeout_s, follow_redirects=False)
        finalize(self, http_client.close)
        return OpenAI(api_key=self.key, base_url=self.url, max_retries=self.attempts - 1, http_client=http_client)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Translates API errors to LLMError with the endpoint's message; the API key is redacted."""
        from openai import APIError

        try:
            yield
        except APIError as error:
            raise LLMError(
                f"retriever.{self.option}: request to {self.url} failed: {redact(error, self.key)}. "
                "Earlier responses are cached; run the same command to continue"
            ) from None


class EmbeddingEndpoint:
    """An `Embedder` that calls an OpenAI-compatible endpoint."""

    def __init__(
        self, address: EndpointAddress, model: str, batch_size: int, concurrency: int, limit: SpendingLimit
    ) -> None:
        self.address, self.model, self.limit = address, model, limit
        self.batch_size, self.concurrency = batch_size, concurrency
        self.identity, self.lock = model, Lock()
        self.counts: dict[str, Any] = {"embedding_tokens": 0, "embedding_dollars": 0.0}

    def embed(self, texts: Sequence[str], queries: bool) -> Iterator[dict[int, Vector]]:
        """Reserves the estimated cost of all batches before sending the first."""
        estimate = self.limit.price.dollars(sum(map(len, texts)) / MIN_CHARACTERS_PER_TOKEN, 0, 0)
        self.limit.reserve(estimate)
        batches = [
            range(start, min(start + self.batch_size, len(texts))) for start in range(0, len(texts), self.batch_size)
        ]
        spent_before = self.counts["embedding_dollars"]
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            futures = [pool.submit(self.embed_batch, [texts[i] for i in batch], batch) for batch in batches]
            yield from iterate_completed(futures)
        finally:
            pool.shutdown(cancel_futures=True)
            self.limit.record(estimate, self.counts["embedding_dollars"] - spent_before)

    def embed_batch(self, texts: Sequence[str], indices: Sequence[int]) -> dict[int, Vector]:
        import numpy as np

        with self.address.translate_errors():
            answer = self.address.client.embeddings.create(model=self.model, input=texts, encoding_format="float")
        billed = getattr(answer.usage, "prompt_tokens", 0)  # some endpoints do not report it
        tokens = billed or round(sum(map(len, texts)) / MIN_CHARACTERS_PER_TOKEN)
        with self.lock:
            self.counts["embedding_tokens"] += tokens
            self.counts["embedding_dollars"] += self.limit.price.dollars(tokens, 0, 0)
        vectors = {entry.index: np.asarray(entry.embedding, dtype=np.float32) for entry in answer.data}
        if sorted(vectors) != list(range(len(texts))) or len({len(vector) for vector in vectors.values()}) != 1:
            counts = f"{len(vectors)} vectors for {len(texts)} texts"
            raise LLMError(f"retriever.base_url: {self.address.url} returned {counts}")
        return {indices[position]: vector for position, vector in vectors.items()}


class RerankEndpoint:
    """A `Reranker` that calls Cohere's POST /rerank, also implemented by vLLM and others. The limit's price is per
    million searches.
    """

    def __init__(self, address: EndpointAddress, model: str, concurrency: int, limit: SpendingLimit) -> None:
        self.address, self.model, self.concurrency, self.limit = address, model, concurrency, limit
        self.identity, self.lock = model, Lock()
        self.counts: dict[str, Any] = {"rerank_searches": 0, "rerank_dollars": 0.0}

    def scores(self, query: str, texts: Sequence[str]) -> Vector:
        import numpy as np

        body = {"model": self.model, "query": query, "documents": list(texts), "top_n": len(texts)}
        estimate, dollars = self.limit.price.dollars(count_searches(len(texts)), 0, 0), 0.0
        self.limit.reserve(estimate)
        try:
            with self.address.translate_errors():
                answer = self.address.client.post("/rerank", body=body, cast_to=object)
            units = (answer.get("meta") or {}).get("billed_units") or {}
            billed = units.get("search_units") or count_searches(len(texts))
            dollars = self.limit.price.dollars(billed, 0, 0)
            with self.lock:
                self.counts["rerank_searches"] += billed
                self.counts["rerank_dollars"] += dollars
        finally:
            self.limit.record(estimate, dollars)
        scores = {entry["index"]: entry["relevance_score"] for entry in answer.get("results", ())}
        if sorted(scores) != list(range(len(texts))):
            raise LLMError(f"retriever.reranker_url: {self.address.url} scored {len(scores)} of {len(texts)} passages")
        return np.asarray([scores[index] for index in range(len(texts))], dtype=np.float32)


def count_searches(passages: int) -> int:
    """Returns the number of searches billed for one query with this many passages."""
    return -(-passages // PASSAGES_PER_SEARCH)


def endpoint_price(url: str | None, dollars: float) -> Price:
    """Returns the price per million units. Local models and servers on a private network are free."""
    return FREE if not url or is_private_address(url) else Price(dollars, dollars, 0.0)


def check_price(key: str, unit: str, url: str, price: float | None) -> None:
    """Raises ConfigError if the price of a public endpoint is missing or negative."""
    if price is None and not is_private_address(url):
        raise ConfigError(f"retriever.{key}: not set; set the price of {url} in dollars per {unit}")
    if price is not None and not 0 <= price < inf:
        raise ConfigError(f"retriever.{key} must be dollars of at least 0, got {price}")
