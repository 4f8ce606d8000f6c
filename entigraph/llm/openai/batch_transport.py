"""Transport that uses the Batch API: submits files of requests and polls for their results."""

import json
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from entigraph.errors import LLMError
from entigraph.llm.base import GAVE_UP, Completion, Notify
from entigraph.llm.caching import Answer, WireRequest, encode_body
from entigraph.llm.cost import SpendingLimit
from entigraph.llm.openai.batch_client import BatchClient, EndpointUnreachable, NotAtEndpoint
from entigraph.llm.openai.batch_files import BatchFile, BatchFiles
from entigraph.llm.openai.capabilities import STOP_NOT_SENT, Capabilities, CapabilityFile, describe_detected
from entigraph.llm.openai.endpoint_errors import final_outcome, rejects_everything
from entigraph.llm.openai.openai_options import OpenAIOptions
from entigraph.llm.openai.unanswered import UnansweredRequests
from entigraph.llm.replies import ErrorKind, ReplyError, classify_error, cut_at_stop
from entigraph.llm.response_cache import PendingBatch, ResponseCache
from entigraph.text.writing_systems import CHARACTERS_PER_TOKEN

MAX_FAILED_POLLS = 60  # consecutive failures before giving up, once the endpoint has been reachable
SECONDS_BETWEEN_MESSAGES = 60.0
CAUSED_BY_REQUEST = (ErrorKind.rejected, ErrorKind.filtered, ErrorKind.chat_template)
ENDED_STATUS, CANCELED_STATUS = ("completed", "expired"), ("cancelled", "canceled")  # and "failed"; others are pending
NOT_AT_ENDPOINT = "the endpoint no longer has its batch"


class AwaitedRequests:
    """Requests that callers wait for: futures, reserved dollars, attempts, and notes to attach to the answers."""

    def __init__(self, spending: SpendingLimit, model: str) -> None:
        self.spending, self.model = spending, model
        self.futures: dict[bytes, list[Answer]] = {}
        self.reserved: dict[bytes, float] = {}
        self.attempts: dict[bytes, int] = {}
        self.notes: dict[bytes, tuple[str, ...]] = {}
        self.stop: dict[bytes, tuple[str, ...]] = {}  # stop strings that were not sent

    def __contains__(self, key: bytes) -> bool:
        return key in self.futures

    def add(self, key: bytes, answer: Answer) -> None:
        self.futures.setdefault(key, []).append(answer)

    def reserve(self, key: bytes, dollars: float) -> None:
        """Reserves a request's estimated cost. Raises LLMError if the spending limit could be exceeded."""
        self.spending.reserve(dollars)
        self.reserved[key] = dollars

    def release(self, keys: Iterable[bytes], dollars: float = 0.0) -> None:
        """Replaces the reservations with the actual cost of the requests."""
        self.spending.record(sum(self.reserved.pop(key, 0.0) for key in keys), dollars)

    def resolve(self, key: bytes, completion: Completion | None = None) -> None:
        """Sets the futures of a request; without a completion the answer is read from the response cache."""
        for answer in self.futures.pop(key, ()):
            answer.set_result(completion)

    def give_up(self, key: bytes, reason: str) -> None:
        self.release([key])
        self.resolve(key, Completion(text="", model=self.model, finish_reason=GAVE_UP + reason))

    def cancel_all(self) -> None:
        for answers in self.futures.values():
            for answer in answers:
                answer.cancel()
        self.futures.clear()


