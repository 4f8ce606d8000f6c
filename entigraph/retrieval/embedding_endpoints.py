"""Embeddings from any OpenAI-compatible endpoint, rerankings from any Cohere-compatible one.

Both are asked through the OpenAI SDK: a bearer key, and tries again that honour Retry-After.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np

from entigraph.errors import LLMError
from entigraph.llm.cost import SpendingLimit, is_private_address
from entigraph.retrieval.base import Vector, answered
from entigraph.retrieval.retrievers import CHARACTERS_A_TOKEN, searches


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
        key = os.environ.get(self.key_env) or ("none-needed" if is_private_address(self.url) else "")
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
    def __init__(self, address: Address, model: str, batch_size: int, concurrency: int, budget: SpendingLimit) -> None:
        self.address, self.model, self.budget = address, model, budget
        self.batch_size, self.concurrency = batch_size, concurrency
        self.identity, self.counting = model, Lock()
        self.reported: dict[str, Any] = {"embedding_tokens": 0, "embedding_dollars": 0.0}

    def embed(self, texts: Sequence[str], queries: bool) -> Iterator[dict[int, Vector]]:
        """All of them are reserved for before the first is sent."""
        estimate = self.budget.price.of(sum(map(len, texts)) / CHARACTERS_A_TOKEN, 0, 0)
        self.budget.reserve(estimate)
        batches = [
            range(start, min(start + self.batch_size, len(texts))) for start in range(0, len(texts), self.batch_size)
        ]
        before = self.reported["embedding_dollars"]
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            yield from answered([pool.submit(self.ask, [texts[i] for i in batch], batch) for batch in batches])
        finally:
            pool.shutdown(cancel_futures=True)
            self.budget.settle(estimate, self.reported["embedding_dollars"] - before)

    def ask(self, texts: Sequence[str], numbers: Sequence[int]) -> dict[int, Vector]:
        with self.address.explained():
            answer = self.address.client.embeddings.create(model=self.model, input=texts, encoding_format="float")
        told = getattr(answer.usage, "prompt_tokens", 0)  # not every endpoint says it
        tokens = told or round(sum(map(len, texts)) / CHARACTERS_A_TOKEN)
        with self.counting:
            self.reported["embedding_tokens"] += tokens
            self.reported["embedding_dollars"] += self.budget.price.of(tokens, 0, 0)
        found = {entry.index: np.asarray(entry.embedding, dtype=np.float32) for entry in answer.data}
        if sorted(found) != list(range(len(texts))) or len({len(vector) for vector in found.values()}) != 1:
            raise LLMError(f"retriever.base_url: {self.address.url} gave {len(found)} vectors for {len(texts)} texts")
        return {numbers[place]: vector for place, vector in found.items()}


class RerankEndpoint:
    """POST /rerank as Cohere has it; vLLM and others serve the same. The budget's price is of a million searches."""

    def __init__(self, address: Address, model: str, concurrency: int, budget: SpendingLimit) -> None:
        self.address, self.model, self.concurrency, self.budget = address, model, concurrency, budget
        self.identity, self.counting = model, Lock()
        self.reported: dict[str, Any] = {"rerank_searches": 0, "rerank_dollars": 0.0}

    def scores(self, query: str, texts: Sequence[str]) -> Vector:
        body = {"model": self.model, "query": query, "documents": list(texts), "top_n": len(texts)}
        estimate, dollars = self.budget.price.of(searches(len(texts)), 0, 0), 0.0
        self.budget.reserve(estimate)
        try:
            with self.address.explained():
                answer = self.address.client.post("/rerank", body=body, cast_to=object)
            billed = ((answer.get("meta") or {}).get("billed_units") or {}).get("search_units") or searches(len(texts))
            dollars = self.budget.price.of(billed, 0, 0)
            with self.counting:
                self.reported["rerank_searches"] += billed
                self.reported["rerank_dollars"] += dollars
        finally:
            self.budget.settle(estimate, dollars)
        found = {entry["index"]: entry["relevance_score"] for entry in answer.get("results", ())}
        if sorted(found) != list(range(len(texts))):
            raise LLMError(f"retriever.reranker_url: {self.address.url} scored {len(found)} of {len(texts)} passages")
        return np.asarray([found[place] for place in range(len(texts))], dtype=np.float32)
