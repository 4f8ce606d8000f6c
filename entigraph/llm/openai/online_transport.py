"""Transport that sends requests concurrently, at the rate that the endpoint accepts, with retries.

A separate thread runs the event loop, so that an answer is cached when it arrives rather than when it is consumed.
"""

import asyncio
import json
import random
import threading
import time
from binascii import crc32
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from entigraph.errors import ArtifactError, LLMError
from entigraph.llm.base import CHARACTERS_PER_TOKEN, Completion, Notify, Usage
from entigraph.llm.caching import GAVE_UP, Answer, WireRequest, encode_body
from entigraph.llm.cost import SpendingLimit
from entigraph.llm.openai.openai_options import OpenAIOptions
from entigraph.llm.openai.rate_limits import RateLimiter
from entigraph.llm.response_cache import ResponseCache
from entigraph.llm.wire_format import PATHS, parse_completion

DOCUMENT_PREFIX_CHARACTERS = 4_000  # sufficient to identify a request's document
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.5, 30.0
ATTEMPTS_BEFORE_FIRST_ANSWER = 3  # reports an endpoint that is down within seconds
MAX_CONSECUTIVE_FAILURES = 8  # failed requests in a row before an endpoint is considered down
FAILURES_BEFORE_PAUSE, PAUSE_S = 3, 30.0  # of one address among several
SECONDS_BEFORE_NOTICE, SECONDS_BETWEEN_NOTICES = 20.0, 60.0

Task = asyncio.Task[Any]


@dataclass
class ServerAddress:
    url: str
    client: Any
    in_flight: int = 0
    failures: int = 0
    paused_until: float = 0.0

    @property
    def label(self) -> str:
        return f"llm.base_url: {self.url}"


@dataclass(frozen=True)
class Retry:
    """The reason to retry. `wait_s` is set by a rate limit, which does not count as a failed attempt."""

    reason: str
    wait_s: float | None = None


@dataclass
class ThrottleNotice:
    """Decides when to notify the user that all requests are throttled (HTTP 429)."""

    since: float | None = None
    last_notice: float = field(default=float("-inf"))

    def on_answer(self) -> None:
        self.since = None

    def is_due(self) -> bool:
        now = time.monotonic()
        self.since = self.since or now
        due = now - self.since > SECONDS_BEFORE_NOTICE and now - self.last_notice > SECONDS_BETWEEN_NOTICES
        self.last_notice = now if due else self.last_notice
        return due


