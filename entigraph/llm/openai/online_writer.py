"""Any OpenAI-compatible endpoint: OpenAI, a vLLM or Ollama server, or several of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, LLMError
from entigraph.llm import wire_format
from entigraph.llm.base import LLM, Request, Say
from entigraph.llm.caching import Body, CachingLLM
from entigraph.llm.cost import Price, find_price
from entigraph.llm.response_cache import ResponseCache

DEFAULT_ADDRESS = "https://api.openai.com/v1"


@dataclass(frozen=True, kw_only=True)
class OpenAIWriter:
    """`base_url` is one address or a list: each document has one of them by preference, where its text stays in the
    prefix cache, and one that is down is passed over. null: OpenAI's. The key is read from the environment variable
    that `api_key_env` names, and stays there; an own server needs none.

    `api`: chat, or completions for a model that only goes on with a text (a base model behind a vLLM server).

    `max_cost_usd` stops one command (a whole sweep) before it is passed; null: no limit. `attempts` bounds the tries
    of one request, those that a server's rate limit turned away not counted. `expected_tokens` of an answer, for
    estimates, until answers are known.
    """

    name: str = "openai"
    model: str = "gpt-4o-mini"
    base_url: Any = runtime_field(None)
    api: wire_format.Api = wire_format.Api.chat
    api_key_env: str = runtime_field("OPENAI_API_KEY")
    max_tokens: int | None = None
    concurrency: int = runtime_field(64)
    requests_per_minute: int | None = runtime_field(None)
    tokens_per_minute: int | None = runtime_field(None)
    max_cost_usd: float | None = runtime_field(5.0)
    timeout_s: float = runtime_field(600.0)
    attempts: int = runtime_field(6)
    send_seed: bool = True
    expected_tokens: int = runtime_field(600)
    prices: dict[str, Any] = runtime_field(default_factory=dict)

    def __post_init__(self) -> None:
        self.check_positive("concurrency", "requests_per_minute", "tokens_per_minute", "timeout_s", "attempts")
        self.check_positive("max_tokens", "expected_tokens")
        if self.max_cost_usd is not None and self.max_cost_usd < 0:
            raise ConfigError(f"llm.max_cost_usd: {self.max_cost_usd} found, 0 or more, or null, expected")
        if not isinstance(self.base_url, (str, list, type(None))):
            raise ConfigError(f"llm.base_url: {self.base_url!r} found, an address or a list of addresses expected")
        for address in self.addresses:
            parts = urlsplit(address)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ConfigError(
                    f"llm.base_url: {address!r} found, an address such as http://localhost:8000/v1 expected"
                )
        if not self.model:
            raise ConfigError("llm.model: nothing given; give the name that the endpoint knows the model by")
        if not self.api_key_env.isidentifier():  # not shown: it may be the key itself
            raise ConfigError("llm.api_key_env: the name of an environment variable expected, not the key")
        find_price(self.model, self.addresses, self.prices)

    def check_positive(self, *keys: str) -> None:
        for key in keys:
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise ConfigError(f"llm.{key}: {value} found, more than 0 expected")

    @property
    def addresses(self) -> list[str]:
        given = [self.base_url] if isinstance(self.base_url, str) else list(self.base_url or ())
        return [address for address in given if address] or [os.environ.get("OPENAI_BASE_URL") or DEFAULT_ADDRESS]

    @property
    def price(self) -> Price:
        return find_price(self.model, self.addresses, self.prices)

    @property
    def key(self) -> str:
        """Raises LLMError where a paid endpoint has none."""
        key = os.environ.get(self.api_key_env) or ("none-needed" if self.price.free else "")
        if not key:
            raise LLMError(f"llm.api_key_env: the environment has no {self.api_key_env}; export the endpoint's key")
        return key

    def check(self) -> None:
        _ = self.key

    def body(self, request: Request) -> Body:
        """What is sent, and what an answer is known by."""
        return wire_format.build_body(
            request, model=self.model, max_tokens=self.max_tokens, send_seed=self.send_seed, api=self.api
        )

    def expected(self, request: Request) -> int:
        """Tokens of an answer, at most where that is known: what its cost is reserved by."""
        return request.choices * (request.max_tokens or self.max_tokens or self.expected_tokens)

    def told(self, error: Any) -> str:
        """The endpoint's own words, in which it may repeat the key."""
        return str(getattr(error, "message", error)).replace(self.key, "<key>")[:300]

    @contextmanager
    def connect(self, response_cache: Path, say: Say = print) -> Iterator[LLM]:
        from entigraph.llm.openai.http_client import OnlineTransport

        _, answers = self.key, ResponseCache(response_cache)
        transport = OnlineTransport(self, answers, say)
        try:
            yield CachingLLM(self.name, answers, self.body, transport)
        finally:
            transport.close()
            answers.close()


def create_client(options: OpenAIWriter, address: str) -> Any:
    """The SDK's client over aiohttp: its default pool opens more connections than there are requests in flight."""
    from openai import AsyncOpenAI, DefaultAioHttpClient

    return AsyncOpenAI(
        api_key=options.key,
        base_url=address,
        timeout=options.timeout_s,
        max_retries=0,  # the limiter must see every refusal
        http_client=DefaultAioHttpClient(timeout=options.timeout_s),
    )
