"""Options of the vLLM engine, for the writer and for evaluation."""

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import check_positive, runtime_field
from entigraph.errors import ConfigError, LLMError

WORKER_SCRIPT = Path(__file__).with_name("vllm_worker.py")


@dataclass(frozen=True, kw_only=True)
class VLLMEngineConfig:
    """Options of vLLM's engine.

    Attributes:
        python: The Python of an environment with vLLM, which pins other versions of torch and transformers;
            None: the current interpreter.
        max_model_len: Maximum length of prompt and answer together; None: the model's limit.
        arguments: Further engine arguments, by vLLM's names.
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
    group: ClassVar[str] = "llm"  # the config group, for error messages

    def __post_init__(self) -> None:
        check_positive(self, self.group, "tensor_parallel_size", "max_model_len", "concurrency")
        if not 0 < self.gpu_memory_utilization <= 1:
            value = self.gpu_memory_utilization
            raise ConfigError(f"{self.group}.gpu_memory_utilization: {value} found, more than 0 and at most 1 expected")
        if duplicates := sorted({*self.arguments} & {*self.engine_arguments("")}):
            names = ", ".join(duplicates)
            raise ConfigError(f"{self.group}.arguments: {names} found; use the options of {self.group} instead")

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

    @property
    def interpreter(self) -> str:
        return str(Path(self.python).expanduser()) if self.python else sys.executable

    def check(self) -> None:
        """Raises LLMError if vLLM is not installed."""
        if shutil.which(self.interpreter) is None:
            raise LLMError(
                f"{self.group}.python: {self.python} is not executable; expected the Python of an environment with vLLM"
            )
        if subprocess.run([self.interpreter, str(WORKER_SCRIPT), "--check"], capture_output=True).returncode:
            raise LLMError(
                f"{self.group}.python: {self.interpreter} has no vLLM. Install it in a separate environment "
                f"(for CPUs: make vllm-env) and set its Python: {self.group}.python=.venv-vllm/bin/python"
            )
