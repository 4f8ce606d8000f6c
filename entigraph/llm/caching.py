"""A connected writer that answers from the response cache, or else through a transport.

A cached request is never sent, and a received answer is cached, and safe from a power failure, before it is used. What
is no answer (a refusal, an error, an empty reply) is not cached, so that the next command sends its request again.
"""

import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from entigraph.llm.base import LENGTH, Completion, Request
from entigraph.llm.cost import COMMAND_VARIABLE
from entigraph.llm.response_cache import AnswerTotals, ResponseCache

MAX_BUFFERED_CAPACITIES = 4  # answers waiting for an earlier one, in multiples of the transport's capacity

Body = Mapping[str, Any]
Answer = Future[Completion | None]


@dataclass(frozen=True)
class WireRequest:
    """An encoded request. `key` identifies its answer; `scope` is shared by similar requests (`request_scope`)."""

    body: bytes
    key: bytes
    scope: bytes
    request: Request


class Transport(Protocol):
    """Sends requests, and caches each answer when it arrives."""

    @property
    def capacity(self) -> int:
        """The number of requests that may be in flight."""

    def send(self, wire_request: WireRequest) -> Answer:
        """Returns a future of the answer. Its result is None if the answer must be read from the response cache."""

    def wait(self, answer: Answer, freed: threading.Event) -> None:
        """Blocks until the answer arrives. May return earlier, when `freed` is set because another answer arrived."""

    def drain(self) -> None:
        """Called when the caller stops: waits for the answers of sent requests and drops unsent requests."""

    def close(self) -> None: ...


@contextmanager
def connect_with_cache(
    name: str,
    response_cache: Path,
    build_body: Callable[[Request], Body],
    open_transport: Callable[[ResponseCache], Transport],
) -> "Iterator[CachingLLM]":
    """Yields a connected writer; closes its transport and cache on exit."""
    with closing(ResponseCache(response_cache)) as cache, closing(open_transport(cache)) as transport:
        yield CachingLLM(name, cache, build_body, transport)


class CachingLLM:
    """A connected writer. `build_body` returns the body of a request; the transport sends it."""

    def __init__(
        self, name: str, cache: ResponseCache, build_body: Callable[[Request], Body], transport: Transport
    ) -> None:
        self.name, self.cache, self.build_body, self.transport = name, cache, build_body, transport
        self.command = current_command()
        self.sent = self.answered = 0
        self.lock = threading.Lock()
        self.in_flight: dict[bytes, Answer] = {}
        self.freed = threading.Event()  # set when an answer arrives

    def complete(self, requests: Iterable[Request]) -> Generator[Completion, None, None]:
        """Yields the answers in order, and consumes requests as fast as the transport accepts them."""
        stream, window = iter(requests), deque[tuple[bytes, "Completion | Answer"]]()
        try:
            while True:
                self.freed.clear()
                self.fill(window, stream)
                if not window:
                    return
                key, answer = window[0]
                if isinstance(answer, Future):
                    if not answer.done():
                        self.transport.wait(answer, self.freed)
                        continue
                    answer = answer.result() or self.read_cached(key)
                    self.cache.sync()
                window.popleft()
                if answer.finish_reason != LENGTH:
                    answer = replace(answer, discard=partial(self.cache.discard, key, self.command))
                yield answer
        finally:
            self.transport.drain()

    def fill(self, window: deque[tuple[bytes, "Completion | Answer"]], stream: Iterator[Request]) -> None:
        """Consumes requests while the transport has capacity. Cached answers do not use capacity."""
        capacity = self.transport.capacity
        max_window = MAX_BUFFERED_CAPACITIES * capacity
        while not window or (self.sent - self.answered < capacity and len(window) < max_window):
            request = next(stream, None)
            if request is None:
                return
            wire_request = build_wire_request(self.build_body(request), request)
            wire_request = replace(wire_request, key=self.cache.current_key(wire_request.key, self.command))
            answer = self.in_flight.get(wire_request.key)
            if answer is not None:  # an identical request: one answer serves both
                window.append((wire_request.key, answer))
                continue
            cached = self.cache.get(wire_request.key)
            if cached is None:
                self.send(wire_request, window)
                continue
            window.append((wire_request.key, cached))
            if len(window) == 1:
                return  # no earlier answer is missing: yield this one before consuming the next request

    def send(self, wire_request: WireRequest, window: deque[tuple[bytes, "Completion | Answer"]]) -> None:
        self.sent += 1
        answer = self.in_flight[wire_request.key] = self.transport.send(wire_request)
        window.append((wire_request.key, answer))
        answer.add_done_callback(lambda _: self.on_answer(wire_request.key))

    def on_answer(self, key: bytes) -> None:
        self.in_flight.pop(key, None)
        with self.lock:
            self.answered += 1
        self.freed.set()

    def read_cached(self, key: bytes) -> Completion:
        completion = self.cache.get(key)
        assert completion is not None, "a transport resolved an answer that it did not cache"
        return completion


def current_command() -> str:
    """Returns the id of the command; of this connection in a process without one, such as a notebook."""
    return os.environ.get(COMMAND_VARIABLE) or uuid4().hex


def build_wire_request(body: Body, request: Request) -> WireRequest:
    encoded = encode_body(body)
    return WireRequest(encoded, request_key(encoded, request.sample), request_scope(body, request), request)


def encode_body(body: Body) -> bytes:
    return json.dumps(body, sort_keys=True, ensure_ascii=False).encode()


def request_key(body: bytes, sample: int) -> bytes:
    """Returns a hash of the entire body and the sample index: 64 samples of one prompt are 64 answers."""
    return hashlib.blake2b(b"[%b, %d]" % (body, sample), digest_size=16).digest()


def request_scope(body: Body, request: Request) -> bytes:
    """Returns a hash of everything except the suffix, the seed and the sample index."""
    rest = {name: value for name, value in body.items() if name not in ("messages", "prompt", "seed")}
    shared = hashlib.blake2b(encode_body(rest), digest_size=16)
    shared.update(request.system.encode())
    shared.update(request.shared_prefix.encode())
    return shared.digest()


class CachedAnswers:
    """Looks up requests in the response cache without sending them, for cost estimates. `cache` may be None."""

    def __init__(self, cache: ResponseCache | None, build_body: Callable[[Request], Body]) -> None:
        self.cache, self.build_body, self.command = cache, build_body, current_command()

    def answer(self, request: Request) -> Completion | None:
        if self.cache is None:
            return None
        key = build_wire_request(self.build_body(request), request).key
        return self.cache.get(self.cache.current_key(key, self.command))

    def siblings(self, request: Request) -> AnswerTotals:
        """Returns the totals over all answers whose requests differ only in suffix or sample index."""
        return self.cache.totals(request_scope(self.build_body(request), request)) if self.cache else AnswerTotals()

    def examples(self, request: Request, limit: int) -> Sequence[Completion]:
        """Returns up to `limit` answers to requests that differ only in suffix or sample index."""
        return self.cache.examples(request_scope(self.build_body(request), request), limit) if self.cache else ()
