"""What a training run is told: plain values with their checks. Nothing here imports torch."""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi
from typing import TYPE_CHECKING, Any, Protocol

from entigraph.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ACCELERATORS = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "bf16-true")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Blocks of `context_length` tokens, `batch_size` sequences an optimiser step whatever the number of devices.

    `replay_rate` is the share of all blocks that come from `replay`, a tokens artefact: 0.1 in the paper (App. D).
    """

    context_length: int = 128
    batch_size: int = 8
    replay_rate: float = 0.0
    replay: str | None = None

    def __post_init__(self) -> None:
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


@dataclass(frozen=True, kw_only=True)
class RandomLlama:
    """A Llama with random weights: the tiny model of the laptop-scale study."""

    name: str = "tiny_llama"
    path: str = ""
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

    def build(self, vocabulary: int) -> "PreTrainedModel":
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
            intermediate_size=self.intermediate_size,
            max_position_embeddings=self.positions,
            initializer_range=self.initializer_range,
            tie_word_embeddings=self.tie_embeddings,
            bos_token_id=None,
            eos_token_id=None,
        )
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return LlamaForCausalLM(config)


@dataclass(frozen=True, kw_only=True)
class PretrainedModel:
    """Any Hugging Face causal language model, by folder or hub name."""

    name: str = "pretrained"
    path: str = ""

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("model.path: nothing given; give a Hugging Face folder or hub name")

    def build(self, vocabulary: int) -> "PreTrainedModel":
        import torch

        from entigraph.models import load_model

        model = load_model(self.path)
        weight = model.get_input_embeddings().weight
        assert isinstance(weight, torch.Tensor)
        embedded = weight.shape[0]
        if vocabulary > embedded:
            raise ConfigError(
                f"model.path: {self.path} embeds {embedded:,} tokens, the tokenizer has {vocabulary:,}; "
                "choose the tokenizer that the model was trained with"
            )
        return model


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
        """The factor on `lr` at each optimiser step, counted from 0."""
        warmup = max(1, round(self.warmup * steps))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            done = (step - warmup) / max(1, steps - warmup)
            return self.minimum + (1 - self.minimum) * 0.5 * (1 + cos(pi * min(1.0, done)))

        return factor

    def build(self, parameters: "list[torch.nn.Parameter]") -> "torch.optim.Optimizer":
        import torch

        decayed = [parameter for parameter in parameters if parameter.ndim > 1]
        others = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.lr, betas=(self.beta1, self.beta2), fused=True)


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How long and on what. `max_epochs` counts passes over the synthetic blocks; `max_steps` replaces it.

    `precision` auto: bf16 where the processor computes in it, fp32 elsewhere. `micro_batch_size` null: the whole
    batch of a device at once. `threads` per process: the tiny model gains nothing from more.
    """

    accelerator: str = "auto"
    devices: int = 1
    precision: str = "auto"
    max_epochs: int = 2
    max_steps: int | None = None
    micro_batch_size: int | None = None
    log_every_steps: int = 10
    checkpoint_every_steps: int = 500
    threads: int | None = 1

    def __post_init__(self) -> None:
        if self.accelerator not in ACCELERATORS:
            raise ConfigError(
                f"trainer.accelerator: {self.accelerator!r} found, one of {', '.join(ACCELERATORS)} expected"
            )
        if self.precision not in PRECISIONS:
            raise ConfigError(f"trainer.precision: {self.precision!r} found, one of {', '.join(PRECISIONS)} expected")
        if self.devices != 1:
            raise ConfigError(f"trainer.devices: {self.devices} found; this version trains on one device")
        for key in (
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

    def accumulation(self, batch_size: int) -> int:
        """Micro-batches an optimiser step."""
        micro = self.micro_batch_size or batch_size
        if batch_size % micro:
            raise ConfigError(f"trainer.micro_batch_size: {micro} does not divide data.batch_size {batch_size}")
        return batch_size // micro
