"""Writer that runs a local model in the vLLM engine: no server, no API key, no cost."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import check_positive, runtime_field
from entigraph.errors import ConfigError, LLMError
from entigraph.llm.base import LLM, Notify, Request
from entigraph.llm.caching import Body, connect_with_cache
from entigraph.llm.cost import FREE, Price
from entigraph.llm.vllm.engine_config import VLLMEngineConfig
from entigraph.llm.wire_format import build_body
from entigraph.storage.fingerprints import fingerprint

LOG_NAME = "vllm.log"  # next to the response cache


@dataclass(frozen=True, kw_only=True)
class VLLMWriter(VLLMEngineConfig):
    """Starts the engine at the first request whose answer is not cached.

    Attributes:
        model: A Hub ID or a folder. A folder is identified by its content, so a different model at the same path
            does not reuse cached answers.
        max_tokens: Maximum length of an answer in tokens; None: limited by `max_model_len` only.
        chat_template: A file with a Jinja template, for a model without a chat template.
        expected_tokens: Expected length of an answer, for estimates until answers are cached.
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
        check_positive(self, self.group, "max_tokens", "expected_tokens")
        if self.chat_template and not Path(self.chat_template).expanduser().is_file():
            raise ConfigError(
                f"llm.chat_template must be a file with a Jinja template, got {self.chat_template}, which is not a file"
            )

    @cached_property
    def identity(self) -> str:
        """The Hub ID, or the folder's name and a hash of its content."""
        folder = Path(self.model).expanduser()
        return f"{folder.resolve().name}-{fingerprint(folder)}" if folder.is_dir() else self.model

    @cached_property
    def cache_key(self) -> dict[str, Any]:
        """The options that affect answers, with file contents instead of paths."""
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
        """Returns the request body, from which the sampling seed is derived (`VLLMTransport.send`)."""
        body = build_body(request, model=self.identity, max_tokens=self.max_tokens, send_seed=False)
        return body | {name: value for name, value in self.cache_key.items() if value}

    def check(self) -> None:
        """Raises LLMError if the model does not exist or vLLM is not installed."""
        folder = Path(self.model).expanduser()
        if self.model.startswith((".", "/", "~")) and not (folder / "config.json").is_file():
            raise LLMError(f"llm.model must be a folder with config.json or a Hub ID, got {self.model}")
        super().check()

    @contextmanager
    def connect(self, response_cache: Path, notify: Notify = print) -> Iterator[LLM]:
        from entigraph.llm.vllm.engine_process import EngineListener, EngineProcess
        from entigraph.llm.vllm.engine_replicas import EngineReplicas, start_engines
        from entigraph.llm.vllm.vllm_transport import VLLMTransport

        def start_engine(listener: EngineListener) -> EngineProcess | EngineReplicas:
            self.check()
            chat = {"template": self.template, "kwargs": self.chat_template_kwargs}
            arguments = self.engine_arguments(self.model) | self.arguments
            log = response_cache.with_name(LOG_NAME)
            return start_engines(self, {"engine": arguments, "chat": chat}, log, notify, listener)

        with connect_with_cache(
            self.name,
            response_cache,
            self.body,
            lambda cache: VLLMTransport(self.identity, self.concurrency * len(self.gpu_groups()), cache, start_engine),
        ) as llm:
            yield llm
