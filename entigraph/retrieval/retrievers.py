"""How passages are cut, found and put in order: conf/retriever."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError
from entigraph.llm.cost import FREE, Price, SpendingLimit, is_private_address
from entigraph.llm.response_cache import ResponseCache
from entigraph.retrieval.base import Reranker, Retriever
from entigraph.retrieval.embedding_cache import Vectors

SEPARATORS = ("\n\n", "\n", " ", "")  # those of the splitter that the paper used
CHARACTERS_A_TOKEN = 3  # a careful estimate: English has more than four
PASSAGES_A_SEARCH = 100  # of a reranker's bill


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Passages of at most `characters`, cut at the first of `separators` that fits. `depth` of them are ranked for each
    question; an evaluation shows the first of these. `with_choices`: the question is looked up with its options.

    Models take `batch_size` texts at a time, endpoints `concurrency` requests.

    `reranker` orders them anew ("": nobody): a cross-encoder's folder or hub name, or where `reranker_url` is given the
    name of a model at that Cohere-compatible address; its key is read from the environment's `reranker_key_env`. It
    costs `reranker_price` dollars per thousand searches, each of one question and up to 100 passages. One command (a
    whole sweep) stops before it has spent more than `max_cost_usd` on endpoints; an own server costs nothing.
    """

    characters: int = 1024
    separators: list[str] = field(default_factory=lambda: list(SEPARATORS))
    with_choices: bool = True
    depth: int = 128
    batch_size: int = runtime_field(64)
    concurrency: int = runtime_field(8)
    reranker: str = runtime_field("")
    reranker_url: str | None = runtime_field(None)
    reranker_key_env: str = runtime_field("CO_API_KEY")
    reranker_price: float | None = runtime_field(None)
    max_cost_usd: float | None = runtime_field(5.0)
    timeout_s: float = runtime_field(120.0)
    attempts: int = runtime_field(6)
    name: ClassVar[str]

    def __post_init__(self) -> None:
        for key in ("characters", "depth", "batch_size", "concurrency", "timeout_s", "attempts"):
            if getattr(self, key) <= 0:
                raise ConfigError(f"retriever.{key}: {getattr(self, key)} found, more than 0 expected")
        if self.reranker_url and not self.reranker:
            raise ConfigError("retriever.reranker: nothing given; name the model to ask at retriever.reranker_url")
        if self.reranker_url:
            refuse_unpriced("reranker_price", "thousand searches", self.reranker_url, self.reranker_price)

    @property
    def searching(self) -> Price:
        """Dollars per million searches."""
        return price_at(self.reranker_url, 1000 * (self.reranker_price or 0.0))

    @property
    def embedding(self) -> Price:
        """Dollars per million tokens."""
        return FREE

    @property
    def paid(self) -> bool:
        return not (self.searching.free and self.embedding.free)

    def cost(self, characters: int, questions: int) -> tuple[float, int, float]:
        """Tokens to embed, searches, and the dollars of both, at most, where nothing is known yet."""
        tokens = 0.0 if self.embedding.free else characters / CHARACTERS_A_TOKEN
        asked = 0 if self.searching.free else questions * searches(self.depth)
        return tokens, asked, self.embedding.of(tokens, 0, 0) + self.searching.of(asked, 0, 0)

    def budget(self, response_cache: ResponseCache | None, price: Price) -> SpendingLimit:
        return SpendingLimit(
            response_cache, self.max_cost_usd, price, "retriever.max_cost_usd", "ask fewer (evaluation limit)"
        )

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
        from entigraph.retrieval.embedding_endpoints import Address

        return Address("reranker_url", self.reranker_url or "", self.reranker_key_env, self.timeout_s, self.attempts)

    def retriever(self, vectors: Vectors, response_cache: ResponseCache | None) -> Retriever:
        from entigraph.retrieval.rerank import RerankedRetriever

        first = self.first(vectors, response_cache)
        return RerankedRetriever(first, self.second(response_cache), vectors) if self.reranker else first

    def first(self, vectors: Vectors, response_cache: ResponseCache | None) -> Retriever:
        raise NotImplementedError

    def second(self, response_cache: ResponseCache | None) -> Reranker:
        if self.reranker_url:
            from entigraph.retrieval.embedding_endpoints import RerankEndpoint

            budget = self.budget(response_cache, self.searching)
            return RerankEndpoint(self.reranker_address, self.reranker, self.concurrency, budget)
        from entigraph.retrieval.local_models import LocalReranker

        return LocalReranker(self.reranker, self.batch_size)


@dataclass(frozen=True, kw_only=True)
class BM25(Settings):
    """`k1` and `b`: how soon a word's repetition counts no more, and how much a long passage is held against it."""

    k1: float = 1.5
    b: float = 0.75
    name: ClassVar[str] = "bm25"

    def first(self, vectors: Vectors, response_cache: ResponseCache | None) -> Retriever:
        from entigraph.retrieval.bm25 import BM25Retriever

        return BM25Retriever(self.k1, self.b)


@dataclass(frozen=True, kw_only=True)
class Dense(Settings):
    """`model`: a sentence-transformers folder or hub name, or where `base_url` is given the name of a model at that
    OpenAI-compatible address, at `price` dollars per million tokens.
    """

    model: str = runtime_field("")
    base_url: str | None = runtime_field(None)
    api_key_env: str = runtime_field("OPENAI_API_KEY")
    price: float | None = runtime_field(None)
    name: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model:
            raise ConfigError(
                "retriever.model: nothing given; give the folder of a sentence-transformers model, or "
                "retriever.base_url=ADDRESS and the name of a model there"
            )
        if self.base_url:
            refuse_unpriced("price", "million tokens", self.base_url, self.price)

    @property
    def embedding(self) -> Price:
        return price_at(self.base_url, self.price or 0.0)

    @property
    def models(self) -> Sequence[str]:
        return [self.model, *super().models]

    def check(self) -> None:
        super().check()
        if self.base_url:
            _ = self.address.key

    @property
    def address(self) -> Any:
        from entigraph.retrieval.embedding_endpoints import Address

        return Address("base_url", self.base_url or "", self.api_key_env, self.timeout_s, self.attempts)

    def first(self, vectors: Vectors, response_cache: ResponseCache | None) -> Retriever:
        from entigraph.retrieval.dense import DenseRetriever, Embedder

        embedder: Embedder
        if self.base_url:
            from entigraph.retrieval.embedding_endpoints import EmbeddingEndpoint

            budget = self.budget(response_cache, self.embedding)
            embedder = EmbeddingEndpoint(self.address, self.model, self.batch_size, self.concurrency, budget)
        else:
            from entigraph.retrieval.local_models import LocalEmbedder

            embedder = LocalEmbedder(self.model, self.batch_size)
        return DenseRetriever(embedder, vectors)


def searches(passages: int) -> int:
    """What a reranker bills for one question."""
    return -(-passages // PASSAGES_A_SEARCH)


def price_at(address: str | None, dollars: float) -> Price:
    """Of a million; nothing on this machine and at a server of one's own."""
    return FREE if not address or is_private_address(address) else Price(dollars, dollars, 0.0)


def refuse_unpriced(key: str, what: str, address: str, price: float | None) -> None:
    if price is None and not is_private_address(address):
        raise ConfigError(f"retriever.{key}: not set; {address} costs something: give dollars per {what}")
    if price is not None and price < 0:
        raise ConfigError(f"retriever.{key}: {price} found, dollars of 0 or more expected")
