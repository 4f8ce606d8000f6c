"""Options shared by the writers that use an OpenAI-compatible endpoint."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import SplitResult, urlsplit

from entigraph.config.fields import check_minimums, check_positive, runtime_field
from entigraph.errors import ConfigError, LLMError
from entigraph.llm.base import Request
from entigraph.llm.caching import Body
from entigraph.llm.cost import Price, SpendingLimit, find_price, is_private_address
from entigraph.llm.openai.capabilities import check_capabilities
from entigraph.llm.replies import FINISH_REASONS, ReplyError
from entigraph.llm.response_cache import ResponseCache
from entigraph.llm.wire_format import PATHS, Api, build_body

DEFAULT_ADDRESS = "https://api.openai.com/v1"
OTHER_PATHS = ("/responses", "/messages", "/models", "/embeddings")
MAX_MESSAGE_CHARACTERS = 300
DEFAULT_KEY_VARIABLE, NO_KEY = "OPENAI_API_KEY", "none-needed"
VARIABLE_NAME = re.compile(r"[A-Z][A-Z0-9]*_[A-Z0-9_]*")
CHARACTER_NAMES = {
    " ": "a space",
    "\n": "a line feed",
    "\r": "a carriage return",
    "\u2026": "an ellipsis (…)",
    **dict.fromkeys("\"'", "a quotation mark"),
}
# Body parameters that requests or other options set.
RESERVED = (
    *("model", "messages", "prompt", "temperature", "seed", "stop", "n", "response_format", "stream"),
    *("max_tokens", "max_completion_tokens", "reasoning_effort"),
)


@dataclass(frozen=True, kw_only=True)
class OpenAIOptions:
    """Options of an endpoint and of the requests to it.

    Attributes:
        base_url: A URL or a list of URLs; None: OpenAI's. With several URLs, requests about the same document prefer
            the same one, to reuse its prefix cache; a URL that is down is skipped.
        api: `chat`, or `completions` for a model without chat template (a base model behind a vLLM server).
        api_key_env: The environment variable that holds the API key; None: OPENAI_API_KEY, and no key for endpoints at
            private addresses.
        max_cost_usd: The spending limit of one command, including all jobs of a sweep; None: no limit.
        attempts: Maximum number of attempts per request, not counting those rejected by a rate limit.
        timeout_s: Maximum seconds until a reply is complete.
        send_seed: Sends the sample index as `seed`, which makes samples reproducible where the endpoint supports it.
        reasoning_effort: How much a reasoning model reasons: minimal, low, medium, high; null: not sent.
        extra_body: Other parameters of the request body, such as `top_p`.
        capabilities: What the endpoint accepts, instead of what its rejections show: a parameter and true
            (accepted), false (not sent) or the form in which it is sent (`response_format: json_object`,
            `max_completion_tokens: max_tokens`, `system: user`). See `entigraph.llm.openai.capabilities`.
        finish_reasons: Finish reasons of the endpoint that are not known here, each with "stop", "length", "refusal" or
            "content_filter".
        expected_tokens: Expected length of an answer, for estimates until answers are cached.
        prices: Dollars per million tokens by model.
        config_key: Where the writer is configured, such as `baselines.gpt_4_turbo`; `entigraph.config.instantiate` sets
            it. Each writer of a command has a spending limit of its own.
    """

    name: str = "openai"
    model: str = "gpt-4o-mini"
    base_url: Any = runtime_field(None)
    api: Api = Api.chat
    api_key_env: str | None = runtime_field(None)
    max_tokens: int | None = None
    concurrency: int = runtime_field(64)
    requests_per_minute: int | None = runtime_field(None)
    tokens_per_minute: int | None = runtime_field(None)
    max_cost_usd: float | None = runtime_field(5.0)
    timeout_s: float = runtime_field(600.0)
    attempts: int = runtime_field(6)
    send_seed: bool = True
    reasoning_effort: str | None = None
    extra_body: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, Any] = runtime_field(default_factory=dict)
    finish_reasons: dict[str, str] = runtime_field(default_factory=dict)
    expected_tokens: int = runtime_field(600)
    prices: dict[str, Any] = runtime_field(default_factory=dict)
    config_key: str = runtime_field("llm")

    def __post_init__(self) -> None:
        check_positive(self, "llm", "concurrency", "requests_per_minute", "tokens_per_minute", "timeout_s", "attempts")
        check_positive(self, "llm", "max_tokens", "expected_tokens")
        check_minimums(self, "llm.", max_cost_usd=0)
        if not isinstance(self.base_url, (str, list, type(None))):
            raise ConfigError(f"llm.base_url must be a URL or a list of URLs, got {self.base_url!r}")
        for address in self.addresses:
            parts = check_address("llm.base_url", address, "llm.api_key_env")
            for path in (*PATHS.values(), *OTHER_PATHS):
                if parts.path.rstrip("/").endswith(path):
                    base = address.rstrip("/").removesuffix(path)
                    raise ConfigError(f"llm.base_url must be without {path}, got {address!r}; set {base}")
        if not self.model:
            raise ConfigError("llm.model: not set; set it to the endpoint's name of the model")
        check_key_variable("llm.api_key_env", self.api_key_env)
        if reserved := sorted(set(self.extra_body) & set(RESERVED)):
            raise ConfigError(
                f"llm.extra_body must not have keys that requests or other options set, got {', '.join(reserved)}"
            )
        check_capabilities(self.capabilities)
        known = sorted(set(FINISH_REASONS.values()))
        for reason, meaning in self.finish_reasons.items():
            if meaning not in known:
                raise ConfigError(f"llm.finish_reasons.{reason} must be one of {', '.join(known)}, got {meaning!r}")
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
        """The API key, NO_KEY if no endpoint needs one. Raises LLMError if it is not set and one of them does."""
        return next((key for key in map(self.key_for, self.addresses) if key != NO_KEY), NO_KEY)

    def key_for(self, address: str) -> str:
        """Returns the key that one endpoint receives; a private one receives none unless its variable is named."""
        private, free = is_private_address(address), self.price.free
        return read_key("llm.api_key_env", self.api_key_env, DEFAULT_KEY_VARIABLE, private=private, free=free)

    def rejected_key(self, address: str) -> str:
        """Returns what an endpoint did that answers HTTP 401, for error messages."""
        if self.key_for(address) == NO_KEY:
            return "requires an API key; set llm.api_key_env to the name of the environment variable that holds it"
        return f"rejected the key in {self.api_key_env or DEFAULT_KEY_VARIABLE}"

    def spending_limit(self, cache: ResponseCache) -> SpendingLimit:
        alternative = "lower synthesis.token_budget" if self.config_key == "llm" else "choose a cheaper model"
        return SpendingLimit(cache, self.max_cost_usd, self.price, f"{self.config_key}.max_cost_usd", alternative)

    def check(self) -> None:
        _ = self.key

    def body(self, request: Request) -> Body:
        """Returns the request body, whose hash is the key in the response cache."""
        body = build_body(request, model=self.model, max_tokens=self.max_tokens, send_seed=self.send_seed, api=self.api)
        if self.reasoning_effort:
            body["reasoning_effort"] = self.reasoning_effort
        body |= self.extra_body
        return body

    @cached_property
    def known_finish_reasons(self) -> Mapping[str, str]:
        return {**FINISH_REASONS, **{reason.lower(): meaning for reason, meaning in self.finish_reasons.items()}}

    def estimate_completion_tokens(self, request: Request, longest_answer: int) -> int:
        """Returns the maximum length of an answer, to reserve its cost; if it is not limited, the expected length, or
        that of the longest answer so far.
        """
        limit = request.max_tokens or self.max_tokens
        return request.choices * limit if limit else max(request.choices * self.expected_tokens, longest_answer)

    def error_message(self, error: Any) -> str:
        """Returns the endpoint's error message, with the API key redacted."""
        return redact(error, self.key)

    def shorten(self, error: ReplyError) -> ReplyError:
        return replace(error, message=self.error_message(error.message))


