"""Options of the vLLM engine, for the writer and for evaluation."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import check_positive, runtime_field
from entigraph.errors import ConfigError, LLMError
from entigraph.runtime.devices import visible_gpus

WORKER_SCRIPT = Path(__file__).with_name("vllm_worker.py")


@dataclass(frozen=True, kw_only=True)
class VLLMEngineConfig:
    """Options of vLLM's engine.

    Attributes:
        python: The Python of an environment with vLLM, which pins other versions of torch and transformers;
            None: the current interpreter.
        tensor_parallel_size: The number of GPUs that share one copy of the model.
        data_parallel_size: The number of engines, each with a copy of the model; None: as many as the GPUs allow.
        max_model_len: Maximum length of prompt and answer together; None: the model's limit.
        arguments: Further engine arguments, by vLLM's names.
    """

    name: str = "vllm"
    python: str | None = runtime_field(None)
    dtype: str = "auto"
    tensor_parallel_size: int = runtime_field(1)
    data_parallel_size: int | None = runtime_field(None)
    gpu_memory_utilization: float = runtime_field(0.9)
    max_model_len: int | None = None
    concurrency: int = runtime_field(256)
    enable_prefix_caching: bool = runtime_field(True)
    arguments: dict[str, Any] = field(default_factory=dict)
    group: ClassVar[str] = "llm"  # the config group, for error messages

    def __post_init__(self) -> None:
        check_positive(self, self.group, "tensor_parallel_size", "data_parallel_size", "max_model_len", "concurrency")
        if not 0 < self.gpu_memory_utilization <= 1:
            value = self.gpu_memory_utilization
            raise ConfigError(f"{self.group}.gpu_memory_utilization must be above 0 and at most 1, got {value}")
        if duplicates := sorted({*self.arguments} & {*self.engine_arguments("")}):
            names = ", ".join(duplicates)
            raise ConfigError(f"{self.group}.arguments must not have {names}; use the options of {self.group} instead")

    def engine_arguments(self, model: str) -> dict[str, Any]:
        """Returns the engine arguments, by vLLM's names."""
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

    def gpu_groups(self) -> list[Sequence[str]]:
        """Returns the GPUs of each engine; one empty group without a choice, in which vLLM finds its device itself."""
        gpus = [] if self.data_parallel_size == 1 else visible_gpus()
        replicas = self.data_parallel_size or max(1, len(gpus) // self.tensor_parallel_size)
        if replicas == 1:
            return [()]
        if replicas * self.tensor_parallel_size > len(gpus):
            raise ConfigError(
                f"{self.group}.data_parallel_size: {replicas} engines of {self.tensor_parallel_size} GPUs need "
                f"{replicas * self.tensor_parallel_size} GPUs; this machine has {len(gpus)}"
            )
        size = self.tensor_parallel_size
        return [gpus[index * size :][:size] for index in range(replicas)]

    @property
    def interpreter(self) -> str:
        return str(Path(self.python).expanduser()) if self.python else sys.executable

    def check(self) -> None:
        """Raises LLMError if vLLM is not installed, ConfigError if there are fewer GPUs than the engines need."""
        self.gpu_groups()
        if shutil.which(self.interpreter) is None:
            raise LLMError(
                f"{self.group}.python must be the executable Python of an environment with vLLM, got {self.python}"
            )
        if subprocess.run([self.interpreter, str(WORKER_SCRIPT), "--check"], capture_output=True).returncode:
            raise LLMError(
                f"{self.group}.python: {self.interpreter} has no vLLM. Install it in a separate environment "
                f"(for CPUs: make vllm-env) and set its Python: {self.group}.python=.venv-vllm/bin/python"
            )
