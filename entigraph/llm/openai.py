"""Any OpenAI-compatible endpoint (OpenAI, a vLLM or Ollama server, several in turn), through the openai SDK.

Every answer is in the journal before anything else happens to it, and what the journal holds is never sent.
"""

import asyncio
import json
import os
import random
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from entigraph.errors import ConfigError, LLMError
from entigraph.llm.base import LLM, Completion, Request, Usage, hashed
from entigraph.llm.cost import Budget, Price, price_of
from entigraph.llm.journal import Journal
from entigraph.llm.limits import Limiter

CHARACTERS_A_TOKEN = 4.0  # for estimates only: admission and the cost stop
ANSWERS_AHEAD = 4  # windows of answers that may wait for an earlier one
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
ATTEMPTS_BEFORE_ANY_ANSWER = 3  # an endpoint that is down is said within seconds
GAVE_UP = "gave up: "  # asked again by the next command, unlike what the endpoint refused
DEFAULT_ADDRESS = ""  # the SDK's own


Task = asyncio.Task[Any]
Window = deque[tuple[Request, "Completion | Future[Completion]"]]


@dataclass(frozen=True, kw_only=True)
class OpenAICompatible:
    """`base_url` is one address or a list, served in turn; null: OpenAI's. The key is read from the environment
    variable that `api_key_env` names, and stays there; an own server needs none.

    `max_cost_usd` stops before it is passed; null: no limit. `attempts` bounds the tries of one request, those that a
    server's rate limit turned away not counted. `expected_tokens` of an answer, for estimates, until answers are known.
    """

    name: str = "openai"
    model: str = "gpt-4o-mini"
    base_url: Any = None
    api_key_env: str = "OPENAI_API_KEY"
    max_tokens: int | None = None
    concurrency: int = 64
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_cost_usd: float | None = 5.0
    timeout_s: float = 600.0
    attempts: int = 6
    send_seed: bool = True
    expected_tokens: int = 600
    prices: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("concurrency", "requests_per_minute", "tokens_per_minute", "timeout_s", "attempts", "max_tokens"):
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise ConfigError(f"llm.{key}: {value} found, more than 0 expected")
        if self.max_cost_usd is not None and self.max_cost_usd < 0:
            raise ConfigError(f"llm.max_cost_usd: {self.max_cost_usd} found, 0 or more, or null, expected")
        if not isinstance(self.base_url, (str, list, type(None))):
            raise ConfigError(f"llm.base_url: {self.base_url!r} found, an address or a list of addresses expected")
        price_of(self.model, self.addresses, self.prices)

    @property
    def addresses(self) -> list[str]:
        given = [self.base_url] if isinstance(self.base_url, str) else list(self.base_url or ())
        return given or [os.environ.get("OPENAI_BASE_URL", DEFAULT_ADDRESS)]

    @property
    def price(self) -> Price:
        return price_of(self.model, self.addresses, self.prices)

    @property
    def key(self) -> str:
        """Raises LLMError where a paid endpoint has none."""
        free = self.price.prompt == 0 == self.price.completion
        key = os.environ.get(self.api_key_env) or ("none-needed" if free else "")
        if not key:
            raise LLMError(f"llm.api_key_env: the environment has no {self.api_key_env}; export the endpoint's key")
        return key

    def check(self) -> None:
        """Raises LLMError where it could not answer: asked before anything is made."""
        _ = self.key

    @contextmanager
    def connect(self, journal: Path) -> Iterator[LLM]:
        """Raises LLMError without a key for a paid endpoint."""
        key, answers = self.key, Journal(journal)
        try:
            yield Client(self, answers, self.price, key)
        finally:
            answers.close()

    def body(self, request: Request) -> dict[str, Any]:
        """What is sent, and what an answer is known by."""
        messages = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
        sent: dict[str, Any] = {"model": self.model, "messages": messages, "temperature": request.temperature}
        if self.max_tokens is not None:
            sent["max_completion_tokens"] = self.max_tokens
        if self.send_seed:
            sent["seed"] = request.sample
        if request.json_schema is not None:
            schema = {"name": "answer", "schema": request.json_schema, "strict": True}
            sent["response_format"] = {"type": "json_schema", "json_schema": schema}
        return sent


