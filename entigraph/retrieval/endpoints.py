"""Embeddings from any OpenAI-compatible endpoint, rerankings from any Cohere-compatible one.

Both are asked through the OpenAI SDK: a bearer key, and tries again that honour Retry-After.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from entigraph.errors import LLMError
from entigraph.llm.cost import MILLION, is_own
from entigraph.retrieval.base import Vector

CHARACTERS_A_TOKEN = 3  # a careful estimate: English has more than four


@dataclass(frozen=True)
class Address:
    """`key_env` names the environment variable that holds the key; an own server needs none."""

    option: str
    url: str
    key_env: str
    timeout_s: float
    attempts: int

    @property
    def key(self) -> str:
        """Raises LLMError where an endpoint of somebody else's has none."""
        key = os.environ.get(self.key_env) or ("none-needed" if is_own(self.url) else "")
        if not key:
            raise LLMError(
                f"retriever.{self.option}: the environment has no {self.key_env}; export the key of {self.url}"
            )
        return key

    @cached_property
    def client(self) -> Any:
        from openai import OpenAI

        return OpenAI(api_key=self.key, base_url=self.url, timeout=self.timeout_s, max_retries=self.attempts - 1)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """What the endpoint says, without the key that it may repeat."""
        from openai import APIError

        try:
            yield
        except APIError as error:
            told = str(getattr(error, "message", error)).replace(self.key, "<key>")[:300]
            raise LLMError(
                f"retriever.{self.option}: {self.url} gave no answer: {told}. "
                "What it answered before is kept; run the same command to go on"
            ) from None


class EmbeddingEndpoint:
    def __init__(
        self, address: Address, model: str, batch_size: int, concurrency: int, price: float, limit: float | None
    ) -> None:
        """`price` in dollars per million tokens; `limit` in dollars, of what one command may spend."""
        self.address, self.model = address, model
        self.batch_size, self.concurrency = batch_size, concurrency
        self.price, self.limit = (0.0 if is_own(address.url) else price), limit
        self.identity = model
        self.reported: dict[str, Any] = {"embedding_tokens": 0, "embedding_dollars": 0.0}

    def check_cost(self, texts: Sequence[str]) -> None:
        dollars = sum(map(len, texts)) / CHARACTERS_A_TOKEN * self.price / MILLION
        if self.limit is not None and dollars > self.limit:
            raise LLMError(
                f"retriever.max_cost_usd: embedding {len(texts):,} texts would cost about ${dollars:,.2f}, the limit "
                f"is ${self.limit:,.2f}. Raise it, or ask fewer questions (evaluation limit); nothing was sent"
            )

    def embed(self, texts: Sequence[str], queries: bool) -> Iterator[dict[int, Vector]]:
        batches = [
            range(start, min(start + self.batch_size, len(texts))) for start in range(0, len(texts), self.batch_size)
        ]
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            for done in as_completed([pool.submit(self.ask, [texts[i] for i in batch], batch) for batch in batches]):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def ask(self, texts: Sequence[str], numbers: Sequence[int]) -> dict[int, Vector]:
        with self.address.explained():
            answer = self.address.client.embeddings.create(model=self.model, input=texts, encoding_format="float")
        found = {entry.index: np.asarray(entry.embedding, dtype=np.float32) for entry in answer.data}
        if sorted(found) != list(range(len(texts))) or len({len(vector) for vector in found.values()}) != 1:
            raise LLMError(f"retriever.base_url: {self.address.url} gave {len(found)} vectors for {len(texts)} texts")
        tokens = getattr(answer.usage, "prompt_tokens", 0) or 0
        self.reported["embedding_tokens"] += tokens
        self.reported["embedding_dollars"] += tokens * self.price / MILLION
        return {numbers[place]: vector for place, vector in found.items()}


class RerankEndpoint:
    """POST /rerank as Cohere has it; vLLM and others serve the same."""

    def __init__(self, address: Address, model: str, concurrency: int) -> None:
        self.address, self.model, self.concurrency = address, model, concurrency
        self.identity = model
        self.reported: dict[str, Any] = {}

    def scores(self, query: str, texts: Sequence[str]) -> Vector:
        body = {"model": self.model, "query": query, "documents": list(texts), "top_n": len(texts)}
        with self.address.explained():
            answer = self.address.client.post("/rerank", body=body, cast_to=object)
        found = {entry["index"]: entry["relevance_score"] for entry in answer.get("results", ())}
        if sorted(found) != list(range(len(texts))):
            raise LLMError(f"retriever.reranker_url: {self.address.url} scored {len(found)} of {len(texts)} passages")
        return np.asarray([found[place] for place in range(len(texts))], dtype=np.float32)
