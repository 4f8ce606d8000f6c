"""How fast to ask: a window of requests in flight that shrinks when the server says "too many", and stated rates.

The window begins small and doubles while all goes well; a 429 halves it, and nothing is sent before its Retry-After.
A server that states its rate in its headers is believed, so that the limit is met without running into it.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

FIRST_WINDOW = 8.0
SMALLEST_WINDOW = 1.0
SECONDS_BETWEEN_CUTS = 1.0  # one burst of 429s is one message


class RateBucket:
    """At most `per_minute`, evenly: `reserve` says how long to wait before so much more may be spent."""

    def __init__(self, per_minute: int | None) -> None:
        self.per_minute = per_minute
        self.free_at = 0.0
        self.at_once = 0.0  # what the server said it would take without a wait

    def reserve(self, amount: float) -> float:
        if not self.per_minute:
            return 0.0
        if self.at_once >= amount:
            self.at_once -= amount
            return 0.0
        now = time.monotonic()
        begin = max(now, self.free_at)
        self.free_at = begin + amount * 60.0 / self.per_minute
        return begin - now


class RateLimiter:
    def __init__(self, concurrency: int, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        self.concurrency = concurrency
        self.window = min(FIRST_WINDOW, float(concurrency))
        self.running = 0
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.requests, self.tokens = RateBucket(requests_per_minute), RateBucket(tokens_per_minute)
        self.stated = {
            "requests": requests_per_minute is not None,
            "tokens": tokens_per_minute is not None,
        }
        self.quiet_until = self.last_cut = 0.0

    @asynccontextmanager
    async def slot(self, tokens: float) -> AsyncIterator[None]:
        """Held while a request of about so many tokens is in flight."""
        await self.enter()
        try:
            await asyncio.sleep(max(self.requests.reserve(1), self.tokens.reserve(tokens)))
            while (left := self.quiet_until - time.monotonic()) > 0:
                await asyncio.sleep(left)
            yield
        finally:
            self.running -= 1
            self.wake()

    async def enter(self) -> None:
        if self.running >= int(self.window) or self.waiting:
            turn = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            try:
                await turn  # whoever wakes us has counted us in
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.running -= 1
                    self.wake()
                raise
        else:
            self.running += 1

    def wake(self) -> None:
        while self.waiting and self.running < int(self.window):
            turn = self.waiting.popleft()
            if not turn.done():
                self.running += 1
                turn.set_result(None)

    def succeeded(self, headers: Mapping[str, str]) -> None:
        """Widen: by one a success up to the first cut, by one a window after it."""
        step = 1.0 if not self.last_cut else 1.0 / self.window
        self.window = min(float(self.concurrency), self.window + step)
        self.believe(headers)
        self.wake()

    def believe(self, headers: Mapping[str, str]) -> None:
        """Take over the rates that a server states, where nobody gave any."""
        for what, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            limit = headers.get(f"x-ratelimit-limit-{what}")
            if limit and not self.stated[what]:
                with suppress(ValueError):
                    # A little below, since the server's clock and ours are not the same.
                    bucket.per_minute = max(1, int(int(limit) * 0.98))
                    left = int(headers.get(f"x-ratelimit-remaining-{what}", 0))
                    if what == "requests":  # those in flight have used theirs
                        bucket.at_once = min(left - self.running, bucket.per_minute / 60)
                    self.stated[what] = True

    def throttled(self, retry_after_s: float) -> None:
        """Halve, once a burst; and be quiet until the server wants to hear from us again."""
        now = time.monotonic()
        self.quiet_until = max(self.quiet_until, now + retry_after_s)
        if now - self.last_cut > SECONDS_BETWEEN_CUTS:
            self.last_cut = now
            self.window = max(SMALLEST_WINDOW, self.window / 2)
