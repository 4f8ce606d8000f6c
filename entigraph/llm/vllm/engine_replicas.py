"""Several vLLM engines on the GPUs of one machine, each with a copy of the model: data parallelism.

vLLM's own data parallelism needs its asynchronous server; separate engines need no communication at all.
"""

import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entigraph.errors import LLMError
from entigraph.llm.base import Notify
from entigraph.llm.vllm.engine_config import VLLMEngineConfig
from entigraph.llm.vllm.engine_process import EngineListener, EngineProcess
from entigraph.runtime.devices import release_gpu_memory

NUMBER = re.compile(rb'\{"number": (\d+)')  # all requests begin with it
VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


class EngineReplicas:
    """Sends each request to the engine with the fewest requests. The end of one engine is the end of all."""

    def __init__(self, listener: EngineListener) -> None:
        self.listener = listener
        self.lock = threading.Lock()
        self.engines: list[EngineProcess] = []
        self.waiting: list[int] = []  # requests in each engine
        self.engine_of: dict[int, int] = {}
        self.failed = False

    def add(self, engine: EngineProcess) -> None:
        self.engines.append(engine)
        self.waiting.append(0)

    def write(self, line: bytes) -> None:
        match = NUMBER.match(line)
        number = int(match[1]) if match else int(json.loads(line)["number"])
        with self.lock:
            index = min(range(len(self.engines)), key=self.waiting.__getitem__)
            self.waiting[index] += 1
            self.engine_of[number] = index
        self.engines[index].write(line)

    def receive(self, message: Mapping[str, Any]) -> None:
        with self.lock:
            if self.failed:  # the listener has no request left
                return
            self.waiting[self.engine_of.pop(message["number"])] -= 1
        self.listener.receive(message)

    def fail(self, error: LLMError) -> None:
        with self.lock:
            first, self.failed = not self.failed, True
        if first:
            self.listener.fail(error)

    def close(self) -> None:
        for engine in self.engines:
            engine.close()


def start_engines(
    options: VLLMEngineConfig,
    settings: Mapping[str, Any],
    log: Path,
    notify: Notify,
    listener: EngineListener,
    environment: Mapping[str, str] | None = None,
) -> EngineProcess | EngineReplicas:
    """Starts one engine, or one per group of GPUs; each replica after the first has a log of its own."""
    release_gpu_memory()  # of a training, evaluation or retrieval that this process has run
    groups = options.gpu_groups()
    if len(groups) < 2:
        return EngineProcess(options, settings, log, notify, listener, environment)
    replicas = EngineReplicas(listener)
    for index, gpus in enumerate(groups):
        own_log = log.with_stem(f"{log.stem}-{index}") if index else log
        devices = {VISIBLE_DEVICES: ",".join(gpus)}
        replicas.add(EngineProcess(options, settings, own_log, notify, replicas, {**(environment or {}), **devices}))
    return replicas
