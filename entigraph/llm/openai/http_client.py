"""The transport that asks now: many requests at once, as fast as the endpoint takes them, each until it is answered.

A thread of its own talks to the endpoint, so that an answer is cached when it comes and not when it is wanted.
"""

import asyncio
import json
import random
import threading
import time
from binascii import crc32
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from entigraph.errors import ArtifactError, LLMError
from entigraph.llm.base import CHARACTERS_PER_TOKEN, Completion, Say, Usage
from entigraph.llm.caching import GAVE_UP, Answer, WireRequest, encode_body
from entigraph.llm.cost import SpendingLimit
from entigraph.llm.openai.rate_limits import RateLimiter
from entigraph.llm.response_cache import ResponseCache
from entigraph.llm.wire_format import PATHS, parse_completion

if TYPE_CHECKING:
    from entigraph.llm.openai.online_writer import OpenAIWriter

DOCUMENT_BEGINNING = 4_000  # characters by which a document is told from others
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
ATTEMPTS_BEFORE_ANY_ANSWER = 3  # an endpoint that is down is said within seconds
GIVEN_UP_IN_A_ROW = 8  # and one that went down, before everything that is left was tried in vain
FAILURES_BEFORE_REST, REST_S = 3, 30.0  # of one address among several
SECONDS_BEFORE_A_WORD, SECONDS_BETWEEN_WORDS = 20.0, 60.0

Task = asyncio.Task[Any]


@dataclass
class ServerAddress:
    url: str
    client: Any
    in_flight: int = 0
    failures: int = 0
    resting_until: float = 0.0


@dataclass(frozen=True)
class Retry:
    """Why there is no answer yet. `wait_s`: the server asked for patience, which counts against no one."""

    reason: str
    wait_s: float | None = None


@dataclass
class ThrottleNotice:
    """When a server that answers nothing but 429 is worth a word."""

    since: float | None = None
    last_word: float = field(default=float("-inf"))

    def answered(self) -> None:
        self.since = None

    def throttled(self) -> bool:
        now = time.monotonic()
        self.since = self.since or now
        due = now - self.since > SECONDS_BEFORE_A_WORD and now - self.last_word > SECONDS_BETWEEN_WORDS
        self.last_word = now if due else self.last_word
        return due


