"""A model of one's own in vLLM's engine, and the writer that it makes: no server, no key, nothing to pay."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, LLMError
from entigraph.llm import wire_format
from entigraph.llm.base import LLM, Request, Say
from entigraph.llm.caching import Body, CachingLLM
from entigraph.llm.cost import FREE, Price
from entigraph.llm.response_cache import ResponseCache
from entigraph.storage.fingerprints import fingerprint

WORKER_SCRIPT = Path(__file__).with_name("vllm_worker.py")
LOG_NAME = "vllm.log"  # beside the response cache


@dataclass(frozen=True, kw_only=True)
class VLLMEngineConfig:
    """How vLLM's engine is started. `python` is the interpreter of the environment that has vLLM, which may be another
    one than this: vLLM pins its own torch and transformers. null: this one.

    `max_model_len` null: as the model has it. `arguments` is for vLLM's other engine arguments, as it names them.
    """

    name: str = "vllm"
    python: str | None = runtime_field(None)
    dtype: str = "auto"
    tensor_parallel_size: int = runtime_field(1)
    gpu_memory_utilization: float = runtime_field(0.9)
    max_model_len: int | None = None
    concurrency: int = runtime_field(256)
    enable_prefix_caching: bool = runtime_field(True)
    arguments: dict[str, Any] = field(default_factory=dict)
    group: ClassVar[str] = "llm"  # of the configuration

    def __post_init__(self) -> None:
        self.check_positive("tensor_parallel_size", "max_model_len", "concurrency")
        if not 0 < self.gpu_memory_utilization <= 1:
            found = self.gpu_memory_utilization
            raise ConfigError(f"{self.group}.gpu_memory_utilization: {found} found, more than 0 and at most 1 expected")
        if named := sorted({*self.arguments} & {*self.own_arguments("")}):
            raise ConfigError(f"{self.group}.arguments: {', '.join(named)} found there; {self.group} has such keys")

    def check_positive(self, *keys: str) -> None:
        for key in keys:
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise ConfigError(f"{self.group}.{key}: {value} found, more than 0 expected")

    def own_arguments(self, model: str) -> dict[str, Any]:
        """In vLLM's own names."""
        folder = Path(model).expanduser()
        return {
            "model": str(folder.resolve()) if folder.is_dir() else model,
            "dtype": self.dtype,
            "tensor_parallel_size": self.tensor_parallel_size,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "max_model_len": self.max_model_len,
            "max_num_seqs": self.concurrency,
            "enable_prefix_caching": self.enable_prefix_caching,
        }

    @property
    def interpreter(self) -> str:
        return str(Path(self.python).expanduser()) if self.python else sys.executable

    def check(self) -> None:
        """Raises LLMError where vLLM is missing."""
        if shutil.which(self.interpreter) is None:
            raise LLMError(
                f"{self.group}.python: {self.python} is no program; name the Python of an environment with vLLM"
            )
        if subprocess.run([self.interpreter, str(WORKER_SCRIPT), "--check"], capture_output=True).returncode:
            raise LLMError(
                f"{self.group}.python: {self.interpreter} has no vLLM. Install it in an environment of its own "
                f"(make vllm-env makes one for CPUs) and name its Python: {self.group}.python=.venv-vllm/bin/python"
            )


@dataclass(frozen=True, kw_only=True)
class VLLMWriter(VLLMEngineConfig):
    """The engine starts when the first answer is not in the response cache. `max_tokens` null: as many as
    `max_model_len` leaves. A model in a folder is known by its content: another one at the same place answers anew.
    """

    model: str = "Qwen/Qwen2.5-7B-Instruct"
    max_tokens: int | None = 4096
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    expected_tokens: int = runtime_field(600)

    price: ClassVar[Price] = FREE
    requests_per_minute: ClassVar[int | None] = None
    tokens_per_minute: ClassVar[int | None] = None
    max_cost_usd: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("max_tokens", "expected_tokens")
        if self.chat_template and not Path(self.chat_template).expanduser().is_file():
            raise ConfigError(
                f"llm.chat_template: {self.chat_template} is no file; give one that holds a Jinja template"
            )

    @cached_property
    def identity(self) -> str:
        """A name on the hub, or the folder's name and a hash of what it holds."""
        folder = Path(self.model).expanduser()
        return f"{folder.resolve().name}-{fingerprint(folder)}" if folder.is_dir() else self.model

    @cached_property
    def cache_key(self) -> dict[str, Any]:
        """What of the options decides an answer, files by their content."""
        return {
            "model": self.identity,
            "dtype": self.dtype,
            "chat_template": self.template,
            "chat_template_kwargs": self.chat_template_kwargs,
            "arguments": self.arguments,
        }

    @property
    def template(self) -> str | None:
        return Path(self.chat_template).expanduser().read_text("utf-8") if self.chat_template else None

    def body(self, request: Request) -> Body:
        """What an answer is known by. Its seed follows from it: `VLLMTransport.send`."""
        asked = wire_format.build_body(request, model=self.identity, max_tokens=self.max_tokens, send_seed=False)
        return asked | {name: value for name, value in self.cache_key.items() if value}

    def check(self) -> None:
        """Raises LLMError where the model or vLLM is missing."""
        folder = Path(self.model).expanduser()
        if self.model.startswith((".", "/", "~")) and not (folder / "config.json").is_file():
            raise LLMError(f"llm.model: {self.model} is no model; a folder with a config.json, or a hub name, expected")
        super().check()

    @contextmanager
    def connect(self, response_cache: Path, say: Say = print) -> Iterator[LLM]:
        from entigraph.llm.vllm.engine_process import VLLMTransport

        answers = ResponseCache(response_cache)
        transport = VLLMTransport(self, answers, response_cache.with_name(LOG_NAME), say)
        try:
            yield CachingLLM(self.name, answers, self.body, transport)
        finally:
            transport.close()
            answers.close()
