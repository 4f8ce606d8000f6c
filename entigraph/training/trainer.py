"""The trainer's settings, under the names of `lightning.Trainer` where it has one. Nothing here imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError

CHOICES: Mapping[str, Sequence[str]] = {
    "accelerator": ("auto", "cpu", "cuda"),
    "precision": ("auto", "32-true", "bf16-mixed", "bf16-true"),
    "activation_checkpointing": ("none", "selective", "full"),
    "compile": ("none", "blocks"),
    "attention": ("auto", "sdpa", "eager", "flash_attention_2", "flex_attention"),
    "gradient_dtype": ("float32", "bfloat16"),
    "save_dtype": ("float32", "bfloat16"),
}


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How long, on what, and how. `max_epochs` counts passes over the synthetic blocks; `max_steps` replaces it.

    `devices` are those of one node. `precision` auto: bf16 where the processor computes in it, fp32 elsewhere; on one
    GPU that is bf16-true, 16-bit weights whose optimizer keeps their other 16 bits; else bf16-mixed, fp32 weights.
    `micro_batch_size` null: the whole batch of a device at once. `gradient_dtype` is the dtype in which bf16-true adds
    the gradients of micro-batches. `threads` per process: the tiny model gains nothing from more.
    """

    accelerator: str = runtime_field("auto")
    devices: int = runtime_field(1)
    num_nodes: int = runtime_field(1)
    precision: str = "auto"
    max_epochs: int = 2
    max_steps: int | None = None
    micro_batch_size: int | None = runtime_field(None)
    gradient_dtype: str = runtime_field("float32")
    activation_checkpointing: str = runtime_field("none")
    compile: str = runtime_field("none")
    attention: str = runtime_field("auto")
    log_every_n_steps: int = runtime_field(10)
    checkpoint_every_n_steps: int = runtime_field(500)
    async_checkpoints: bool | None = runtime_field(None)  # null: where weights are on a GPU
    save_dtype: str = "float32"
    threads: int | None = runtime_field(1)

    def __post_init__(self) -> None:
        for key, choices in CHOICES.items():
            if getattr(self, key) not in choices:
                raise ConfigError(f"trainer.{key}: {getattr(self, key)!r} found, one of {', '.join(choices)} expected")
        for key in (
            "devices",
            "num_nodes",
            "max_epochs",
            "max_steps",
            "micro_batch_size",
            "log_every_n_steps",
            "checkpoint_every_n_steps",
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
        return self.devices * self.num_nodes

    def accumulation(self, batch_size: int) -> int:
        """Micro-batches of each device an optimizer step."""
        if batch_size % self.ranks:
            raise ConfigError(
                f"data.batch_size: {batch_size} sequences cannot be shared by trainer.devices x trainer.num_nodes = "
                f"{self.ranks} devices; choose a number of devices that divides it"
            )
        share = batch_size // self.ranks
        micro = self.micro_batch_size or share
        if share % micro:
            shared = f", of which each of {self.ranks} devices has {share}" if self.ranks > 1 else ""
            raise ConfigError(f"trainer.micro_batch_size: {micro} does not divide data.batch_size {batch_size}{shared}")
        return share // micro
