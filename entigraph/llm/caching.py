"""Every writer that costs: the response cache first, then the transport; answers in the order of the requests.

What the response cache holds is never sent; what is sent is in the response cache before anything else happens to it.
"""

import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from entigraph.llm.base import Completion, Request
from entigraph.llm.response_cache import AnswerTotals, ResponseCache

ANSWERS_AHEAD = 4  # capacities of answers that may wait for an earlier one
GAVE_UP = "gave up: "  # asked again by the next command, unlike what the endpoint refused

Body = Mapping[str, Any]
Answer = Future[Completion | None]


@dataclass(frozen=True)
class WireRequest:
    """A request as it is sent. `key` is what its answer is known by; `scope` what it shares with its siblings."""

    body: bytes
    key: bytes
    scope: bytes
    request: Request


class Transport(Protocol):
    """Gets letters answered, and caches each answer when it comes."""

    @property
    def capacity(self) -> int:
        """How many letters may be on their way at once."""
        ...

    def send(self, letter: WireRequest) -> Answer:
        """The answer to come; None for one to be read in the response cache when its turn comes."""
        ...

    def wait(self, answer: Answer, freed: threading.Event) -> None:
        """Until the answer is there; or until `freed`, by any other answer, where there is use in sending more then."""
        ...

    def settle(self) -> None:
        """Whoever asked has seen enough: nothing that was paid for is lost, and what was not sent is forgotten."""
        ...


class CachingLLM:
    """A writer: `body_of` says how a request is sent, the transport sends it."""

    def __init__(
        self, name: str, cache: ResponseCache, body_of: Callable[[Request], Body], transport: Transport
    ) -> None:
        self.name, self.cache, self.body_of, self.transport = name, cache, body_of, transport
        self.sent = self.answered = 0
        self.lock = threading.Lock()
        self.asked: dict[bytes, Answer] = {}  # on their way
        self.freed = threading.Event()  # something was answered since we looked

    def complete(self, requests: Iterable[Request]) -> Generator[Completion, None, None]:
        """In the order of the requests, drawn as fast as the transport takes them."""
        stream, window = iter(requests), deque[tuple[bytes, "Completion | Answer"]]()
        try:
            while True:
                self.freed.clear()
                self.fill(window, stream)
                if not window:
                    return
                key, found = window[0]
                if isinstance(found, Future):
                    if not found.done():
                        self.transport.wait(found, self.freed)
                        continue
                    found = found.result() or self.cached_answer(key)
                window.popleft()
                yield found
        finally:
            self.transport.settle()

    def fill(self, window: deque[tuple[bytes, "Completion | Answer"]], stream: Iterator[Request]) -> None:
        """Draw requests while there is room; what the response cache holds takes none."""
        capacity = self.transport.capacity
        while not window or (self.sent - self.answered < capacity and len(window) < ANSWERS_AHEAD * capacity):
            request = next(stream, None)
            if request is None:
                return
            letter = build_wire_request(self.body_of(request), request)
            if letter.key in self.asked:  # the same request, on its way: one answer serves both
                window.append((letter.key, self.asked[letter.key]))
                continue
            known = self.cache.get(letter.key)
            if known is None:
                self.send(letter, window)
                continue
            window.append((letter.key, known))
            if len(window) == 1:
                return  # nothing stands before it: hand it on before the next is drawn

    def send(self, letter: WireRequest, window: deque[tuple[bytes, "Completion | Answer"]]) -> None:
        self.sent += 1
        answer = self.asked[letter.key] = self.transport.send(letter)
        window.append((letter.key, answer))
        answer.add_done_callback(lambda ended: self.count(letter.key))

    def count(self, key: bytes) -> None:
        self.asked.pop(key, None)
        with self.lock:
            self.answered += 1
        self.freed.set()

    def cached_answer(self, key: bytes) -> Completion:
        found = self.cache.get(key)
        assert found is not None, "a transport promised an answer that it did not cache"
        return found


def build_wire_request(body: Body, request: Request) -> WireRequest:
    encoded = encode_body(body)
    return WireRequest(encoded, request_key(encoded, request.sample), request_scope(body, request), request)


def encode_body(body: Body) -> bytes:
    return json.dumps(body, sort_keys=True, ensure_ascii=False).encode()


def request_key(body: bytes, sample: int) -> bytes:
    """A hash of the entire request and its sample number: 64 samples of one prompt are 64 answers."""
    return hashlib.blake2b(b"[%b, %d]" % (body, sample), digest_size=16).digest()


def request_scope(body: Body, request: Request) -> bytes:
    """A hash of what a request shares with its siblings: all but its own end, its seed and its sample number."""
    rest = {name: value for name, value in body.items() if name not in ("messages", "prompt", "seed")}
    shared = hashlib.blake2b(encode_body(rest), digest_size=16)
    shared.update(request.system.encode())
    shared.update(request.shared_prefix.encode())
    return shared.digest()


class CachedAnswers:
    """What the response cache knows of requests that are not made yet: for plans. Without a cache it knows nothing."""

    def __init__(self, cache: ResponseCache | None, body_of: Callable[[Request], Body]) -> None:
        self.cache, self.body_of = cache, body_of

    def answer(self, request: Request) -> Completion | None:
        return self.cache.get(build_wire_request(self.body_of(request), request).key) if self.cache else None

    def siblings(self, request: Request) -> AnswerTotals:
        """Of all answered requests that differ from this one in their own end, or in their sample number, alone."""
        return self.cache.totals(request_scope(self.body_of(request), request)) if self.cache else AnswerTotals()

    def examples(self, request: Request, most: int) -> Sequence[Completion]:
        """Some answers to its siblings."""
        return self.cache.sample(request_scope(self.body_of(request), request), most) if self.cache else ()