class OnlineTransport:
    def __init__(self, options: "OpenAIWriter", cache: ResponseCache, say: Say) -> None:
        from entigraph.llm.openai.online_writer import create_client

        self.options, self.cache, self.say, self.price = options, cache, say, options.price
        self.limiter = RateLimiter(options.concurrency, options.requests_per_minute, options.tokens_per_minute)
        self.budget = SpendingLimit(cache, options.max_cost_usd, self.price)
        self.patience = ThrottleNotice()
        self.plain_json = False  # the endpoint does not take a schema: JSON mode instead
        self.answered = self.given_up_in_a_row = 0
        self.longest = 0  # answer so far, in tokens
        self.ending = False  # nothing is tried again
        self.broken: ArtifactError | None = None
        self.tasks: set[Task] = set()
        self.sending: set[Task] = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="llm", daemon=True)
        self.addresses = [ServerAddress(url, create_client(options, url)) for url in options.addresses]
        self.thread.start()

    @property
    def capacity(self) -> int:
        return self.options.concurrency

    def send(self, letter: WireRequest) -> Answer:
        return asyncio.run_coroutine_threadsafe(self.ask(letter), self.loop)

    def wait(self, answer: Answer, freed: threading.Event) -> None:
        freed.wait()

    def settle(self) -> None:
        self.wait_for(self.wind_up())

    def close(self) -> None:
        self.wait_for(self.wind_up())
        self.wait_for(self.disconnect())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result()

    async def wind_up(self) -> None:
        self.ending = True
        for task in self.tasks - self.sending:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.ending = False

    async def disconnect(self) -> None:
        for address in self.addresses:
            await address.client.close()

    async def ask(self, letter: WireRequest) -> Completion:
        prompt_tokens = len(letter.body) / CHARACTERS_PER_TOKEN
        expected = self.options.expected(letter.request)
        if letter.request.max_tokens is None and self.options.max_tokens is None:
            expected = max(expected, self.longest)
        estimate, reserved, dollars = self.price.of(prompt_tokens, 0, expected), 0.0, 0.0
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            if self.broken:
                raise self.broken
            self.budget.reserve(estimate)
            reserved = estimate
            completion, attempts, seconds = await self.attempt(letter, prompt_tokens + expected)
            completion = self.with_usage(completion, prompt_tokens)
            dollars = completion.usage.dollars
            self.longest = max(self.longest, completion.usage.completion_tokens)
            if completion.finish_reason.startswith(GAVE_UP):
                self.refuse_if_gone(completion.finish_reason)
            else:
                self.given_up_in_a_row = 0
                self.answered += 1
                return self.cache.put(letter.key, completion, scope=letter.scope, attempts=attempts, seconds=seconds)
            return completion
        except ArtifactError as error:  # the response cache cannot be written: nothing more is to be paid for
            self.broken = error
            raise
        finally:
            self.tasks.discard(task)
            if not self.broken:
                self.budget.settle(reserved, dollars)

    def with_usage(self, completion: Completion, prompt_tokens: float) -> Completion:
        """An endpoint that does not count is counted for, so that the limit on dollars still holds."""
        if completion.usage.prompt_tokens or not completion.text or completion.finish_reason.startswith("error: "):
            return completion
        prompt, written = round(prompt_tokens), round(len(completion.text) / CHARACTERS_PER_TOKEN)
        return replace(completion, usage=Usage(prompt, 0, written, self.price.of(prompt, 0, written)))

    async def attempt(self, letter: WireRequest, tokens: float) -> tuple[Completion, int, float]:
        """The answer (or the typed reason why there is none), in how many tries, and how long the last one took.

        Raises LLMError where no request could be answered.
        """
        failures = 0
        while True:
            async with self.limiter.slot(tokens):
                address, started = self.pick(letter), time.monotonic()
                outcome = await self.post(address, letter)
            if isinstance(outcome, Completion):
                return outcome, failures + 1, time.monotonic() - started
            if self.ending:
                raise asyncio.CancelledError
            if outcome.wait_s is not None:
                self.throttled(address, outcome.wait_s)
                continue
            failures += 1
            self.failed(address, outcome.reason)
            if not self.answered and failures >= ATTEMPTS_BEFORE_ANY_ANSWER:
                raise LLMError(
                    f"{self.where(address)} answers nothing: {outcome.reason}. Check llm.base_url and the server"
                )
            if failures >= self.options.attempts:
                reason = GAVE_UP + outcome.reason
                return Completion(text="", model=self.options.model, finish_reason=reason), failures, 0.0
            await asyncio.sleep(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**failures) * random.uniform(0.5, 1.0))

    def pick(self, letter: WireRequest) -> ServerAddress:
        """The address where the request's siblings go, whose cache knows their document; another where it is busy."""
        now = time.monotonic()
        awake = [address for address in self.addresses if address.resting_until <= now] or self.addresses
        beginning = letter.request.system + letter.request.shared_prefix[:DOCUMENT_BEGINNING]
        preferred = awake[crc32(beginning.encode()) % len(awake)]
        idlest = min(awake, key=lambda address: address.in_flight)
        return preferred if preferred.in_flight <= 2 * idlest.in_flight + 8 else idlest

    async def post(self, address: ServerAddress, letter: WireRequest) -> Completion | Retry:
        import httpx2
        import openai

        task = asyncio.current_task()
        assert task is not None
        self.sending.add(task)
        address.in_flight += 1
        content = self.content(letter)
        try:
            response = await address.client.post(
                f"{address.url.rstrip('/')}{PATHS[self.options.api]}",  # absolute: it is not merged
                cast_to=httpx2.Response,
                content=content,
            )
            completion = parse_completion(json.loads(response.content), self.options.model, self.price)
        except openai.APIStatusError as error:
            return self.refused(address, error, with_schema=b'"json_schema"' in content)
        except openai.APIError as error:
            return Retry(f"no connection ({type(error.__cause__ or error).__name__})")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return Retry("an answer that is not the API's JSON")
        except (httpx2.HTTPError, OSError) as error:
            return Retry(f"a broken connection ({type(error).__name__})")
        finally:
            address.in_flight -= 1
            self.sending.discard(task)
        address.failures = 0
        self.patience.answered()
        self.limiter.succeeded(response.headers)
        return completion

    def content(self, letter: WireRequest) -> bytes:
        if not self.plain_json or letter.request.json_schema is None:
            return letter.body
        return encode_body({**json.loads(letter.body), "response_format": {"type": "json_object"}})

    def refused(self, address: ServerAddress, error: Any, with_schema: bool) -> Completion | Retry:
        """What an HTTP error means: never again, later, or once more."""
        status, told, where = error.status_code, self.options.told(error), self.where(address)
        if status == 401 or (status == 403 and not self.answered):  # later a 403 is about one prompt
            raise LLMError(f"{where} refuses the key in {self.options.api_key_env} (HTTP {status}): {told}")
        if status == 402:
            raise LLMError(f"{where}: the account has no credit left (HTTP 402): {told}")
        if status == 404:
            raise LLMError(f"{where} knows no model {self.options.model!r} (HTTP 404): {told}")
        if status == 429:
            if "insufficient_quota" in str(error.body):
                raise LLMError(f"{where}: the account's quota is used up (HTTP 429): {told}")
            return Retry("HTTP 429", wait_s=retry_after(error.response.headers))
        if status == 400 and with_schema and "response_format" in told:
            self.plain_json = True
            return Retry("the endpoint takes no schema")
        if status in (408, 409) or status >= 500:
            return Retry(f"HTTP {status}")
        return Completion(text=told, model=self.options.model, finish_reason=f"error: HTTP {status}")

    def throttled(self, address: ServerAddress, wait_s: float) -> None:
        self.limiter.throttled(wait_s)
        if self.patience.throttled():
            self.say(
                f"  {self.where(address)} keeps saying that there are too many requests (HTTP 429), "
                f"{self.answered:,} answered so far: asking {int(self.limiter.window)} at a time, as it lets us"
            )

    def failed(self, address: ServerAddress, reason: str) -> None:
        """An address that keeps failing rests, where others can do its work."""
        address.failures += 1
        if len(self.addresses) > 1 and address.failures == FAILURES_BEFORE_REST:
            address.failures = 0
            address.resting_until = time.monotonic() + REST_S
            self.say(f"  {self.where(address)} rests for {REST_S:.0f} s after {reason}; the other addresses go on")

    def refuse_if_gone(self, reason: str) -> None:
        self.given_up_in_a_row += 1
        if self.given_up_in_a_row >= GIVEN_UP_IN_A_ROW:
            raise LLMError(
                f"llm.base_url: {', '.join(self.options.addresses)} stopped answering: {reason.removeprefix(GAVE_UP)}. "
                "Check the server and run the same command: what was answered is not asked again"
            )

    def where(self, address: ServerAddress) -> str:
        return f"llm.base_url: {address.url}"


def retry_after(headers: Mapping[str, str]) -> float:
    try:
        return max(0.0, float(headers.get("retry-after", 1.0))) + random.uniform(0.0, 0.2)
    except ValueError:
        return 5.0  # a date
