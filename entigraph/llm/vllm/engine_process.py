"""A vLLM engine in a process tree of its own (`vllm_worker.py`), spoken to in lines of JSON; and its transport.

In its own processes, because vLLM gives its GPU memory back when they end and not before, and because it may then live
in an environment of its own. An answer is cached when it comes, by the thread that reads.
"""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from entigraph.errors import LLMError
from entigraph.llm.base import Completion, Say
from entigraph.llm.caching import Answer, WireRequest
from entigraph.llm.cost import FREE
from entigraph.llm.response_cache import ResponseCache
from entigraph.llm.vllm.vllm_writer import WORKER_SCRIPT, VLLMEngineConfig
from entigraph.llm.wire_format import parse_completion

if TYPE_CHECKING:
    from entigraph.llm.vllm.vllm_writer import VLLMWriter

SECONDS_TO_LEAVE = 30.0
LOG_CHARACTERS_READ = 4_000_000
CAUSE = re.compile(r"\b\w*(?:Error|Exception): .+")
REFUSED = "error: refused by the engine"


class VLLMTransport:
    """The transport of a writer."""

    def __init__(self, options: "VLLMWriter", cache: ResponseCache, log: Path, say: Say) -> None:
        self.options, self.cache, self.log, self.say = options, cache, log, say
        self.worker: EngineProcess | None = None
        self.lock = threading.Lock()
        self.numbers = count()
        self.waiting: dict[int, tuple[WireRequest, Answer]] = {}
        self.broken: LLMError | None = None

    @property
    def capacity(self) -> int:
        """A quarter more than are written at once waits in the engine: what ends is followed by the next step."""
        return self.options.concurrency + self.options.concurrency // 4

    def send(self, letter: WireRequest) -> Answer:
        """Draws with a seed of the letter's own: one seed for all would have them begin with the same draws."""
        answer: Answer = Future()
        with self.lock:
            if self.broken:
                answer.set_exception(self.broken)
                return answer
            worker = self.worker = self.worker or self.start()
            number = next(self.numbers)
            self.waiting[number] = (letter, answer)
        seed = int.from_bytes(letter.key[:4], "big") >> 1
        worker.write(b'{"number": %d, "seed": %d, "body": %b}\n' % (number, seed, letter.body))
        return answer

    def start(self) -> "EngineProcess":
        options = self.options
        options.check()
        chat = {"template": options.template, "kwargs": options.chat_template_kwargs}
        arguments = options.own_arguments(options.model) | options.arguments
        return EngineProcess(options, {"engine": arguments, "chat": chat}, self.log, self.say, self)

    def wait(self, answer: Answer, freed: threading.Event) -> None:
        freed.wait()

    def settle(self) -> None:
        with self.lock:
            sent = [answer for _, answer in self.waiting.values()]
        wait(sent)

    def close(self) -> None:
        if self.worker:
            self.worker.close()

    def receive(self, told: Mapping[str, Any]) -> None:
        with self.lock:
            letter, answer = self.waiting.pop(told["number"])
        try:
            completion = self.completion(told)
            if completion.finish_reason != REFUSED:  # which costs nothing to ask again, perhaps with other options
                self.cache.put(letter.key, completion, scope=letter.scope, seconds=told["seconds"])
            answer.set_result(completion)
        except Exception as error:  # a full disk stops whoever asked, not this thread
            answer.set_exception(error)

    def completion(self, told: Mapping[str, Any]) -> Completion:
        if "refused" in told:
            return Completion(text=told["refused"], model=self.options.identity, finish_reason=REFUSED)
        return parse_completion(told, self.options.identity, FREE)

    def fail(self, error: LLMError) -> None:
        """Nobody waits any longer."""
        with self.lock:
            self.broken = error
            left = [answer for _, answer in self.waiting.values()]
            self.waiting.clear()
        for answer in left:
            answer.set_exception(error)


class EngineListener(Protocol):
    """Who asks the engine; told by the worker's own thread."""

    def receive(self, told: Mapping[str, Any]) -> None:
        """An answer: the worker's line, with the number of what was asked."""
        ...

    def fail(self, error: LLMError) -> None:
        """The engine is gone, with the reason; no answer will come."""
        ...


class EngineProcess:
    """The engine's processes, from here on. `settings` are what the worker reads first."""

    def __init__(
        self,
        options: VLLMEngineConfig,
        settings: Mapping[str, Any],
        log: Path,
        say: Say,
        listener: EngineListener,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.model, self.log, self.say, self.listener = settings["engine"]["model"], log, say, listener
        self.began, self.reason = time.monotonic(), ""
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log_from = log.stat().st_size if log.exists() else 0
        say(f"  vLLM starts with {self.model}; its log is {log}")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [options.interpreter, str(WORKER_SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={"VLLM_NO_USAGE_STATS": "1", **os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C is for us: what it was sent is still answered
            )
        self.write(json.dumps(settings).encode() + b"\n")
        self.reader = threading.Thread(target=self.read, name="vllm", daemon=True)
        self.reader.start()
        # Processes of the engine outlive a killed worker, and hold its end of the pipe.
        threading.Thread(target=self.reap, name="vllm-reap", daemon=True).start()

    def write(self, line: bytes) -> None:
        with suppress(BrokenPipeError, ValueError):  # the reader says why, to everybody who waits
            stream = self.stream(self.process.stdin)
            stream.write(line)
            stream.flush()

    def read(self) -> None:
        try:
            with self.stream(self.process.stdout) as answers:
                for line in answers:
                    self.hear(json.loads(line))
        finally:
            reason = self.reason or self.cause() or "its processes ended"
            self.listener.fail(
                LLMError(
                    f"vLLM cannot go on with {self.model}: {reason.rstrip('.')}. Its log is {self.log}. "
                    "What was answered is kept, and the same command goes on from there"
                )
            )

    def hear(self, told: Mapping[str, Any]) -> None:
        if "number" in told:
            self.listener.receive(told)
        elif "fatal" in told:
            self.reason = told["fatal"]
        else:
            self.say(f"  vLLM {told['ready']} is ready after {time.monotonic() - self.began:.0f} s")

    def cause(self) -> str:
        """The first error in its log since it began: those after it follow from it."""
        with self.log.open("rb") as log:
            log.seek(self.log_from)
            found = CAUSE.search(log.read(LOG_CHARACTERS_READ).decode("utf-8", "replace"))
        return found.group()[:500] if found else ""

    def reap(self) -> None:
        self.process.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Returns when its memory is free."""
        with suppress(BrokenPipeError):
            self.stream(self.process.stdin).close()
        try:
            self.process.wait(SECONDS_TO_LEAVE)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.reap()
        self.reader.join()

    def stream(self, pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe
