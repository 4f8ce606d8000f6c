"""Prices of models, the spending limit of a command, and the detection of free (private) endpoints."""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, inf, log10
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit
from uuid import uuid4

from entigraph.errors import ConfigError, LLMError
from entigraph.llm.base import Request, Writer
from entigraph.llm.response_cache import ResponseCache

MILLION = 1_000_000
# Identifies the command, so that all processes of a sweep share one spending limit.
COMMAND_VARIABLE = "ENTIGRAPH_COMMAND"
PROCESS = uuid4().hex  # identifies a process without that variable, such as a notebook: process ids repeat


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens. `cached` applies to prompt tokens in the server's prefix cache."""

    prompt: float
    cached: float
    completion: float

    def dollars(self, prompt_tokens: float, cached_tokens: float, completion_tokens: float) -> float:
        uncached = prompt_tokens - cached_tokens
        return (uncached * self.prompt + cached_tokens * self.cached + completion_tokens * self.completion) / MILLION

    def scale(self, factor: float) -> "Price":
        return Price(self.prompt * factor, self.cached * factor, self.completion * factor)

    @property
    def free(self) -> bool:
        return self.prompt == 0 == self.completion


FREE = Price(0.0, 0.0, 0.0)


@runtime_checkable
class PricedWriter(Writer, Protocol):
    """A writer whose cost can be estimated: its answers are cached by the body of the request."""

    @property
    def model(self) -> str: ...

    @property
    def price(self) -> Price: ...

    @property
    def expected_tokens(self) -> int: ...

    @property
    def max_cost_usd(self) -> float | None: ...

    @property
    def requests_per_minute(self) -> int | None: ...

    @property
    def tokens_per_minute(self) -> int | None: ...

    @property
    def concurrency(self) -> int: ...

    def body(self, request: Request) -> Mapping[str, Any]: ...


def find_price(model: str, addresses: list[str], prices: Mapping[str, Mapping[str, float]]) -> Price:
    """Returns the price of a model. Raises ConfigError for an unpriced model at a public URL."""
    price = prices.get(model)
    if price is not None:
        values = price.values() if isinstance(price, Mapping) else [None]
        if not all(isinstance(value, (int, float)) and 0 <= value < inf for value in values):
            raise ConfigError(
                f"llm.prices.{model} must be dollars of at least 0 for prompt, cached and completion, got {price}"
            )
        try:
            return Price(price["prompt"], price.get("cached", price["prompt"]), price["completion"])
        except KeyError as error:
            raise ConfigError(f"llm.prices.{model}: {error} is missing; set prompt, cached and completion") from None
    if addresses and all(is_private_address(address) for address in addresses):
        return FREE
    raise ConfigError(
        f"llm.prices: no price for {model!r} (known: {', '.join(prices)}). Set it in dollars per million tokens: "
        f"'+llm.prices={{{escape_key(model)}: {{prompt: 1.0, cached: 0.5, completion: 4.0}}}}'"
    )


def render_dollars(dollars: float) -> str:
    """Formats an amount with two decimals; below $1, with two significant digits."""
    decimals = max(2, 1 - floor(log10(dollars))) if 0 < dollars < 1 else 2
    return f"${dollars:,.{decimals}f}"


def escape_key(name: str) -> str:
    """Returns a name as a key of a dictionary in Hydra's override grammar."""
    return re.sub(r"([\\()\[\]{}:=,\s])", r"\\\1", name)


def is_private_address(address: str) -> bool:
    """Returns whether a URL has a loopback or private address or a host name without a dot; such servers are free."""
    host = urlsplit(address).hostname
    if not host:
        return False
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal"))
    return ip.is_loopback or ip.is_private


class SpendingLimit:
    """Raises an error before a request that could exceed the command's limit; requests in flight count at their
    estimated cost.

    Args:
        cache: Records the spending of all processes of the command; None: all requests are free.
        max_cost_usd: The limit; None: no limit.
        option: The option that sets the limit, for the error message. Spending is counted separately per option.
        alternative: An alternative to raising the limit, for the error message.
    """

    def __init__(
        self,
        cache: ResponseCache | None,
        max_cost_usd: float | None,
        price: Price,
        option: str = "llm.max_cost_usd",
        alternative: str = "lower synthesis.token_budget",
    ) -> None:
        self.cache, self.limit, self.price = cache, max_cost_usd, price
        self.option, self.alternative = option, alternative
        self.command = f"{os.environ.get(COMMAND_VARIABLE) or PROCESS} {option}"

    def reserve(self, dollars: float) -> None:
        """Reserves dollars for a request. Raises LLMError if that could exceed the limit."""
        if self.limit is None or self.price.free or not self.cache:
            return
        if self.cache.reserve(self.command, dollars, self.limit):
            return
        raise LLMError(
            f"{self.option}: the next request, of about {render_dollars(dollars)}, could exceed the limit of "
            f"{render_dollars(self.limit)} of this command. All answers so far are cached: raise the limit and run the "
            f"same command to continue, or {self.alternative}"
        )

    def record(self, reserved: float, dollars: float) -> None:
        """Replaces a reservation with the actual cost."""
        if self.limit is not None and not self.price.free and self.cache:
            self.cache.record_spending(self.command, reserved, dollars)
