"""Who is asked: a model on this machine, in one of two engines, or one behind an endpoint."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError
from entigraph.evaluation.base import Engine
from entigraph.huggingface.models import eos_token_ids, load_config
from entigraph.llm.base import Say, Writer
from entigraph.llm.vllm.vllm_writer import VLLMEngineConfig
from entigraph.llm.wire_format import Api
from entigraph.runtime.devices import has_native_bf16, pick_accelerator, release_gpu_memory

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Any Hugging Face causal LM with its own tokenizer: a folder (a run's `model/` is one) or a hub name."""

    path: str = runtime_field("")

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("baselines: a pretrained model without a path; give a Hugging Face folder or hub name")


class Engines(Protocol):
    """What conf/engine describes: what a model on this machine answers in. `holds_model`: in this process, where
    another program's harness may have it.
    """

    holds_model: ClassVar[bool]

    def check(self) -> None:
        """Raises LLMError where it could not start: asked before anything is made."""
        ...

    def engine(self, model: "LocalModel", say: Say) -> AbstractContextManager[Engine]: ...


@dataclass(frozen=True)
class Transformers:
    """Hugging Face's own implementation, in this process."""

    holds_model: ClassVar[bool] = True

    def check(self) -> None:
        pass

    @contextmanager
    def engine(self, model: "LocalModel", say: Say) -> Iterator[Engine]:
        from entigraph.evaluation.backends.transformers_backend import TransformersEngine
        from entigraph.evaluation.chat_prompts import chat_template

        device = pick_accelerator(model.accelerator)
        chat = chat_template(model.path)
        yield TransformersEngine(model.path, *model.reader(), device, has_native_bf16(device), model.threads, chat)


@dataclass(frozen=True, kw_only=True)
class Vllm(VLLMEngineConfig):
    """vLLM's, in processes that end with the evaluation."""

    group: ClassVar[str] = "engine"
    holds_model: ClassVar[bool] = False

    @contextmanager
    def engine(self, model: "LocalModel", say: Say) -> Iterator[Engine]:
        from entigraph.evaluation.backends.vllm_backend import VllmEngine
        from entigraph.evaluation.chat_prompts import chat_template

        self.check()
        config, generation = load_config(model.path)
        positions = self.max_model_len or getattr(config, "max_position_embeddings", None)
        if not positions:
            raise ConfigError(f"engine.max_model_len: not set, and {model.path} states no longest context; give one")
        release_gpu_memory()  # what was trained here before leaves the GPU to vLLM
        found = VllmEngine(
            self,
            model.path,
            *model.reader(),
            positions=positions,
            own_ends=eos_token_ids(generation),
            chat=chat_template(model.path),
            log=model.log,
            say=say,
        )
        try:
            yield found
        finally:
            found.close()


@dataclass(frozen=True)
class LocalModel:
    """`tokenizer`: a folder with the tokenizer that the model was trained with, and `bos_id` what begins a text there;
    None: the model's own, which says itself what begins a text. `log` is for engines with processes of their own.
    """

    path: str
    accelerator: str
    threads: int | None
    tokenizer: Path | None = None
    bos_id: int | None = None
    engines: Engines = Transformers()
    log: Path = Path("vllm.log")
    likelihoods: ClassVar[bool] = True

    def connect(self, say: Say) -> AbstractContextManager[Engine]:
        return self.engines.engine(self, say)

    def reader(self) -> "tuple[Tokenizer, int | None]":
        """Its tokenizer, and what begins a text."""
        from tokenizers import Tokenizer

        if self.tokenizer is None:
            return own_tokenizer(self.path)
        return Tokenizer.from_file(str(self.tokenizer / "tokenizer.json")), self.bos_id


@dataclass(frozen=True)
class Endpoint:
    """Any writer of conf/llm, asked in place of being told to write."""

    llm: Writer
    response_cache: Path
    likelihoods: ClassVar[bool] = False

    @contextmanager
    def connect(self, say: Say) -> Iterator[Engine]:
        from entigraph.evaluation.backends.endpoint_backend import EndpointEngine

        with self.llm.connect(self.response_cache, say) as llm:
            yield EndpointEngine(llm, chat=getattr(self.llm, "api", Api.chat) is Api.chat)


def own_tokenizer(path: str) -> "tuple[Tokenizer, int | None]":
    """A model's own fast tokenizer, and the id that it puts before a text by itself (None: it puts none)."""
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(str(Path(path).expanduser()))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"baselines: cannot load the tokenizer of {path!r}: {str(error).splitlines()[0]} "
            "Give a Hugging Face folder with tokenizer.json, or a hub name"
        ) from None
    if not found.is_fast:
        raise ConfigError(f"baselines: {path!r} has no tokenizer.json (a slow tokenizer); convert it with transformers")
    begins = found("a").input_ids[:1] == [found.bos_token_id]
    return found.backend_tokenizer, found.bos_token_id if begins else None