class OnlineTransport:
    def __init__(self, options: OpenAIOptions, cache: ResponseCache, notify: Notify) -> None:
        self.options, self.cache, self.notify, self.price = options, cache, notify, options.price
        self.limiter = RateLimiter(options.concurrency, options.requests_per_minute, options.tokens_per_minute)
        self.spending = SpendingLimit(cache, options.max_cost_usd, self.price)
        self.throttle_notice = ThrottleNotice()
        self.plain_json = False  # the endpoint does not support schemas: use JSON mode instead
        self.answered = self.consecutive_failures = 0
        self.longest_answer = 0  # tokens
        self.draining = False  # no further retries
        self.cache_error: ArtifactError | None = None
        self.tasks: set[Task] = set()
        self.sending: set[Task] = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="llm", daemon=True)
        self.addresses = [ServerAddress(url, create_client(options, url)) for url in options.addresses]
        self.thread.start()

    @property
    def capacity(self) -> int:
        return self.options.concurrency

    def send(self, wire_request: WireRequest) -> Answer:
        return asyncio.run_coroutine_threadsafe(self.request_answer(wire_request), self.loop)

    def wait(self, answer: Answer, freed: threading.Event) -> None:
        freed.wait()

    def drain(self) -> None:
        self.run_in_loop(self.drain_tasks())

    def close(self) -> None:
        self.drain()
        self.run_in_loop(self.close_clients())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def run_in_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result()

    async def drain_tasks(self) -> None:
        self.draining = True
        for task in self.tasks - self.sending:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.draining = False

    async def close_clients(self) -> None:
        for address in self.addresses:
            await address.client.close()

    async def request_answer(self, wire_request: WireRequest) -> Completion:
        """Reserves the cost of a request, sends it, and caches and returns the answer."""
        prompt_tokens = len(wire_request.body) / CHARACTERS_PER_TOKEN
        completion_tokens = self.options.estimate_completion_tokens(wire_request.request)
        if wire_request.request.max_tokens is None and self.options.max_tokens is None:
            completion_tokens = max(completion_tokens, self.longest_answer)
        estimate, reserved, dollars = self.price.dollars(prompt_tokens, 0, completion_tokens), 0.0, 0.0
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            if self.cache_error:
                raise self.cache_error
            self.spending.reserve(estimate)
            reserved = estimate
            tokens = prompt_tokens + completion_tokens
            completion, attempts, seconds = await self.send_until_answered(wire_request, tokens)
            completion = self.with_usage(completion, prompt_tokens)
            dollars = completion.usage.dollars
            self.longest_answer = max(self.longest_answer, completion.usage.completion_tokens)
            if completion.finish_reason.startswith(GAVE_UP):
                self.check_endpoint_alive(completion.finish_reason)
                return completion
            self.consecutive_failures = 0
            self.answered += 1
            return self.cache.put(
                wire_request.key, completion, scope=wire_request.scope, attempts=attempts, seconds=seconds
            )
        except ArtifactError as error:  # the cache is not writable: stop spending
            self.cache_error = error
            raise
        finally:
            self.tasks.discard(task)
            if not self.cache_error:
                self.spending.record(reserved, dollars)

    def with_usage(self, completion: Completion, prompt_tokens: float) -> Completion:
        """Estimates the usage if the endpoint does not report it, so that the spending limit still holds."""
        if completion.usage.prompt_tokens or not completion.text or completion.finish_reason.startswith("error: "):
            return completion
        prompt, answer = round(prompt_tokens), round(len(completion.text) / CHARACTERS_PER_TOKEN)
        return replace(completion, usage=Usage(prompt, 0, answer, self.price.dollars(prompt, 0, answer)))

    async def send_until_answered(self, wire_request: WireRequest, tokens: float) -> tuple[Completion, int, float]:
        """Returns the answer or the reason for giving up, the number of attempts, and the seconds of the last one.

        Raises LLMError if the endpoint has not answered any request.
        """
        failures = 0
        while True:
            async with self.limiter.slot(tokens):
                address, started = self.choose_address(wire_request), time.monotonic()
                outcome = await self.post(address, wire_request)
            if isinstance(outcome, Completion):
                return outcome, failures + 1, time.monotonic() - started
            if self.draining:
                raise asyncio.CancelledError
            if outcome.wait_s is not None:
                self.on_throttled(address, outcome.wait_s)
                continue
            failures += 1
            self.on_failure(address, outcome.reason)
            if not self.answered and failures >= ATTEMPTS_BEFORE_FIRST_ANSWER:
                raise LLMError(f"{address.label} does not answer: {outcome.reason}. Check llm.base_url and the server")
            if failures >= self.options.attempts:
                reason = GAVE_UP + outcome.reason
                return Completion(text="", model=self.options.model, finish_reason=reason), failures, 0.0
            await asyncio.sleep(min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2**failures) * random.uniform(0.5, 1.0))

    def choose_address(self, wire_request: WireRequest) -> ServerAddress:
        """Returns the address whose prefix cache has the request's document, or the least busy one if it is busy."""
        now = time.monotonic()
        available = [address for address in self.addresses if address.paused_until <= now] or self.addresses
        request = wire_request.request
        prefix = request.system + request.shared_prefix[:DOCUMENT_PREFIX_CHARACTERS]
        preferred = available[crc32(prefix.encode()) % len(available)]
        least_busy = min(available, key=lambda address: address.in_flight)
        return preferred if preferred.in_flight <= 2 * least_busy.in_flight + 8 else least_busy

    async def post(self, address: ServerAddress, wire_request: WireRequest) -> Completion | Retry:
        import httpx2
        import openai

        task = asyncio.current_task()
        assert task is not None
        self.sending.add(task)
        address.in_flight += 1
        content = self.content(wire_request)
        try:
            response = await address.client.post(
                f"{address.url.rstrip('/')}{PATHS[self.options.api]}",  # absolute, so that the SDK does not merge it
                cast_to=httpx2.Response,
                content=content,
            )
            completion = parse_completion(json.loads(response.content), self.options.model, self.price)
        except openai.APIStatusError as error:
            return self.handle_status(address, error, with_schema=b'"json_schema"' in content)
        except openai.APIError as error:
            return Retry(f"no connection ({type(error.__cause__ or error).__name__})")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return Retry("response body not in the API's format")
        except (httpx2.HTTPError, OSError) as error:
            return Retry(f"connection lost ({type(error).__name__})")
        finally:
            address.in_flight -= 1
            self.sending.discard(task)
        address.failures = 0
        self.throttle_notice.on_answer()
        self.limiter.on_success(response.headers)
        return completion

    def content(self, wire_request: WireRequest) -> bytes:
        if not self.plain_json or wire_request.request.json_schema is None:
            return wire_request.body
        return encode_body({**json.loads(wire_request.body), "response_format": {"type": "json_object"}})

    def handle_status(self, address: ServerAddress, error: Any, with_schema: bool) -> Completion | Retry:
        """Returns a final answer or a Retry for an HTTP error. Raises LLMError if all requests would fail."""
        status, message = error.status_code, self.options.error_message(error)
        if status == 401 or (status == 403 and not self.answered):  # after an answer, a 403 concerns a single prompt
            raise LLMError(f"{address.label} rejected the key in {self.options.api_key_env} (HTTP {status}): {message}")
        if status == 402:
            raise LLMError(f"{address.label}: the account has no credit left (HTTP 402): {message}")
        if status == 404:
            raise LLMError(f"{address.label} has no model {self.options.model!r} (HTTP 404): {message}")
        if status == 429:
            if "insufficient_quota" in str(error.body):
                raise LLMError(f"{address.label}: the account's quota is used up (HTTP 429): {message}")
            return Retry("HTTP 429", wait_s=retry_after(error.response.headers))
        if status == 400 and with_schema and "response_format" in message:
            self.plain_json = True
            return Retry("the endpoint does not support schemas")
        if status in (408, 409) or status >= 500:
            return Retry(f"HTTP {status}")
        return Completion(text=message, model=self.options.model, finish_reason=f"error: HTTP {status}")

    def on_throttled(self, address: ServerAddress, wait_s: float) -> None:
        self.limiter.on_throttled(wait_s)
        if self.throttle_notice.is_due():
            self.notify(
                f"  {address.label} is throttling requests (HTTP 429), {self.answered:,} answered so far: "
                f"reduced to {int(self.limiter.window)} concurrent requests"
            )

    def on_failure(self, address: ServerAddress, reason: str) -> None:
        """Pauses an address that keeps failing, if there are others."""
        address.failures += 1
        if len(self.addresses) > 1 and address.failures == FAILURES_BEFORE_PAUSE:
            address.failures = 0
            address.paused_until = time.monotonic() + PAUSE_S
            self.notify(f"  {address.label} is paused for {PAUSE_S:.0f} s after {reason}; the other addresses continue")

    def check_endpoint_alive(self, reason: str) -> None:
        """Raises LLMError after several consecutive failed requests, instead of trying all remaining ones."""
        self.consecutive_failures += 1
        if self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
            raise LLMError(
                f"llm.base_url: {', '.join(self.options.addresses)} stopped answering: {reason.removeprefix(GAVE_UP)}. "
                "Check the server and run the same command: cached answers are not requested again"
            )


def create_client(options: OpenAIOptions, address: str) -> Any:
    """Returns the SDK's aiohttp client: the default client opens more connections than requests in flight."""
    from openai import AsyncOpenAI, DefaultAioHttpClient

    return AsyncOpenAI(
        api_key=options.key,
        base_url=address,
        timeout=options.timeout_s,
        max_retries=0,  # the rate limiter must see every rejection
        http_client=DefaultAioHttpClient(timeout=options.timeout_s),
    )


def retry_after(headers: Mapping[str, str]) -> float:
    """Returns the seconds to wait, with jitter."""
    try:
        return max(0.0, float(headers.get("retry-after", 1.0))) + random.uniform(0.0, 0.2)
    except ValueError:  # a date
        return 5.0
