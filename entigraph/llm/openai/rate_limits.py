"""Client-side rate limiting: an adaptive window of requests in flight, and rates per minute.

The window starts small and grows by one with every success, so it doubles with each window of requests. An HTTP 429
halves it and pauses sending for the time in Retry-After. Rates in the server's headers are adopted, so that the limit
is reached but not exceeded.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from anyio import CapacityLimiter

INITIAL_WINDOW = 8.0
MIN_WINDOW = 1.0
SECONDS_BETWEEN_CUTS = 1.0  # a burst of 429s counts once


class RateBucket:
    """Spreads usage evenly at `per_minute`. `reserve` returns the seconds to wait before using an amount."""

    def __init__(self, per_minute: int | None) -> None:
        self.per_minute = per_minute
        self.free_at = 0.0
        self.burst = 0.0  # amount that the server accepts without waiting

    def reserve(self, amount: float) -> float:
        if not self.per_minute:
            return 0.0
        if self.burst >= amount:
            self.burst -= amount
            return 0.0
        now = time.monotonic()
        begin = max(now, self.free_at)
        self.free_at = begin + amount * 60.0 / self.per_minute
        return begin - now


class RateLimiter:
    def __init__(self, concurrency: int, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        self.concurrency = concurrency
        self.window = min(INITIAL_WINDOW, float(concurrency))
        self.slots = CapacityLimiter(int(self.window))
        self.requests, self.tokens = RateBucket(requests_per_minute), RateBucket(tokens_per_minute)
        self.rate_known = {"requests": requests_per_minute is not None, "tokens": tokens_per_minute is not None}
        self.blocked_until = self.last_cut = 0.0

    @asynccontextmanager
    async def slot(self, tokens: float) -> AsyncIterator[None]:
        """Occupies a slot of the window while a request of about `tokens` tokens is in flight."""
        async with self.slots:
            await asyncio.sleep(max(self.requests.reserve(1), self.tokens.reserve(tokens)))
            while (remaining := self.blocked_until - time.monotonic()) > 0:
                await asyncio.sleep(remaining)
            yield

    def on_success(self, headers: Mapping[str, str]) -> None:
        """Widens the window: by one per success until it is first halved, by one per window afterwards."""
        step = 1.0 if not self.last_cut else 1.0 / self.window
        self.window = min(float(self.concurrency), self.window + step)
        self.slots.total_tokens = int(self.window)
        self.adopt_server_rates(headers)

    def adopt_server_rates(self, headers: Mapping[str, str]) -> None:
        """Adopts the rates in the server's headers, unless the options set them."""
        for kind, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if not self.rate_known[kind]:
                with suppress(ValueError):
                    limit = int(headers.get(f"x-ratelimit-limit-{kind}", 0))
                    if limit <= 0:  # no limit, or none is stated
                        continue
                    # Slightly lower, because the server's clock differs from ours.
                    bucket.per_minute = max(1, int(limit * 0.98))
                    remaining = int(headers.get(f"x-ratelimit-remaining-{kind}", 0))
                    if kind == "requests":  # those in flight are already counted
                        bucket.burst = min(remaining - self.slots.borrowed_tokens, bucket.per_minute / 60)
                    self.rate_known[kind] = True

    def on_throttled(self, retry_after_s: float) -> None:
        """Halves the window, once per burst of 429s, and pauses sending for `retry_after_s` seconds."""
        now = time.monotonic()
        self.blocked_until = max(self.blocked_until, now + retry_after_s)
        if now - self.last_cut > SECONDS_BETWEEN_CUTS:
            self.last_cut = now
            self.window = max(MIN_WINDOW, self.window / 2)
            self.slots.total_tokens = int(self.window)
