"""Who is asked: a model on this machine, or one behind an endpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from entigraph.errors import ConfigError
from entigraph.evaluation.base import Engine
from entigraph.hardware import has_native_bf16, pick_accelerator
from entigraph.llm.base import Say, Writer
from entigraph.llm.chat import Api

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Any Hugging Face causal LM with its own tokenizer: a folder (a run's `model/` is one) or a hub name."""

    path: str = ""

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("baselines: a pretrained model without a path; give a Hugging Face folder or hub name")


@dataclass(frozen=True)
class LocalModel:
    """`tokenizer`: a folder with the tokenizer that the model was trained with, and `bos_id` what begins a text there;
    None: the model's own, which says itself what begins a text.
    """

    path: str
    accelerator: str
    threads: int | None
    tokenizer: Path | None = None
    bos_id: int | None = None
    likelihoods: ClassVar[bool] = True

    @contextmanager
    def connect(self, say: Say) -> Iterator[Engine]:
        from tokenizers import Tokenizer

        from entigraph.evaluation.chat import chat_template
        from entigraph.evaluation.engine import TransformersEngine

        if self.tokenizer is None:
            tokenizer, bos_id = own_tokenizer(self.path)
        else:
            tokenizer, bos_id = Tokenizer.from_file(str(self.tokenizer / "tokenizer.json")), self.bos_id
        device = pick_accelerator(self.accelerator)
        bf16, chat = has_native_bf16(device), chat_template(self.path)
        yield TransformersEngine(self.path, tokenizer, bos_id, device, bf16, self.threads, chat)


@dataclass(frozen=True)
class Endpoint:
    """Any writer of conf/llm, asked in place of being told to write."""

    llm: Writer
    journal: Path
    likelihoods: ClassVar[bool] = False

    @contextmanager
    def connect(self, say: Say) -> Iterator[Engine]:
        from entigraph.evaluation.endpoint import EndpointEngine

        with self.llm.connect(self.journal, say) as llm:
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
