"""Runs the vLLM engine in a separate process tree (`vllm_worker.py`), which communicates through lines of JSON.

Separate, because vLLM releases its GPU memory only when its processes end, and because vLLM may need a separate Python
environment.
"""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

from entigraph.errors import LLMError
from entigraph.llm.base import Notify
from entigraph.llm.vllm.engine_config import WORKER_SCRIPT, VLLMEngineConfig
from entigraph.runtime.devices import ALLOCATOR_SETTING

SECONDS_TO_EXIT = 30.0
MAX_LOG_BYTES = 4_000_000
MAX_CAUSE_CHARACTERS = 500
ERROR_PATTERN = re.compile(r"\b\w*(?:Error|Exception): .+")


class EngineListener(Protocol):
    """Receives the engine's answers, called from the thread that reads them."""

    def receive(self, message: Mapping[str, Any]) -> None:
        """Handles an answer: the worker's message, with the `number` of its request."""

    def fail(self, error: LLMError) -> None:
        """Handles the end of the engine: no further answers will arrive."""


def inherited_environment() -> dict[str, str]:
    """Returns the environment without our setting of torch's allocator, which vLLM's all-reduce does not support."""
    return {name: value for name, value in os.environ.items() if (name, value) != ALLOCATOR_SETTING}


class EngineProcess:
    """Starts the worker and reads its answers in a thread. `settings` is the first line that the worker reads."""

    def __init__(
        self,
        options: VLLMEngineConfig,
        settings: Mapping[str, Any],
        log: Path,
        notify: Notify,
        listener: EngineListener,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.model, self.log, self.notify, self.listener = settings["engine"]["model"], log, notify, listener
        self.started, self.fatal_error = time.monotonic(), ""
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log_start = log.stat().st_size if log.exists() else 0
        notify(f"  vLLM starts with {self.model}; its log is {log}")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [options.interpreter, str(WORKER_SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={"VLLM_NO_USAGE_STATS": "1", **inherited_environment(), **(environment or {})},
                start_new_session=True,  # Ctrl-C does not reach the engine: requests in flight are still answered
            )
        self.write(json.dumps(settings).encode() + b"\n")
        self.reader = threading.Thread(target=self.read, name="vllm", daemon=True)
        self.reader.start()
        # The engine's processes survive a killed worker and keep the pipe open.
        threading.Thread(target=self.reap, name="vllm-reap", daemon=True).start()

    def write(self, line: bytes) -> None:
        with suppress(BrokenPipeError, ValueError):  # the reader reports the cause to the listener
            stream = self.stream(self.process.stdin)
            stream.write(line)
            stream.flush()

    def read(self) -> None:
        try:
            with self.stream(self.process.stdout) as lines:
                for line in lines:
                    self.handle(json.loads(line))
        finally:
            cause = self.fatal_error or self.find_cause() or "its processes ended"
            self.listener.fail(
                LLMError(
                    f"vLLM stopped running {self.model}: {cause.rstrip('.')}. Its log is {self.log}. "
                    "All answers so far are cached; run the same command to continue"
                )
            )

    def handle(self, message: Mapping[str, Any]) -> None:
        if "number" in message:
            self.listener.receive(message)
        elif "fatal" in message:
            self.fatal_error = message["fatal"]
        else:
            self.notify(f"  vLLM {message['ready']} is ready after {time.monotonic() - self.started:.0f} s")

    def find_cause(self) -> str:
        """Returns the first error in the log since the start; later ones are consequences."""
        with self.log.open("rb") as log:
            log.seek(self.log_start)
            match = ERROR_PATTERN.search(log.read(MAX_LOG_BYTES).decode("utf-8", "replace"))
        return match.group()[:MAX_CAUSE_CHARACTERS] if match else ""

    def reap(self) -> None:
        self.process.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Stops the engine; its GPU memory is free when this returns."""
        with suppress(BrokenPipeError):
            self.stream(self.process.stdin).close()
        try:
            self.process.wait(SECONDS_TO_EXIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.reap()
        self.reader.join()

    def stream(self, pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe
