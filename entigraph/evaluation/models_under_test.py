"""Models to evaluate: a local model in an inference engine (conf/engine), or a model served by an endpoint."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError
from entigraph.evaluation.base import Backend
from entigraph.huggingface.model_folders import max_positions
from entigraph.huggingface.models import eos_token_ids, load_config, load_fast_tokenizer
from entigraph.llm.base import Notify, Writer
from entigraph.llm.vllm.engine_config import VLLMEngineConfig
from entigraph.llm.wire_format import Api
from entigraph.runtime.devices import has_native_bf16, pick_accelerator, release_gpu_memory

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class PretrainedBaseline:
    """Any Hugging Face causal LM with its tokenizer: a folder (such as a run's `model/`) or a Hub ID."""

    path: str = runtime_field("")

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("baselines: a pretrained model without a path; set a Hugging Face folder or Hub ID")


class InferenceEngine(Protocol):
    """Runs local models. `holds_model`: the Hugging Face model is loaded in this process, for tasks that use it."""

    holds_model: ClassVar[bool]

    def check(self) -> None:
        """Raises LLMError if the engine cannot start. Called before any stage runs."""

    def connect(self, model: "LocalModel", notify: Notify) -> AbstractContextManager[Backend]: ...


@dataclass(frozen=True)
class TransformersEngine:
    """Hugging Face transformers, in this process."""

    holds_model: ClassVar[bool] = True

    def check(self) -> None:
        """Does nothing: transformers is a dependency of this package."""

    @contextmanager
    def connect(self, model: "LocalModel", notify: Notify) -> Iterator[Backend]:
        from entigraph.evaluation.backends.local_backend import load_chat_template
        from entigraph.evaluation.backends.transformers_backend import TransformersBackend

        device = pick_accelerator(model.accelerator)
        bf16, chat = has_native_bf16(device), load_chat_template(model.path)
        release_gpu_memory()
        yield TransformersBackend(model.path, *model.load_tokenizer(), device, bf16, model.threads, chat)
        release_gpu_memory()


@dataclass(frozen=True, kw_only=True)
class VllmEngine(VLLMEngineConfig):
    """vLLM, in separate processes that end with the evaluation."""

    group: ClassVar[str] = "engine"
    holds_model: ClassVar[bool] = False

    @contextmanager
    def connect(self, model: "LocalModel", notify: Notify) -> Iterator[Backend]:
        from entigraph.evaluation.backends.local_backend import load_chat_template
        from entigraph.evaluation.backends.vllm_backend import VllmBackend

        self.check()
        config, generation = load_config(model.path)
        max_length = self.max_model_len or max_positions(config.get_text_config().to_dict())
        if not max_length:
            raise ConfigError(f"engine.max_model_len: not set, and {model.path} has no maximum length; set it")
        backend = VllmBackend(
            self,
            model.path,
            *model.load_tokenizer(),
            max_length=max_length,
            end_ids=eos_token_ids(generation),
            chat=load_chat_template(model.path),
            log=model.log,
            notify=notify,
        )
        try:
            yield backend
        finally:
            backend.close()


@dataclass(frozen=True)
class LocalModel:
    """`tokenizer` is the folder of the tokenizer used in training, and `bos_id` the BOS token of its texts. Without it,
    the tokenizer in the model's folder is used, with its BOS token. `log` is the log file of an engine in separate
    processes.
    """

    path: str
    accelerator: str
    threads: int | None
    tokenizer: Path | None = None
    bos_id: int | None = None
    engine: InferenceEngine = TransformersEngine()
    log: Path = Path("vllm.log")

    def connect(self, notify: Notify) -> AbstractContextManager[Backend]:
        return self.engine.connect(self, notify)

    def load_tokenizer(self) -> "tuple[Tokenizer, int | None]":
        """Returns the tokenizer and the BOS token id."""
        from tokenizers import Tokenizer

        if self.tokenizer is None:
            return load_pretrained_tokenizer(self.path)
        return Tokenizer.from_file(str(self.tokenizer / "tokenizer.json")), self.bos_id


@dataclass(frozen=True)
class EndpointModel:
    """A model served by the endpoint of a writer (conf/llm)."""

    llm: Writer
    response_cache: Path

    @contextmanager
    def connect(self, notify: Notify) -> Iterator[Backend]:
        from entigraph.evaluation.backends.endpoint_backend import EndpointBackend

        with self.llm.connect(self.response_cache, notify) as llm:
            yield EndpointBackend(llm, chat=getattr(self.llm, "api", Api.chat) == Api.chat)


def load_pretrained_tokenizer(path: str, key: str = "baselines") -> "tuple[Tokenizer, int | None]":
    """Returns a model's fast tokenizer and the BOS token id that it prepends, or None if it prepends none. Errors
    name `key`.
    """
    tokenizer = load_fast_tokenizer(path, key)
    adds_bos = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    return tokenizer.backend_tokenizer, tokenizer.bos_token_id if adds_bos else None
