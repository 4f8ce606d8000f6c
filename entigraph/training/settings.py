"""What a training run is told: plain values with their checks. Nothing here imports torch."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

REPLAY_MODES = ("add", "replace")
CHOICES: Mapping[str, Sequence[str]] = {
    "accelerator": ("auto", "cpu", "cuda"),
    "precision": ("auto", "32-true", "bf16-mixed", "bf16-true"),
    "activation_checkpointing": ("none", "selective", "full"),
    "compile": ("none", "blocks"),
    "attention": ("auto", "sdpa", "eager", "flash_attention_2", "flex_attention"),
    "accumulate_in": ("float32", "bfloat16"),
    "save_dtype": ("float32", "bfloat16"),
}


@dataclass(frozen=True, kw_only=True)
class Data:
    """Blocks of `context_length` tokens, `batch_size` sequences an optimizer step whatever the number of devices.

    `replay_rate` is the share of all blocks that come from `replay`, a tokens artifact: 0.1 in the paper (App. D).
    `replay_mode` add: they come beside the synthetic blocks, each of which is seen once an epoch; replace: in place of
    them, the paper's wording and the authors' code. `document_mask`: a token sees its own document only, positions
    count from the document's beginning, and the step from one document to the next carries no loss.
    """

    context_length: int = 128
    batch_size: int = 8
    replay_rate: float = 0.0
    replay: str | None = runtime_field(None)
    replay_mode: str = "add"
    document_mask: bool = False

    def __post_init__(self) -> None:
        if self.replay_mode not in REPLAY_MODES:
            raise ConfigError(
                f"data.replay_mode: {self.replay_mode!r} found, one of {', '.join(REPLAY_MODES)} expected"
            )
        if self.context_length < 2:
            raise ConfigError(f"data.context_length: {self.context_length} found, at least 2 expected")
        if self.batch_size < 1:
            raise ConfigError(f"data.batch_size: {self.batch_size} found, at least 1 expected")
        if not 0 <= self.replay_rate < 1:
            raise ConfigError(f"data.replay_rate: {self.replay_rate} found, a share from 0 to below 1 expected")
        if self.replay_rate > 0 and not self.replay:
            raise ConfigError(
                "data.replay_rate: replay needs tokens to replay: set data.replay, or choose data=packed with rate 0"
            )


class Model(Protocol):
    """What is trained. `path` is where its first weights come from; empty: they are random."""

    name: str
    path: str

    def build(self, vocabulary: int) -> "PreTrainedModel": ...

    def config_values(self, vocabulary: int) -> Mapping[str, Any] | None:
        """What its config.json says or would say, as far as it is known without a download."""
        ...


@dataclass(frozen=True, kw_only=True)
class RandomLlama:
    """A Llama with random weights: the tiny model of the laptop-scale study."""

    name: str = "tiny_llama"
    path: str = runtime_field("")
    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 4
    intermediate_size: int = 320
    positions: int = 512
    initializer_range: float = 0.02
    tie_embeddings: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.path:
            raise ConfigError(
                f"model.path: this model begins with random weights; choose model=pretrained for {self.path!r}"
            )
        sizes = (
            self.hidden_size,
            self.layers,
            self.heads,
            self.key_value_heads,
            self.intermediate_size,
            self.positions,
        )
        if min(sizes) < 1:
            raise ConfigError(f"model: sizes {sizes} found, each at least 1 expected")
        if self.hidden_size % self.heads or self.heads % self.key_value_heads:
            raise ConfigError(
                f"model: hidden_size {self.hidden_size}, heads {self.heads}, key_value_heads {self.key_value_heads}; "
                "each must divide the one before"
            )

    def config_values(self, vocabulary: int) -> Mapping[str, Any]:
        return {
            "vocab_size": vocabulary,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.positions,
            "initializer_range": self.initializer_range,
            "tie_word_embeddings": self.tie_embeddings,
        }

    def build(self, vocabulary: int) -> "PreTrainedModel":
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(**self.config_values(vocabulary), bos_token_id=None, eos_token_id=None)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return LlamaForCausalLM(config)


@dataclass(frozen=True, kw_only=True)
class PretrainedModel:
    """Any Hugging Face causal language model, by folder or hub name.

    `shape`: what its config.json says, so that a plan of a model on the hub needs no download.
    """

    name: str = "pretrained"
    path: str = runtime_field("")
    shape: dict[str, Any] = runtime_field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("model.path: nothing given; give a Hugging Face folder or hub name")

    def build(self, vocabulary: int) -> "PreTrainedModel":
        from entigraph.huggingface.models import load_model

        return load_model(self.path)

    def config_values(self, vocabulary: int) -> Mapping[str, Any] | None:
        file = Path(self.path).expanduser() / "config.json"
        if file.is_file():
            return cast("dict[str, Any]", json.loads(file.read_text(encoding="utf-8")))
        return self.shape or None


@dataclass(frozen=True, kw_only=True)
class AdamWCosine:
    """AdamW with linear warm-up and cosine decay; no weight decay on norms and biases.

    `minimum` is the final learning rate as a share of `lr`. `clip_norm` bounds the gradient's norm; null: no bound.
    """

    lr: float
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    warmup: float = 0.05
    minimum: float = 0.0
    clip_norm: float | None = 1.0

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ConfigError(f"optim.lr: {self.lr} found, a positive learning rate expected")
        for key in ("warmup", "minimum", "beta1", "beta2", "weight_decay"):
            value = getattr(self, key)
            if not 0 <= value <= 1 or (key.startswith("beta") and value == 1):
                raise ConfigError(f"optim.{key}: {value} found, 0 to 1 expected")

    def schedule(self, steps: int) -> Callable[[int], float]:
        """The factor on `lr` at each optimizer step, counted from 0."""
        warmup = max(1, round(self.warmup * steps))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            done = (step - warmup) / max(1, steps - warmup)
            return self.minimum + (1 - self.minimum) * 0.5 * (1 + cos(pi * min(1.0, done)))

        return factor


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How long, on what, and how. `max_epochs` counts passes over the synthetic blocks; `max_steps` replaces it.

    `devices` are those of one node. `precision` auto: bf16 where the processor computes in it, fp32 elsewhere; on one
    GPU that is bf16-true, 16-bit weights whose optimizer keeps their other 16 bits; else bf16-mixed, fp32 weights.
    `micro_batch_size` null: the whole batch of a device at once. `accumulate_in` is the dtype in which bf16-true adds
    the gradients of micro-batches. `threads` per process: the tiny model gains nothing from more.
    """

    accelerator: str = runtime_field("auto")
    devices: int = runtime_field(1)
    nodes: int = runtime_field(1)
    precision: str = "auto"
    max_epochs: int = 2
    max_steps: int | None = None
    micro_batch_size: int | None = runtime_field(None)
    accumulate_in: str = runtime_field("float32")
    activation_checkpointing: str = runtime_field("none")
    compile: str = runtime_field("none")
    attention: str = runtime_field("auto")
    log_every_steps: int = runtime_field(10)
    checkpoint_every_steps: int = runtime_field(500)
    async_checkpoints: bool | None = runtime_field(None)  # null: where weights are on a GPU
    save_dtype: str = "float32"
    threads: int | None = runtime_field(1)

    def __post_init__(self) -> None:
        for key, choices in CHOICES.items():
            if getattr(self, key) not in choices:
                raise ConfigError(f"trainer.{key}: {getattr(self, key)!r} found, one of {', '.join(choices)} expected")
        for key in (
            "devices",
            "nodes",
            "max_epochs",
            "max_steps",
            "micro_batch_size",
            "log_every_steps",
            "checkpoint_every_steps",
            "threads",
        ):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"trainer.{key}: {value} found, at least 1 expected")
        if self.ranks > 1 and self.precision == "bf16-true":
            raise ConfigError(
                "trainer.precision: bf16-true is for one device; several share fp32 weights and compute in bf16: "
                "bf16-mixed"
            )

    @property
    def ranks(self) -> int:
        return self.devices * self.nodes

    def accumulation(self, batch_size: int) -> int:
        """Micro-batches of each device an optimizer step."""
        if batch_size % self.ranks:
            raise ConfigError(
                f"data.batch_size: {batch_size} sequences cannot be shared by trainer.devices x trainer.nodes = "
                f"{self.ranks} devices; choose a number of devices that divides it"
            )
        share = batch_size // self.ranks
        micro = self.micro_batch_size or share
        if share % micro:
            shared = f", of which each of {self.ranks} devices has {share}" if self.ranks > 1 else ""
            raise ConfigError(f"trainer.micro_batch_size: {micro} does not divide data.batch_size {batch_size}{shared}")
        return share // micro
