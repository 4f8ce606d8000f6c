"""Transport of the vLLM writer: sends requests to the engine process and caches the answers."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from itertools import count
from typing import Any

from entigraph.errors import LLMError
from entigraph.llm.base import REJECTED, Completion
from entigraph.llm.caching import Answer, WireRequest
from entigraph.llm.cost import FREE
from entigraph.llm.replies import parse_completion
from entigraph.llm.response_cache import ResponseCache
from entigraph.llm.vllm.engine_process import EngineListener, EngineProcess
from entigraph.llm.vllm.engine_replicas import EngineReplicas

REJECTED_BY_ENGINE = f"{REJECTED}rejected by the engine"


class VLLMTransport:
    """Calls `start_engine` at the first request, with itself as the listener."""

    def __init__(
        self,
        model: str,
        concurrency: int,
        cache: ResponseCache,
        start_engine: Callable[[EngineListener], EngineProcess | EngineReplicas],
    ) -> None:
        self.model, self.concurrency, self.cache, self.start_engine = model, concurrency, cache, start_engine
        self.engine: EngineProcess | EngineReplicas | None = None
        self.lock = threading.Lock()
        self.numbers = count()
        self.in_flight: dict[int, tuple[WireRequest, Answer]] = {}
        self.error: LLMError | None = None

    @property
    def capacity(self) -> int:
        """The number of requests in the engine: 25% more than its batch size, so that the batch stays full."""
        return self.concurrency + self.concurrency // 4

    def send(self, wire_request: WireRequest) -> Answer:
        """Sends a request. Its sampling seed is derived from its key: a shared seed would correlate the samples."""
        answer: Answer = Future()
        with self.lock:
            if self.error:
                answer.set_exception(self.error)
                return answer
            engine = self.engine = self.engine or self.start_engine(self)
            number = next(self.numbers)
            self.in_flight[number] = (wire_request, answer)
        seed = int.from_bytes(wire_request.key[:4], "big") >> 1
        engine.write(b'{"number": %d, "seed": %d, "body": %b}\n' % (number, seed, wire_request.body))
        return answer

    def wait(self, answer: Answer, freed: threading.Event) -> None:
        freed.wait()

    def drain(self) -> None:
        with self.lock:
            answers = [answer for _, answer in self.in_flight.values()]
        wait(answers)

    def close(self) -> None:
        if self.engine:
            self.engine.close()

    def receive(self, message: Mapping[str, Any]) -> None:
        with self.lock:
            wire_request, answer = self.in_flight.pop(message["number"])
        try:
            completion = self.parse(message)
            if completion.is_answer:
                self.cache.put(wire_request.key, completion, scope=wire_request.scope, seconds=message["seconds"])
            answer.set_result(completion)
        except Exception as error:  # for example a full disk: raise it in the caller, not in this thread
            answer.set_exception(error)

    def parse(self, message: Mapping[str, Any]) -> Completion:
        if "refused" in message:
            return Completion(text=message["refused"], model=self.model, finish_reason=REJECTED_BY_ENGINE)
        return parse_completion(message, self.model, FREE)

    def fail(self, error: LLMError) -> None:
        with self.lock:
            self.error = error
            answers = [answer for _, answer in self.in_flight.values()]
            self.in_flight.clear()
        for answer in answers:
            answer.set_exception(error)
