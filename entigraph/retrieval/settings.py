"""How passages are cut, found and put in order: conf/retriever."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from entigraph.errors import ConfigError
from entigraph.retrieval.base import Reranker, Retriever
from entigraph.retrieval.vectors import Vectors

SEPARATORS = ("\n\n", "\n", " ", "")  # those of the splitter that the paper used


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Passages of at most `characters`, cut at the first of `separators` that fits. `depth` of them are ranked for each
    question; an evaluation shows the first of these. `with_choices`: the question is looked up with its options.

    Models take `batch_size` texts at a time, endpoints `concurrency` requests.

    `reranker` orders them anew ("": nobody): a cross-encoder's folder or hub name, or where `reranker_url` is given the
    name of a model at that Cohere-compatible address; its key is read from the environment's `reranker_key_env`.
    """

    characters: int = 1024
    separators: list[str] = field(default_factory=lambda: list(SEPARATORS))
    with_choices: bool = True
    depth: int = 128
    batch_size: int = 64
    concurrency: int = 8
    reranker: str = ""
    reranker_url: str | None = None
    reranker_key_env: str = "CO_API_KEY"
    timeout_s: float = 120.0
    attempts: int = 6
    name: ClassVar[str]

    def __post_init__(self) -> None:
        for key in ("characters", "depth", "batch_size", "concurrency", "timeout_s", "attempts"):
            if getattr(self, key) <= 0:
                raise ConfigError(f"retriever.{key}: {getattr(self, key)} found, more than 0 expected")
        if self.reranker_url and not self.reranker:
            raise ConfigError("retriever.reranker: nothing given; name the model to ask at retriever.reranker_url")

    @property
    def models(self) -> Sequence[str]:
        """Folders or names of models: their content decides the rankings."""
        return [self.reranker] if self.reranker else []

    def check(self) -> None:
        """Raises LLMError where a key is missing."""
        if self.reranker_url:
            _ = self.reranker_address.key

    @property
    def reranker_address(self) -> Any:
        from entigraph.retrieval.endpoints import Address

        return Address("reranker_url", self.reranker_url or "", self.reranker_key_env, self.timeout_s, self.attempts)

    def retriever(self, vectors: Vectors) -> Retriever:
        from entigraph.retrieval.rerank import RerankedRetriever

        return RerankedRetriever(self.first(vectors), self.second(), vectors) if self.reranker else self.first(vectors)

    def first(self, vectors: Vectors) -> Retriever:
        raise NotImplementedError

    def second(self) -> Reranker:
        if self.reranker_url:
            from entigraph.retrieval.endpoints import RerankEndpoint

            return RerankEndpoint(self.reranker_address, self.reranker, self.concurrency)
        from entigraph.retrieval.local import LocalReranker

        return LocalReranker(self.reranker, self.batch_size)


@dataclass(frozen=True, kw_only=True)
class BM25(Settings):
    """`k1` and `b`: how soon a word's repetition counts no more, and how much a long passage is held against it."""

    k1: float = 1.5
    b: float = 0.75
    name: ClassVar[str] = "bm25"

    def first(self, vectors: Vectors) -> Retriever:
        from entigraph.retrieval.bm25 import BM25Retriever

        return BM25Retriever(self.k1, self.b)


@dataclass(frozen=True, kw_only=True)
class Dense(Settings):
    """`model`: a sentence-transformers folder or hub name, or where `base_url` is given the name of a model at that
    OpenAI-compatible address. A command that would spend more than `max_cost_usd` on embeddings, at `price` dollars
    per million tokens, sends nothing; an own server costs nothing.
    """

    model: str = ""
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    price: float | None = None
    max_cost_usd: float | None = 5.0
    name: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model:
            raise ConfigError(
                "retriever.model: nothing given; give the folder of a sentence-transformers model, or "
                "retriever.base_url=ADDRESS and the name of a model there"
            )
        if self.base_url:
            from entigraph.llm.cost import is_own

            if self.price is None and not is_own(self.base_url):
                raise ConfigError(
                    f"retriever.price: not set; {self.base_url} costs something: give dollars per million tokens"
                )

    @property
    def models(self) -> Sequence[str]:
        return [self.model, *super().models]

    def check(self) -> None:
        super().check()
        if self.base_url:
            _ = self.address.key

    @property
    def address(self) -> Any:
        from entigraph.retrieval.endpoints import Address

        return Address("base_url", self.base_url or "", self.api_key_env, self.timeout_s, self.attempts)

    def first(self, vectors: Vectors) -> Retriever:
        from entigraph.retrieval.dense import DenseRetriever, Embedder

        embedder: Embedder
        if self.base_url:
            from entigraph.retrieval.endpoints import EmbeddingEndpoint

            price, limit = self.price or 0.0, self.max_cost_usd
            embedder = EmbeddingEndpoint(self.address, self.model, self.batch_size, self.concurrency, price, limit)
        else:
            from entigraph.retrieval.local import LocalEmbedder

            embedder = LocalEmbedder(self.model, self.batch_size)
        return DenseRetriever(embedder, vectors)
