"""Transport that sends requests concurrently, at the rate that the endpoint accepts, with retries.

A separate thread runs the event loop, so that an answer is cached when it arrives rather than when it is consumed.
"""

import asyncio
import json
import random
import threading
import time
from binascii import crc32
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from entigraph.errors import ArtifactError, EntigraphError, LLMError
from entigraph.llm.base import ANSWERED, CONTENT_FILTER, GAVE_UP, LENGTH, REFUSAL, REJECTED, Completion, Notify, Usage
from entigraph.llm.caching import Answer, WireRequest
from entigraph.llm.cost import escape_key
from entigraph.llm.openai.capabilities import LIMITS, Capabilities, describe_detected
from entigraph.llm.openai.endpoint_errors import final_outcome, raise_if_fatal, rejects_everything
from entigraph.llm.openai.openai_options import OpenAIOptions
from entigraph.llm.openai.rate_limits import RateLimiter
from entigraph.llm.openai.server_address import Retry, ServerAddress
from entigraph.llm.openai.unanswered import UnansweredRequests
from entigraph.llm.replies import ErrorKind, ReplyError, classify_error
from entigraph.llm.response_cache import ResponseCache
from entigraph.text.writing_systems import CHARACTERS_PER_TOKEN, count_words

DOCUMENT_PREFIX_CHARACTERS = 4_000  # sufficient to identify a request's document
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.5, 30.0
ATTEMPTS_BEFORE_FIRST_ANSWER = 3  # reports an endpoint that is down within seconds
MAX_CONSECUTIVE_FAILURES = 8  # failed requests in a row before an endpoint is considered down
MAX_REJECTED_FIRST = 8  # rejected requests before the first answer
SECONDS_ALONE = 1.0  # without other requests in flight, after which a rejected first request decides by itself
FAILURES_BEFORE_PAUSE, PAUSE_S = 3, 30.0  # per address, with several addresses
SECONDS_BEFORE_NOTICE, SECONDS_BETWEEN_NOTICES = 20.0, 60.0
DEFAULT_THROTTLE_S, MAX_THROTTLE_S = 1.0, 60.0  # per pause: the limit may be lifted earlier than stated
MAX_SECONDS_THROTTLED = 3_600.0  # without any answer
MIN_TOKENS_PER_WORD = 0.75  # in prompts; tokenizers give more than one
MIN_CONTEXT = 256  # tokens; a server that counts fewer of a long prompt does not count
PROMPT_CUT = "prompt cut by the server"  # a finish reason

KNOWN_REASONS = (*ANSWERED, REFUSAL, CONTENT_FILTER, "tool_calls", "function_call")

Task = asyncio.Task[Any]


