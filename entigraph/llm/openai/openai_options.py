"""The options of every writer behind an OpenAI-compatible endpoint."""

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from entigraph.config.fields import check_positive, runtime_field
from entigraph.errors import ConfigError, LLMError
from entigraph.llm.base import Request
from entigraph.llm.caching import Body
from entigraph.llm.cost import Price, find_price
from entigraph.llm.wire_format import Api, build_body

DEFAULT_ADDRESS = "https://api.openai.com/v1"
MAX_MESSAGE_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class OpenAIOptions:
    """Options of an endpoint and of the requests to it.

    Attributes:
        base_url: An address or a list of addresses; None: OpenAI's. Each document prefers one of several addresses,
            whose prefix cache then holds its text; an address that is down is skipped.
        api: `chat`, or `completions` for a model that continues a text (a base model behind a vLLM server).
        api_key_env: The environment variable that holds the key. A private address needs no key.
        max_cost_usd: The spending limit of one command (a whole sweep); None: no limit.
        attempts: Maximum number of attempts per request, not counting those that a rate limit rejected.
        expected_tokens: Expected length of an answer, for estimates until answers are cached.
        prices: Dollars per million tokens by model.
    """

    name: str = "openai"
    model: str = "gpt-4o-mini"
    base_url: Any = runtime_field(None)
    api: Api = Api.chat
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
        check_positive(self, "llm", "concurrency", "requests_per_minute", "tokens_per_minute", "timeout_s", "attempts")
        check_positive(self, "llm", "max_tokens", "expected_tokens")
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

    @property
    def addresses(self) -> list[str]:
        configured = [self.base_url] if isinstance(self.base_url, str) else list(self.base_url or ())
        addresses = [address for address in configured if address]
        return addresses or [os.environ.get("OPENAI_BASE_URL") or DEFAULT_ADDRESS]

    @property
    def price(self) -> Price:
        return find_price(self.model, self.addresses, self.prices)

    @property
    def key(self) -> str:
        """The API key. Raises LLMError where a paid endpoint has none."""
        key = os.environ.get(self.api_key_env) or ("none-needed" if self.price.free else "")
        if not key:
            raise LLMError(f"llm.api_key_env: the environment has no {self.api_key_env}; export the endpoint's key")
        return key

    def check(self) -> None:
        _ = self.key

    def body(self, request: Request) -> Body:
        """Returns what is sent, which also identifies the answer in the response cache."""
        return build_body(request, model=self.model, max_tokens=self.max_tokens, send_seed=self.send_seed, api=self.api)

    def estimate_completion_tokens(self, request: Request) -> int:
        """Returns the maximum length of an answer, or the expected one if it is not limited, to reserve its cost."""
        return request.choices * (request.max_tokens or self.max_tokens or self.expected_tokens)

    def error_message(self, error: Any) -> str:
        """Returns the endpoint's message without the API key, which it may repeat."""
        return str(getattr(error, "message", error)).replace(self.key, "<key>")[:MAX_MESSAGE_CHARACTERS]
