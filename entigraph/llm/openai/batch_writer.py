"""The same requests through the Batch API: half the price, an answer within a day.

Requests are collected into files, sent as batches and looked for again and again. The response cache knows which
batches are pending, so that a command that was ended, killed or interrupted finds them when run again, days later.
"""

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, LLMError
from entigraph.llm.base import CHARACTERS_PER_TOKEN, LLM, Completion, Say
from entigraph.llm.caching import GAVE_UP, Answer, CachingLLM, WireRequest
from entigraph.llm.cost import Price, SpendingLimit
from entigraph.llm.openai.batch_files import BatchFile, PendingBatchFiles
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.llm.response_cache import PendingBatch, ResponseCache
from entigraph.llm.wire_format import Api, parse_completion

LABEL = "entigraph"  # the metadata under which the endpoint keeps our name of a batch
RETRIES_OF_THE_SDK = 2
LOOKS_IN_VAIN = 60  # how often in a row an endpoint may not be reached that was reached before
SECONDS_BETWEEN_WORDS = 60.0
ON_ITS_WAY = ("validating", "in_progress", "finalizing", "cancelling")


@dataclass(frozen=True, kw_only=True)
class OpenAIBatchWriter(OpenAIWriter):
    """A file ends at `requests_per_file` or `megabytes_per_file`, whichever comes first; both are the API's limits by
    default. `batches_at_once` may be on their way; `discount` is off the price.
    """

    requests_per_file: int = runtime_field(50_000)
    megabytes_per_file: float = runtime_field(190.0)
    batches_at_once: int = runtime_field(4)
    poll_s: float = runtime_field(30.0)
    discount: float = runtime_field(0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("requests_per_file", "megabytes_per_file", "batches_at_once", "poll_s")
        if len(self.addresses) > 1:
            raise ConfigError("llm.base_url: several addresses found; batches go to one")

    @property
    def price(self) -> Price:
        return super().price.times(1 - self.discount)

    @contextmanager
    def connect(self, response_cache: Path, say: Say = print) -> Iterator[LLM]:
        _, answers = self.key, ResponseCache(response_cache)
        transport = BatchTransport(self, answers, response_cache.parent / ".batches", say)
        try:
            yield CachingLLM(self.name, answers, self.body, transport)
        finally:
            transport.settle()
            answers.close()


class EndpointUnreachable(LLMError):
    """The endpoint does not answer now; perhaps later."""


class BatchTransport:
    """A transport without a thread: it sends and looks for answers while somebody waits for one."""

    def __init__(self, options: OpenAIBatchWriter, cache: ResponseCache, folder: Path, say: Say) -> None:
        from openai import OpenAI

        self.options, self.cache, self.say = options, cache, say
        (self.address,) = options.addresses
        self.client = OpenAI(
            api_key=options.key, base_url=self.address, timeout=options.timeout_s, max_retries=RETRIES_OF_THE_SDK
        )
        self.budget = SpendingLimit(cache, options.max_cost_usd, options.price)
        self.outbox = PendingBatchFiles(folder, options.requests_per_file, options.megabytes_per_file * 1e6)
        self.reserved: dict[bytes, float] = {}  # dollars, by request
        self.answers: dict[bytes, list[Answer]] = {}
        self.attempts: dict[bytes, int] = {}
        self.reached = False
        self.queue_is_full = False  # the endpoint takes no more until a batch has ended
        self.last_word = time.monotonic()

    @property
    def capacity(self) -> int:
        return self.options.requests_per_file * self.options.batches_at_once

    def send(self, letter: WireRequest) -> Answer:
        answer: Answer = Future()
        on_its_way = letter.key in self.answers or self.cache.is_batched(letter.key, self.address)
        if not on_its_way:
            expected = self.options.expected(letter.request)
            estimate = self.options.price.of(len(letter.body) / CHARACTERS_PER_TOKEN, 0, expected)
            try:
                self.budget.reserve(estimate)
            except LLMError as error:
                answer.set_exception(error)  # what stands before it is still sent
                return answer
            line = b'{"custom_id": "%b", "method": "POST", "url": "%b", "body": %b}\n'
            self.reserved[letter.key] = estimate
            self.outbox.add(
                letter.key, letter.scope, line % (letter.key.hex().encode(), self.path.encode(), letter.body)
            )
        self.answers.setdefault(letter.key, []).append(answer)
        return answer

    def wait(self, answer: Answer, freed: threading.Event) -> None:
        """Raises LLMError where the endpoint refuses a batch, or is not reached any more."""
        in_vain = 0
        while not answer.done():
            self.outbox.close()  # with what is asked again
            try:
                ended = self.go_on()
                in_vain, self.reached = 0, True
            except EndpointUnreachable as error:
                in_vain, ended = in_vain + 1, False
                if in_vain >= LOOKS_IN_VAIN or not self.reached:
                    raise
                self.say(f"  {error}")
            if not ended and not answer.done():
                time.sleep(self.options.poll_s)

    def go_on(self) -> bool:
        """Send what may be sent, and look at all that is on its way; True where something ended."""
        on_their_way = self.on_their_way()
        if not on_their_way:
            self.queue_is_full = False
        full = self.outbox.full
        while full and not self.queue_is_full and len(on_their_way) < self.options.batches_at_once:
            on_their_way.append(self.submit(full.pop(0)))
        ended = any([self.look(batch) for batch in on_their_way])
        return self.ended_elsewhere() or ended

    def ended_elsewhere(self) -> bool:
        """Requests whose batch another process has collected; True where there are some."""
        unsent = self.outbox.unsent()
        over = [key for key in self.answers if key not in unsent and not self.cache.is_batched(key, self.address)]
        for key in over:
            if self.cache.get(key):
                self.release([key])
                self.resolve(key, None)
            else:
                self.give_up(key, "its batch was ended by another command")
        return bool(over)

    def on_their_way(self) -> list[PendingBatch]:
        """Those of earlier commands too. One without an id is looked for by its name at the endpoint."""
        found = []
        for batch in self.cache.batches(self.address):
            if batch.id is None and self.outbox.is_being_sent(batch.name):
                continue
            known = batch.id or self.endpoints_id(batch.name)
            if known is None:
                self.again(batch, self.cache.batched(batch.name), {}, "a batch that was never sent")
                self.forget(batch.name)
                continue
            if batch.id is None:
                self.cache.name_batch(batch.name, known)
            found.append(PendingBatch(batch.name, batch.address, known))
        return found

    def endpoints_id(self, name: str) -> str | None:
        with self.explained():
            ours = (each.id for each in self.client.batches.list() if (each.metadata or {}).get(LABEL) == name)
            return next(ours, None)

    @property
    def path(self) -> Literal["/v1/chat/completions", "/v1/completions"]:
        return "/v1/completions" if self.options.api is Api.completions else "/v1/chat/completions"

    def submit(self, spool: BatchFile) -> PendingBatch:
        batch = PendingBatch(spool.name, self.address)
        self.cache.begin_batch(batch, spool.keys)
        with self.explained():
            with spool.path.open("rb") as file:
                uploaded = self.client.files.create(file=(spool.path.name, file), purpose="batch")
            created = self.client.batches.create(
                input_file_id=uploaded.id,
                endpoint=self.path,
                completion_window="24h",
                metadata={LABEL: spool.name},
            )
        self.cache.name_batch(spool.name, created.id)
        spool.lock.release()
        self.say(f"  batch {created.id}: {len(spool.keys):,} requests sent")
        return PendingBatch(spool.name, self.address, created.id)

    def look(self, batch: PendingBatch) -> bool:
        """True where the batch has ended; its answers are in the response cache then."""
        with self.explained():
            found = self.client.batches.retrieve(str(batch.id))
        if found.status in ON_ITS_WAY:
            self.tell(found)
            return False
        if found.status == "failed":
            self.refused(batch, found)
            return True
        self.collect(batch, found)
        return True

    def tell(self, found: Any) -> None:
        now = time.monotonic()
        if found.request_counts and now - self.last_word > SECONDS_BETWEEN_WORDS:
            self.last_word = now
            counts = found.request_counts
            self.say(f"  batch {found.id}: {counts.completed:,} of {counts.total:,} answered ({found.status})")

    def collect(self, batch: PendingBatch, found: Any) -> None:
        """Every answer into the response cache; what has none is asked again, in another batch."""
        self.queue_is_full = False
        missing = self.cache.batched(batch.name)
        reasons: dict[bytes, str] = {}
        freed = spent = 0.0
        for file in (found.output_file_id, found.error_file_id):
            for key, outcome in self.outcomes(file):
                if key not in missing:
                    continue
                if isinstance(outcome, str):
                    reasons[key] = outcome
                    continue
                self.cache.put(key, outcome, scope=missing.pop(key), attempts=self.attempts.pop(key, 0) + 1)
                freed += self.reserved.pop(key, 0.0)
                spent += outcome.usage.dollars
                self.resolve(key, None)
        self.budget.settle(freed, spent)
        if found.status == "canceled" and missing:
            self.forget(batch.name)
            raise LLMError(
                f"batch {batch.id} was canceled, {len(missing):,} of its requests are not answered. "
                "What was answered is kept; the same command sends the rest again"
            )
        self.again(batch, missing, reasons, found.status)
        self.forget(batch.name)

    def outcomes(self, file: str | None) -> Iterator[tuple[bytes, Completion | str]]:
        """Each line of a result file: an answer, or why the request is to be asked again."""
        if file is None:
            return
        with self.explained(), self.client.files.with_streaming_response.content(file) as content:
            for line in content.iter_lines():
                if line.strip():
                    record = json.loads(line)
                    yield bytes.fromhex(record["custom_id"]), self.outcome(record)

    def outcome(self, record: Mapping[str, Any]) -> Completion | str:
        response = record.get("response") or {}
        status = response.get("status_code")
        if status == 200:
            try:
                return parse_completion(response["body"], self.options.model, self.options.price)
            except (KeyError, IndexError, TypeError, AttributeError):
                return "an answer that is not the API's JSON"
        if status is None or status in (401, 402, 403, 404, 408, 409, 429) or status >= 500:  # no word about the prompt
            return f"HTTP {status}" if status else str((record.get("error") or {}).get("code") or "no answer")
        told = ((response.get("body") or {}).get("error") or {}).get("message", "")
        return Completion(text=self.options.told(told), model=self.options.model, finish_reason=f"error: HTTP {status}")

    def again(
        self, batch: PendingBatch, missing: Mapping[bytes, bytes], reasons: Mapping[bytes, str], status: str
    ) -> None:
        """Requests without an answer go into the next file, up to `attempts` times, if somebody waits for them."""
        waited_for = {key for key in missing if key in self.answers}
        for key, line in self.outbox.lines(batch.name):
            self.attempts[key] = self.attempts.get(key, 0) + (key in waited_for)
            if key in waited_for and self.attempts[key] < self.options.attempts:
                self.outbox.add(key, missing[key], line)
                waited_for.discard(key)
        for key in waited_for:
            self.give_up(key, reasons.get(key, status))

    def give_up(self, key: bytes, reason: str) -> None:
        self.budget.settle(self.reserved.pop(key, 0.0), 0.0)
        self.resolve(key, Completion(text="", model=self.options.model, finish_reason=GAVE_UP + reason))

    def refused(self, batch: PendingBatch, found: Any) -> None:
        """Raises LLMError, but for a batch that only came too early: it waits for the others to end."""
        errors = found.errors.data if found.errors and found.errors.data else []
        told = "; ".join(f"{error.code}: {error.message}" for error in errors) or "no reason given"
        others = [other for other in self.cache.batches(self.address) if other.name != batch.name]
        if others and any(error.code == "token_limit_exceeded" for error in errors):
            self.queue_is_full = True
            for key in self.cache.batched(batch.name):
                self.attempts[key] = self.attempts.get(key, 0) - 1  # it was no try
            self.again(batch, self.cache.batched(batch.name), {}, "failed")
            self.forget(batch.name)
            self.say(f"  batch {batch.id} waits for the others: {self.options.told(told)}")
            return
        self.release(self.cache.batched(batch.name))
        self.forget(batch.name)
        raise LLMError(
            f"llm.base_url: {self.address} refuses batch {batch.id}: {self.options.told(told)}. "
            "If it is too large, lower llm.requests_per_file or llm.megabytes_per_file"
        )

    def forget(self, name: str) -> None:
        self.cache.end_batch(name)
        self.outbox.remove(name)

    def release(self, keys: Iterable[bytes]) -> None:
        """What was set aside for requests that are not answered."""
        self.budget.settle(sum(self.reserved.pop(key, 0.0) for key in keys), 0.0)

    def resolve(self, key: bytes, completion: Completion | None) -> None:
        for answer in self.answers.pop(key, ()):
            answer.set_result(completion)

    def settle(self) -> None:
        """What was sent stays with the endpoint, to be collected by the next command that wants it."""
        for spool in self.outbox.drop():
            self.release(spool.keys)
        for answers in self.answers.values():
            for answer in answers:
                answer.cancel()
        self.answers.clear()

    @contextmanager
    def explained(self) -> Iterator[None]:
        import openai

        try:
            yield
        except openai.AuthenticationError as error:
            raise LLMError(
                f"llm.base_url: {self.address} refuses the key in {self.options.api_key_env} "
                f"(HTTP 401): {self.options.told(error)}"
            ) from None
        except openai.APIStatusError as error:
            kind = EndpointUnreachable if error.status_code >= 500 or error.status_code == 429 else LLMError
            raise kind(
                f"llm.base_url: {self.address} answers HTTP {error.status_code}: {self.options.told(error)}. "
                "What is on its way is kept; the same command goes on"
            ) from None
        except openai.APIError as error:
            raise EndpointUnreachable(
                f"llm.base_url: {self.address} is not reached ({type(error.__cause__ or error).__name__}). "
                "What is on its way is kept; the same command goes on"
            ) from None