@dataclass
class ThrottleNotice:
    """Decides when to notify the user that all requests are throttled (HTTP 429)."""

    since: float | None = None
    last_notice: float = field(default=float("-inf"))

    def on_answer(self) -> None:
        self.since = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since if self.since else 0.0

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
        self.spending = options.spending_limit(cache)
        self.throttle_notice = ThrottleNotice()
        self.unanswered = UnansweredRequests(cache.folder, " ".join(options.addresses))
        self.answered = self.consecutive_failures = 0
        self.rejected = self.rejected_first = 0  # all, and those that wait for the first answer
        self.longest_answer = 0  # tokens
        self.draining = False  # no further retries
        self.stop_error: EntigraphError | None = None  # affects all requests
        self.reported: set[str] = set()
        self.tasks: set[Task] = set()
        self.loop = asyncio.new_event_loop()
        self.first_outcome = asyncio.Event()  # the first answer, or a `stop_error`
        self.thread = threading.Thread(target=self.loop.run_forever, name="llm", daemon=True)
        self.addresses = [ServerAddress(url, options, cache.folder) for url in options.addresses]
        self.thread.start()

    @property
    def capacity(self) -> int:
        return self.options.concurrency

    def send(self, wire_request: WireRequest) -> Answer:
        if refused := self.unanswered.get(wire_request.key):
            answer: Answer = Future()
            answer.set_result(refused)
            return answer
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
        for task in self.tasks.difference(*(address.sending for address in self.addresses)):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.draining = False

    async def close_clients(self) -> None:
        for address in self.addresses:
            await address.close()

    async def request_answer(self, wire_request: WireRequest) -> Completion:
        """Reserves the cost of a request, sends it, and caches and returns the answer."""
        prompt_tokens = len(wire_request.body) / CHARACTERS_PER_TOKEN
        completion_tokens = self.options.estimate_completion_tokens(wire_request.request, self.longest_answer)
        estimate, reserved, dollars = self.price.dollars(prompt_tokens, 0, completion_tokens), 0.0, 0.0
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            if self.stop_error:
                raise self.stop_error
            self.spending.reserve(estimate)
            reserved = estimate
            tokens = prompt_tokens + completion_tokens
            completion, attempts, seconds = await self.send_until_answered(wire_request, tokens, estimate)
            completion = self.with_usage(completion, prompt_tokens)
            dollars = completion.usage.dollars
            self.longest_answer = max(self.longest_answer, completion.usage.completion_tokens)
            if completion.finish_reason.startswith(GAVE_UP):
                self.check_endpoint_alive(completion.finish_reason)
                return completion
            self.consecutive_failures = 0
            if completion.finish_reason.startswith(REJECTED):
                await self.check_others_accepted(completion)
            else:
                self.answered += 1
                self.first_outcome.set()
            if not completion.is_answer or is_cut_by_server(completion, wire_request):
                self.unanswered.add(wire_request.key, completion)
                return completion
            return self.cache.put(
                wire_request.key, completion, scope=wire_request.scope, attempts=attempts, seconds=seconds
            )
        except ArtifactError as error:  # the cache is not writable: stop spending
            self.stop(error)
            raise
        finally:
            self.tasks.discard(task)
            if not isinstance(self.stop_error, ArtifactError):
                self.spending.record(reserved, dollars)

    def stop(self, error: EntigraphError) -> None:
        """Makes all requests that are not finished fail with an error."""
        self.stop_error = self.stop_error or error
        self.first_outcome.set()

    async def check_others_accepted(self, rejection: Completion) -> None:
        """Raises LLMError if the endpoint has rejected every request so far, and not just this one.

        Before the first answer, a rejected request waits for it: its prompt may be the only reason.
        """
        self.rejected += 1
        if self.answered:
            return
        error = LLMError(rejects_everything(self.options, rejection, self.rejected))
        if any(address.file.has_answered for address in self.addresses):
            if self.rejected >= MAX_REJECTED_FIRST:
                self.stop(error)
                raise error
            return
        self.rejected_first += 1
        try:
            while not self.first_outcome.is_set():
                alone = self.rejected_first == len(self.tasks)
                if self.rejected_first < MAX_REJECTED_FIRST:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.first_outcome.wait(), SECONDS_ALONE)
                        break
                if self.rejected_first >= MAX_REJECTED_FIRST or (alone and self.rejected_first == len(self.tasks)):
                    self.stop(error)
        finally:
            self.rejected_first -= 1
        if self.stop_error:
            raise self.stop_error

    def with_usage(self, completion: Completion, prompt_tokens: float) -> Completion:
        """Estimates the counts that the endpoint does not report, so that the spending limit still holds."""
        usage = completion.usage
        reported = usage.prompt_tokens and usage.completion_tokens
        if reported or not completion.text or completion.finish_reason.startswith(REJECTED):
            return completion
        prompt = usage.prompt_tokens or round(prompt_tokens)
        answer = usage.completion_tokens or round(len(completion.text) / CHARACTERS_PER_TOKEN)
        dollars = self.price.dollars(prompt, usage.cached_tokens, answer)
        return replace(completion, usage=Usage(prompt, usage.cached_tokens, answer, dollars, usage.reasoning_tokens))

    async def send_until_answered(
        self, wire_request: WireRequest, tokens: float, dollars: float
    ) -> tuple[Completion, int, float]:
        """Returns the answer or the reason for giving up, the number of attempts, and the seconds of the last one.

        Each attempt takes about so many tokens and dollars. Raises LLMError if the endpoint has not answered any
        request, or attempts whose answers did not arrive have used up the spending limit.
        """
        failures = 0
        trials: dict[str, Capabilities] = {}  # by address, after a rejection
        while True:
            async with self.limiter.slot(tokens):
                address, started = self.choose_address(wire_request), time.monotonic()
                capabilities = trials.get(address.url, address.file.capabilities)
                reply = await address.post(wire_request, capabilities)
            outcome = self.handle_reply(address, reply, wire_request, capabilities)
            if isinstance(outcome, Completion):
                if not outcome.finish_reason.startswith(REJECTED):
                    self.record_answer(address, capabilities)
                return outcome, failures + 1, time.monotonic() - started
            if isinstance(outcome, Capabilities):
                trials[address.url] = outcome
                continue
            if self.draining:
                raise asyncio.CancelledError
            if outcome.wait_s is not None:
                self.on_throttled(address, outcome)
                continue
            failures += 1
            if outcome.billed:
                self.spending.reserve(dollars)  # in addition to that of the next attempt
                self.spending.record(dollars, dollars)
            self.on_failure(address, outcome.reason)
            if not self.answered and failures >= ATTEMPTS_BEFORE_FIRST_ANSWER:
                raise LLMError(f"{address.label} does not answer: {outcome.reason}. Check llm.base_url and the server")
            if failures >= self.options.attempts:
                reason = GAVE_UP + outcome.reason
                return Completion(text="", model=self.options.model, finish_reason=reason), failures, 0.0
            await asyncio.sleep(min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2**failures) * random.uniform(0.5, 1.0))

    def choose_address(self, wire_request: WireRequest) -> ServerAddress:
        """Returns the endpoint whose prefix cache has the request's document, or the least busy one if it is busy."""
        now = time.monotonic()
        available = [address for address in self.addresses if address.paused_until <= now] or self.addresses
        request = wire_request.request
        prefix = request.system + request.shared_prefix[:DOCUMENT_PREFIX_CHARACTERS]
        preferred = available[crc32(prefix.encode()) % len(available)]
        least_busy = min(available, key=lambda address: len(address.sending))
        return preferred if len(preferred.sending) <= 2 * len(least_busy.sending) + 8 else least_busy

    def handle_reply(
        self,
        address: ServerAddress,
        reply: Completion | ReplyError | Retry,
        wire_request: WireRequest,
        capabilities: Capabilities,
    ) -> Completion | Capabilities | Retry:
        """Returns how to continue after a reply: a final outcome, the capabilities to try next, or a Retry.

        Raises LLMError for an error that all requests would get.
        """
        if isinstance(reply, Retry):
            return reply
        if isinstance(reply, Completion):
            self.throttle_notice.on_answer()
            self.limiter.on_success(address.headers)
            self.report_unknown_finish_reason(reply.finish_reason)
            if is_prompt_cut(reply.usage, wire_request.request.user):
                self.report(
                    PROMPT_CUT,
                    f"  {address.label} read only {reply.usage.prompt_tokens:,} tokens of a longer prompt; its answer "
                    "is not used. Enlarge its context (Ollama: OLLAMA_CONTEXT_LENGTH) and run the same command",
                )
                return replace(reply, text="", finish_reason=PROMPT_CUT)
            return reply
        kind, reason = classify_error(reply), f"HTTP {reply.status}: {reply.message}"
        if kind is ErrorKind.throttled:
            return Retry(reason, wait_s=throttle_wait(reply))
        if kind in (ErrorKind.rejected, ErrorKind.transient, ErrorKind.missing):
            body, named_only = json.loads(wire_request.body), kind is not ErrorKind.rejected
            if adapted := capabilities.adapt(reply, body, named_only=named_only):
                return adapted
        if kind is ErrorKind.transient:
            return Retry(reason)
        first = not (self.answered or address.file.has_answered)
        raise_if_fatal(kind, reply, self.options, address.url, first=first)
        self.report(f"{kind} {reply.status}", f"  {address.label} rejected a request ({reason})")
        return final_outcome(kind, reply, self.options.model)

    def record_answer(self, address: ServerAddress, capabilities: Capabilities) -> None:
        if detected := address.file.record_answer(capabilities):
            self.notify(describe_detected(detected, address.file))

    def report_unknown_finish_reason(self, reason: str) -> None:
        if reason not in KNOWN_REASONS:
            self.report(
                reason,
                f"  the finish reason {reason!r} of {self.options.model} is unknown: its answers are not used. If they "
                f"are complete, set '+llm.finish_reasons={{{escape_key(reason)}: stop}}'",
            )

    def report(self, subject: str, line: str) -> None:
        """Notifies the user, once about each subject."""
        if subject not in self.reported:
            self.reported.add(subject)
            self.notify(line)

    def on_throttled(self, address: ServerAddress, retry: Retry) -> None:
        self.limiter.on_throttled(retry.wait_s or 0.0)
        notice_due = self.throttle_notice.is_due()
        if self.throttle_notice.seconds > MAX_SECONDS_THROTTLED:
            raise LLMError(
                f"{address.label} has rejected all requests for an hour ({retry.reason}). Answers so far are cached: "
                "run the same command later"
            )
        if notice_due:
            self.notify(
                f"  {address.label} is throttling requests ({retry.reason}), {self.answered:,} answered so far: "
                f"reduced to {int(self.limiter.window)} concurrent requests"
            )

    def on_failure(self, address: ServerAddress, reason: str) -> None:
        """Pauses an endpoint that keeps failing, if there are others."""
        address.failures += 1
        if len(self.addresses) > 1 and address.failures == FAILURES_BEFORE_PAUSE:
            address.failures = 0
            address.paused_until = time.monotonic() + PAUSE_S
            self.notify(f"  {address.label} is paused for {PAUSE_S:.0f} s after {reason}; the other endpoints continue")

    def check_endpoint_alive(self, reason: str) -> None:
        """Raises LLMError after several consecutive failed requests, instead of trying all remaining ones."""
        self.consecutive_failures += 1
        if self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
            raise LLMError(
                f"llm.base_url: {', '.join(self.options.addresses)} stopped answering: {reason.removeprefix(GAVE_UP)}. "
                f"The {self.answered:,} answers that this command received are cached. Check the server and run the "
                "same command: it continues with the other requests"
            )


def throttle_wait(error: ReplyError) -> float:
    """Returns the seconds until the next attempt, with jitter."""
    stated = DEFAULT_THROTTLE_S if error.retry_after_s is None else error.retry_after_s
    return min(stated, MAX_THROTTLE_S) + random.uniform(0.0, 0.2)


def is_cut_by_server(completion: Completion, wire_request: WireRequest) -> bool:
    """Returns whether an answer ends at the server's own limit. It is used, but not cached: the limit may be raised."""
    return completion.finish_reason == LENGTH and not json.loads(wire_request.body).keys() & LIMITS


def is_prompt_cut(usage: Usage, prompt: str) -> bool:
    """Returns whether the server silently read only a part of a prompt, by the tokens that it counted.

    Not with tokens from its prefix cache: some servers do not count those.
    """
    if usage.cached_tokens or not MIN_CONTEXT <= usage.prompt_tokens < len(prompt) / CHARACTERS_PER_TOKEN:
        return False
    return usage.prompt_tokens < MIN_TOKENS_PER_WORD * count_words(prompt)