def answer_key(body: Mapping[str, Any], request: Request) -> bytes:
    return hashed([body, request.sample])


class Client:
    """One connection's worth of state: the SDK's clients, the limiter, the budget and the journal."""

    def __init__(self, options: OpenAICompatible, journal: Journal, price: Price, key: str) -> None:
        self.options, self.journal, self.price, self.key = options, journal, price, key
        self.name = options.name
        self.limiter = Limiter(options.concurrency, options.requests_per_minute, options.tokens_per_minute)
        self.budget = Budget(options.max_cost_usd)
        self.plain_json = False  # the endpoint does not take a schema: JSON mode instead
        self.answered = 0
        self.begun = self.ended = 0  # each counted by one thread only
        self.tasks: set[Task] = set()
        self.sending: set[Task] = set()

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Completion]]:
        """In the order of the requests; up to `concurrency` are in flight, and answers wait for earlier ones.

        A thread talks to the endpoint, so that an answer is journaled when it comes and not when it is wanted.
        Whoever stops early lets what is in flight end, so that what was paid for is kept.
        """
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="llm", daemon=True)
        thread.start()
        clients = self.clients()
        addresses, stream = cycle(clients), iter(requests)
        window: Window = deque()
        try:
            while True:
                self.fill(window, stream, loop, addresses)
                if not window:
                    return
                request, found = window[0]
                completion = found.result() if isinstance(found, Future) else found
                window.popleft()
                yield request, completion
        finally:
            asyncio.run_coroutine_threadsafe(self.wind_up(clients), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def wind_up(self, clients: Sequence[Any]) -> None:
        """What was sent is answered and journaled; what was not sent is not."""
        for task in self.tasks - self.sending:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for client in clients:
            await client.close()

    def clients(self) -> list[Any]:
        from openai import AsyncOpenAI, DefaultAioHttpClient

        return [
            AsyncOpenAI(
                api_key=self.key,
                base_url=address or None,
                timeout=self.options.timeout_s,
                max_retries=0,  # the limiter must see every refusal
                http_client=DefaultAioHttpClient(timeout=self.options.timeout_s),
            )
            for address in self.options.addresses
        ]

    def fill(
        self, window: Window, stream: Iterator[Request], loop: asyncio.AbstractEventLoop, addresses: Iterator[Any]
    ) -> None:
        """Draw requests while there is room; what the journal holds takes none."""
        in_flight = self.options.concurrency
        while self.begun - self.ended < in_flight and len(window) < ANSWERS_AHEAD * in_flight:
            request = next(stream, None)
            if request is None:
                return
            body = self.options.body(request)
            key = answer_key(body, request)
            known = self.journal.get(key)
            if known is None:
                self.begun += 1
                window.append(
                    (request, asyncio.run_coroutine_threadsafe(self.ask(next(addresses), request, body, key), loop))
                )
                continue
            window.append((request, known))
            if len(window) == 1:
                return  # nothing stands before it: hand it on before the next is drawn

    async def ask(self, client: Any, request: Request, body: dict[str, Any], key: bytes) -> Completion:
        prompt_tokens = int(len(request.system + request.user) / CHARACTERS_A_TOKEN)
        expected = self.options.max_tokens or self.options.expected_tokens
        estimate = self.price.of(prompt_tokens, 0, expected)
        dollars = 0.0
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        reserved = 0.0
        try:
            self.budget.reserve(estimate)
            reserved = estimate
            completion, attempts = await self.attempt(client, body, prompt_tokens + expected)
            dollars = completion.usage.dollars
            if not completion.finish_reason.startswith(GAVE_UP):
                self.journal.put(key, completion, attempts)
            self.answered += 1
            return completion
        finally:
            self.tasks.discard(task)
            self.ended += 1
            self.budget.settle(reserved, dollars)

    async def attempt(self, client: Any, body: dict[str, Any], tokens: int) -> tuple[Completion, int]:
        """The answer, or the typed reason why there is none. Raises LLMError where no request could be answered."""
        failures = 0
        while True:
            async with self.limiter.slot(tokens):
                outcome = await self.post(client, body)
            if isinstance(outcome, Completion):
                return outcome, failures + 1
            if outcome.wait_s is not None:
                self.limiter.throttled(outcome.wait_s)
                continue
            failures += 1
            if not self.answered and failures >= ATTEMPTS_BEFORE_ANY_ANSWER:
                raise LLMError(
                    f"{self.where(client)} answers nothing: {outcome.reason}. Check llm.base_url and the server"
                )
            if failures >= self.options.attempts:
                return Completion(text="", model=self.options.model, finish_reason=GAVE_UP + outcome.reason), failures
            await asyncio.sleep(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**failures) * random.uniform(0.5, 1.0))

    async def post(self, client: Any, body: dict[str, Any]) -> "Completion | Retry":
        import httpx2
        import openai

        task = asyncio.current_task()
        assert task is not None
        if self.plain_json and "response_format" in body:
            body = {**body, "response_format": {"type": "json_object"}}
        self.sending.add(task)
        try:
            response = await client.post("/chat/completions", cast_to=httpx2.Response, body=body)
            completion = self.completion(json.loads(response.content))
        except openai.APIStatusError as error:
            return self.refused(client, body, error)
        except openai.APIError as error:
            return Retry(f"no connection ({type(error.__cause__ or error).__name__})")
        except (ValueError, KeyError, IndexError, TypeError):
            return Retry("an answer that is not the API's JSON")
        except (httpx2.HTTPError, OSError) as error:
            return Retry(f"a broken connection ({type(error).__name__})")
        finally:
            self.sending.discard(task)
        self.limiter.succeeded(response.headers)
        return completion

    def completion(self, answer: Mapping[str, Any]) -> Completion:
        choice = answer["choices"][0]
        message = choice["message"]
        used = answer.get("usage") or {}
        cached = (used.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        prompt, written = used.get("prompt_tokens", 0), used.get("completion_tokens", 0)
        return Completion(
            text=message.get("refusal") or message.get("content") or "",
            model=str(answer.get("model") or self.options.model),
            finish_reason="refusal" if message.get("refusal") else choice.get("finish_reason") or "stop",
            usage=Usage(prompt, cached, written, self.price.of(prompt, cached, written)),
        )

    def refused(self, client: Any, body: dict[str, Any], error: Any) -> "Completion | Retry":
        """What an HTTP error means: never again, later, or once more."""
        status, told = error.status_code, self.told(error)
        if status in (401, 403):
            raise LLMError(
                f"{self.where(client)} refuses the key in {self.options.api_key_env} (HTTP {status}): {told}"
            )
        if status == 404:
            raise LLMError(f"{self.where(client)} knows no model {self.options.model!r} (HTTP 404): {told}")
        if status == 429:
            if "insufficient_quota" in str(error.body):
                raise LLMError(f"{self.where(client)}: the account's quota is used up (HTTP 429): {told}")
            return Retry("HTTP 429", wait_s=retry_after(error.response.headers))
        if status == 400 and "response_format" in body and "response_format" in told and not self.plain_json:
            self.plain_json = True
            return Retry("the endpoint takes no schema")
        if status in (408, 409) or status >= 500:
            return Retry(f"HTTP {status}")
        return Completion(text=told, model=self.options.model, finish_reason=f"error: HTTP {status}")

    def told(self, error: Any) -> str:
        """The endpoint's own words, in which it may repeat the key."""
        return str(error.message).replace(self.key, "<key>")[:300]

    def where(self, client: Any) -> str:
        return f"llm.base_url: {client.base_url}"


@dataclass(frozen=True)
class Retry:
    """Why there is no answer yet. `wait_s`: the server asked for patience, which counts against no one."""

    reason: str
    wait_s: float | None = None


def retry_after(headers: Mapping[str, str]) -> float:
    try:
        return max(0.0, float(headers.get("retry-after", 1.0))) + random.uniform(0.0, 0.2)
    except ValueError:
        return 5.0  # a date
