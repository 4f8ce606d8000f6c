"""What answers cost: a dated table of prices, the stop before the limit, and addresses that cost nothing."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from entigraph.errors import ConfigError, LLMError
from entigraph.llm.response_cache import ResponseCache

MILLION = 1_000_000
# Names the command that all processes of a sweep belong to: they have one limit together.
COMMAND_VARIABLE = "ENTIGRAPH_COMMAND"


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens. `cached` is that of prompt tokens that the server had read before."""

    prompt: float
    cached: float
    completion: float

    def of(self, prompt_tokens: float, cached_tokens: float, completion_tokens: float) -> float:
        fresh = prompt_tokens - cached_tokens
        return (fresh * self.prompt + cached_tokens * self.cached + completion_tokens * self.completion) / MILLION

    def times(self, factor: float) -> "Price":
        return Price(self.prompt * factor, self.cached * factor, self.completion * factor)

    @property
    def free(self) -> bool:
        return self.prompt == 0 == self.completion


FREE = Price(0.0, 0.0, 0.0)


def find_price(model: str, addresses: list[str], prices: Mapping[str, Mapping[str, float]]) -> Price:
    """Raises ConfigError for a model without a price at an address that is not one's own."""
    known = prices.get(model)
    if known is not None:
        if any(not isinstance(value, (int, float)) or value < 0 for value in known.values()):
            raise ConfigError(f"llm.prices.{model}: {dict(known)} found, dollars of 0 or more expected")
        try:
            return Price(known["prompt"], known.get("cached", known["prompt"]), known["completion"])
        except KeyError as error:
            raise ConfigError(f"llm.prices.{model}: lacks {error}; give prompt, cached and completion") from None
    if addresses and all(is_private_address(address) for address in addresses):
        return FREE
    raise ConfigError(
        f"llm.prices: no price for {model!r} (there are {', '.join(prices)}). Give dollars per million tokens: "
        f"'+llm.prices.\"{model}\"={{prompt: 1.0, cached: 0.5, completion: 4.0}}'"
    )


def is_private_address(address: str) -> bool:
    """A loopback or private address, or a name without a dot: a server of one's own."""
    host = urlsplit(address).hostname
    if not host:
        return False
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal"))
    return found.is_loopback or found.is_private


class SpendingLimit:
    """Stops before a request that could pass the limit of this command: what is in flight counts at its estimate.

    `option` sets the limit, and each option has its own; `instead` of raising it one may do that. Without a cache
    nothing costs.
    """

    def __init__(
        self,
        cache: ResponseCache | None,
        max_cost_usd: float | None,
        price: Price,
        option: str = "llm.max_cost_usd",
        instead: str = "lower synthesis.token_budget",
    ) -> None:
        self.cache, self.limit, self.price = cache, max_cost_usd, price
        self.option, self.instead = option, instead
        command = os.environ.get(COMMAND_VARIABLE) or f"process {os.getpid()}"
        self.command = command if option.startswith("llm.") else f"{command} {option}"

    def reserve(self, dollars: float) -> None:
        """Raises LLMError where the limit could be passed."""
        if self.limit is None or self.price.free or not self.cache:
            return
        if self.cache.reserve(self.command, dollars, self.limit):
            return
        raise LLMError(
            f"{self.option}: the next request, of about ${dollars:,.2f}, could pass the limit of ${self.limit:,.2f} of "
            "this command. What was answered is kept: raise the limit and run the same command to go on, "
            f"or {self.instead}"
        )

    def settle(self, reserved: float, dollars: float) -> None:
        if self.limit is not None and not self.price.free and self.cache:
            self.cache.settle(self.command, reserved, dollars)