def check_key_variable(option: str, name: str | None) -> None:
    """Raises ConfigError if an option may have the key itself: messages and stored configurations have its value."""
    if name and not VARIABLE_NAME.fullmatch(name) and name not in os.environ:
        raise ConfigError(
            f"{option} must be the name of an environment variable, such as MY_API_KEY, not the key itself (the value "
            "is not shown)"
        )


def read_key(option: str, variable: str | None, default: str, *, private: bool, free: bool = False) -> str:
    """Returns the API key in an environment variable, by default the provider's; NO_KEY if none is to be sent.

    A private address is not the provider's: it receives a key only if the variable is named. Raises LLMError if the key
    of a paid endpoint is missing, or malformed.
    """
    if not variable and private:
        return NO_KEY
    variable = variable or default
    key = os.environ.get(variable) or (NO_KEY if free else "")
    if not key:
        raise LLMError(f"{option}: {variable} is not set in the environment; export the API key")
    if odd := next((character for character in key if not "!" <= character <= "~" or character in "\"'"), None):
        raise LLMError(
            f"{option}: the value of {variable} contains {CHARACTER_NAMES.get(odd, repr(odd))} "
            f"(character {key.index(odd) + 1} of {len(key)}), which no key has; export the key again"
        )
    return key


def redact(error: Any, key: str) -> str:
    """Returns an endpoint's error message, shortened and without the API key."""
    return str(getattr(error, "message", error)).replace(key, "<key>")[:MAX_MESSAGE_CHARACTERS]


def check_address(option: str, address: Any, key_option: str) -> SplitResult:
    """Returns the parts of an endpoint's URL. Raises ConfigError if it is none, or may contain a secret: messages
    and stored configurations have it.
    """
    parts = split_address(address)
    if parts is None:
        shown = address.rpartition("@")[2] if isinstance(address, str) else address  # without a password
        raise ConfigError(f"{option} must be a URL such as http://localhost:8000/v1, got {shown!r}")
    if parts.username or parts.password or parts.query or parts.fragment:  # the message omits them
        raise ConfigError(
            f"{option} must be without a user name, password, query and fragment; set the key in {key_option} instead"
        )
    return parts


def split_address(address: Any) -> SplitResult | None:
    """Returns the parts of an HTTP URL with a host; None for another value."""
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
        valid = valid and not re.search(r"\s", address)
    except (ValueError, AttributeError):  # a port that is not a number, a value that is not a text
        return None
    return parts if valid else None