class BatchTransport:
    """Submits and polls in the caller's thread, while it waits for an answer."""

    def __init__(
        self,
        options: OpenAIOptions,
        cache: ResponseCache,
        files: BatchFiles,
        max_pending: int,
        poll_interval_s: float,
        notify: Notify,
    ) -> None:
        self.options, self.cache, self.files, self.notify = options, cache, files, notify
        self.max_pending, self.poll_interval_s = max_pending, poll_interval_s
        self.client = BatchClient(options)
        self.address = self.client.address
        self.awaited = AwaitedRequests(options.spending_limit(cache), options.model)
        self.unanswered = UnansweredRequests(cache.folder, self.address)
        self.capability_file = CapabilityFile(cache.folder, self.address, options.model, options.capabilities)
        self.capabilities = self.capability_file.capabilities
        self.answered = self.rejected = 0
        self.longest_answer = 0  # tokens
        self.not_at_endpoint: set[str] = set()  # names of batches
        self.reached = False
        self.queue_is_full = False  # the endpoint accepts no batch until another one has ended
        self.last_message = time.monotonic()

    @property
    def capacity(self) -> int:
        return self.files.max_requests * self.max_pending

    def send(self, wire_request: WireRequest) -> Answer:
        answer: Answer = Future()
        key = wire_request.key
        if refused := self.unanswered.get(key):
            answer.set_result(refused)
            return answer
        if key not in self.awaited and not self.cache.is_pending(key, self.address):
            completion_tokens = self.options.estimate_completion_tokens(wire_request.request, self.longest_answer)
            prompt_tokens = len(wire_request.body) / CHARACTERS_PER_TOKEN
            try:
                self.awaited.reserve(key, self.options.price.dollars(prompt_tokens, 0, completion_tokens))
            except LLMError as error:
                answer.set_exception(error)  # earlier requests are still sent
                return answer
            body = self.encode(key, wire_request.body, self.capabilities)
            self.files.add(key, wire_request.scope, self.client.format_line(key, body))
        self.awaited.add(key, answer)
        return answer

    def wait(self, answer: Answer, freed: threading.Event) -> None:
        """Polls until `answer` is done. Raises LLMError if the endpoint rejects a batch or stays unreachable."""
        failed_polls = 0
        while not answer.done():
            self.files.finish_current()  # may contain requests to be retried
            try:
                ended = self.poll()
                failed_polls, self.reached = 0, True
            except EndpointUnreachable as error:
                failed_polls, ended = failed_polls + 1, False
                if failed_polls >= MAX_FAILED_POLLS or not self.reached:
                    raise
                self.notify(f"  {error}")
            if not ended and not answer.done():
                time.sleep(self.poll_interval_s)

    def drain(self) -> None:
        """Discards unsent requests. Submitted batches keep running; the next command collects their answers."""
        for file in self.files.discard_unsent():
            self.awaited.release(file.keys)
        self.awaited.cancel_all()

    def close(self) -> None:
        self.drain()
        self.client.close()

    def poll(self) -> bool:
        """Submits complete files and checks all pending batches. Returns whether any of them ended."""
        pending = self.pending_batches()
        running = sum(batch.name not in self.not_at_endpoint for batch in pending)
        if not running:
            self.queue_is_full = False
        while self.files.full and not self.queue_is_full and running < self.max_pending:
            pending.append(self.submit(self.files.full.pop(0)))
            running += 1
        ended = any([self.check_batch(batch) for batch in pending])
        return self.resolve_collected_elsewhere() or ended

    def resolve_collected_elsewhere(self) -> bool:
        """Resolves requests whose batch another process has collected. Returns whether any were resolved."""
        unsent = self.files.unsent_keys()
        collected = [
            key for key in self.awaited.futures if key not in unsent and not self.cache.is_pending(key, self.address)
        ]
        for key in collected:
            if self.cache.get(key):
                self.awaited.release([key])
                self.awaited.resolve(key)
            else:
                self.awaited.give_up(key, "another command ended its batch")
        return bool(collected)

    def pending_batches(self) -> list[PendingBatch]:
        """Returns all pending batches, including those of earlier commands; looks up batches without an id by name."""
        pending = []
        for batch in self.cache.pending_batches(self.address):
            if batch.id is None and self.files.is_being_submitted(batch.name):
                continue
            batch_id = batch.id or self.client.find(batch.name)
            if batch_id is None:
                self.retry(batch, self.cache.batch_keys(batch.name), {}, "the batch was never submitted")
                self.remove_batch(batch.name)
                continue
            if batch.id is None:
                self.cache.set_batch_id(batch.name, batch_id)
            pending.append(PendingBatch(batch.name, batch.address, batch_id))
        return pending

    def submit(self, file: BatchFile) -> PendingBatch:
        self.cache.begin_batch(PendingBatch(file.name, self.address), file.keys)
        try:
            file_id = self.client.upload(file.path)
            self.reached = True
            batch_id = self.client.create(file.name, file_id)
            self.cache.set_batch_id(file.name, batch_id)
        finally:
            file.lock.release()
        self.notify(f"  batch {batch_id}: {len(file.keys):,} requests sent")
        return PendingBatch(file.name, self.address, batch_id)

    def check_batch(self, batch: PendingBatch) -> bool:
        """Returns whether the batch has ended; its answers are cached then."""
        try:
            remote = self.client.retrieve(str(batch.id))
            state = remote.status.lower()
            if state == "failed":
                self.handle_rejected(batch, remote)
            elif state in (*ENDED_STATUS, *CANCELED_STATUS):
                self.collect(batch, remote)
            else:
                self.report_progress(remote)
                return False
        except NotAtEndpoint:
            return self.send_again(batch)
        return True

    def send_again(self, batch: PendingBatch) -> bool:
        """Adds the awaited requests of a batch that the endpoint does not have to the next file. Returns whether there
        are any; otherwise the batch stays pending, because it may belong to the key of another project.
        """
        missing = {key: scope for key, scope in self.cache.batch_keys(batch.name).items() if key in self.awaited}
        if batch.name not in self.not_at_endpoint:
            self.not_at_endpoint.add(batch.name)
            again = f": {len(missing):,} of its requests are sent again" if missing else ""
            self.notify(f"  {self.address} does not have batch {batch.id}, or no longer has its results{again}")
        if not missing:
            return False
        self.retry(batch, missing, {}, NOT_AT_ENDPOINT)
        self.remove_batch(batch.name)
        return True

    def report_progress(self, remote: Any) -> None:
        now = time.monotonic()
        if remote.request_counts and now - self.last_message > SECONDS_BETWEEN_MESSAGES:
            self.last_message = now
            counts = remote.request_counts
            self.notify(f"  batch {remote.id}: {counts.completed:,} of {counts.total:,} answered ({remote.status})")

    def collect(self, batch: PendingBatch, remote: Any) -> None:
        """Caches every answer; requests without one are retried in another batch."""
        self.queue_is_full = False
        missing = self.cache.batch_keys(batch.name)
        errors: dict[bytes, ReplyError] = {}
        answered: list[bytes] = []
        dollars = 0.0
        try:
            for key, outcome in self.client.read_results(remote):
                if key not in missing:
                    continue
                if isinstance(outcome, ReplyError):
                    errors[key] = outcome
                    continue
                if not self.cache.get(key):  # stored before if a connection was lost
                    dollars += outcome.usage.dollars
                self.store(key, missing.pop(key), outcome)
                answered.append(key)
        finally:
            self.awaited.release(answered, dollars)
        if answered:
            self.answered += len(answered)
            if detected := self.capability_file.record_answer(self.capabilities):
                self.notify(describe_detected(detected, self.capability_file))
        if remote.status.lower() in CANCELED_STATUS and any(key in self.awaited for key in missing):
            self.remove_batch(batch.name)
            raise LLMError(
                f"batch {batch.id} was canceled; {len(missing):,} of its requests are unanswered. "
                "All answers so far are cached; the same command sends the rest again"
            )
        try:
            self.retry(batch, missing, errors, remote.status)
        finally:
            self.remove_batch(batch.name)

    def store(self, key: bytes, scope: bytes, completion: Completion) -> None:
        """Caches an answer, remembers anything else (a refusal) for this command only, and resolves the request."""
        self.longest_answer = max(self.longest_answer, completion.usage.completion_tokens)
        attempts = self.awaited.attempts.pop(key, 0) + 1
        notes = self.awaited.notes.pop(key, ())
        completion = replace(completion, notes=notes + completion.notes)
        if STOP_NOT_SENT in notes:
            completion = cut_at_stop(completion, self.awaited.stop.pop(key))
        if completion.is_answer:
            self.cache.put(key, completion, scope=scope, attempts=attempts)
            self.awaited.resolve(key)
        else:
            self.unanswered.add(key, completion)
            self.awaited.resolve(key, completion)

    def retry(
        self, batch: PendingBatch, missing: Mapping[bytes, bytes], errors: Mapping[bytes, ReplyError], reason: str
    ) -> None:
        """Adds unanswered requests to the next file, and gives up those that cannot be retried."""
        unanswered = {key for key in missing if key in self.awaited}
        for key, line in self.files.read_lines(batch.name):
            if key in unanswered and (retried := self.line_to_retry(key, line, errors.get(key))) is not None:
                self.files.add(key, missing[key], retried)
                unanswered.discard(key)
        for key in unanswered:
            self.give_up(key, errors.get(key), reason)

    def line_to_retry(self, key: bytes, line: bytes, error: ReplyError | None) -> bytes | None:
        """Returns the line for another attempt, adapted if it was rejected; None if there is no point in one."""
        attempts = self.awaited.attempts
        attempts[key] = attempts.get(key, 0) + 1
        if attempts[key] >= self.options.attempts:
            return None
        if error is None or classify_error(error) not in CAUSED_BY_REQUEST:
            return line
        adapted = self.adapt(key, error, json.loads(line)["body"])
        return None if adapted is None else self.client.format_line(key, adapted)

    def adapt(self, key: bytes, error: ReplyError, body: Mapping[str, Any]) -> bytes | None:
        """Returns the rejected body without the unsupported parameter; None if the error is not about a parameter."""
        change = Capabilities(guesses=min(1, self.awaited.attempts[key] - 1)).adapt(error, body)
        if change is None:
            return None
        if not self.answered:
            self.capabilities = self.capabilities.merge(change.forms)
        return self.encode(key, encode_body(body), change)

    def encode(self, key: bytes, body: bytes, capabilities: Capabilities) -> bytes:
        """Encodes a body for the endpoint's capabilities and records which parameters were dropped."""
        if not capabilities.forms:
            return body
        fields = json.loads(body)
        notes = capabilities.notes(fields)
        self.awaited.notes[key] = self.awaited.notes.get(key, ()) + notes
        if STOP_NOT_SENT in notes:
            self.awaited.stop[key] = tuple(fields["stop"])
        return encode_body(capabilities.encode(fields))

    def give_up(self, key: bytes, error: ReplyError | None, reason: str) -> None:
        """Resolves a request that will not be retried. Raises LLMError if the endpoint rejects every request."""
        kind = classify_error(error) if error else None
        if error is None or kind not in CAUSED_BY_REQUEST:
            self.awaited.give_up(key, f"HTTP {error.status}: {error.message}" if error else reason)
            return
        completion = final_outcome(kind, error, self.options.model)
        self.rejected += 1
        if not self.answered and not self.capability_file.has_answered:
            raise LLMError(rejects_everything(self.options, completion, self.rejected))
        if self.rejected == 1:
            self.notify(f"  {self.address} rejected a request (HTTP {error.status}): {error.message}")
        self.awaited.release([key])
        self.unanswered.add(key, completion)
        self.awaited.resolve(key, completion)

    def handle_rejected(self, batch: PendingBatch, remote: Any) -> None:
        """Retries a rejected batch once another one has ended, if the queue was full. Raises LLMError otherwise."""
        errors = remote.errors.data if remote.errors and remote.errors.data else []
        message = "; ".join(f"{error.code}: {error.message}" for error in errors) or "no reason given"
        keys = self.cache.batch_keys(batch.name)
        others = [other for other in self.cache.pending_batches(self.address) if other.name != batch.name]
        others = [other for other in others if other.name not in self.not_at_endpoint]
        if others and any(error.code == "token_limit_exceeded" for error in errors):
            self.queue_is_full = True
            for key in keys:  # does not count as an attempt
                self.awaited.attempts[key] = self.awaited.attempts.get(key, 0) - 1
            self.retry(batch, keys, {}, "failed")
            self.remove_batch(batch.name)
            self.notify(
                f"  batch {batch.id} will be resubmitted when another batch has finished: "
                f"{self.options.error_message(message)}"
            )
            return
        self.awaited.release(keys)
        self.remove_batch(batch.name)
        raise LLMError(
            f"llm.base_url: {self.address} rejected batch {batch.id}: {self.options.error_message(message)}. "
            "If it is too large, lower llm.max_requests_per_file or llm.max_file_size_mb"
        )

    def remove_batch(self, name: str) -> None:
        self.cache.end_batch(name)
        self.files.remove(name)
