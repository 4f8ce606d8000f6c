"""The arguments of `lightning.Trainer`, under its own names, and nine of ours. Nothing here imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError

CHOICES: Mapping[str, Sequence[str]] = {
    "accelerator": ("auto", "cpu", "cuda", "gpu"),
    "precision": ("auto", "32-true", "bf16-mixed", "bf16-true"),
    "gradient_clip_algorithm": ("norm", "value"),
    "activation_checkpointing": ("none", "selective", "full"),
    "compile": ("none", "blocks"),
    "attention": ("auto", "sdpa", "eager", "flash_attention_2", "flex_attention"),
    "gradient_dtype": ("float32", "bfloat16"),
    "save_dtype": ("float32", "bfloat16"),
}
POSITIVE = (
    "devices",
    "num_nodes",
    "max_epochs",
    "max_steps",
    "micro_batch_size",
    "accumulate_grad_batches",
    "log_every_n_steps",
    "checkpoint_every_n_steps",
    "threads",
)
# Of ours, and of Lightning's those that training derives from the data schedule or sets itself.
OURS = (
    "micro_batch_size",
    "activation_checkpointing",
    "compile",
    "attention",
    "gradient_dtype",
    "checkpoint_every_n_steps",
    "async_checkpoints",
    "threads",
    "save_dtype",
)
SET_BY_TRAINING = ("accelerator", "precision", "max_epochs", "max_steps", "accumulate_grad_batches", "profiler")
# With these, a run that is killed and resumed need not end with the weights of one that was not.
INEXACT = ("limit_train_batches", "overfit_batches", "max_time", "fast_dev_run", "reload_dataloaders_every_n_epochs")


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """Every argument of `lightning.Trainer` that does not contradict the data schedule or exact resume.

    Left out are `strategy` (exact resume needs ours), `callbacks` and `logger` (config groups of their own), and
    `plugins`, `use_distributed_sampler`, `default_root_dir`, `barebones` and `model_registry`.

    `max_epochs` counts passes over the synthetic blocks; `max_steps` takes precedence. `devices` are those of one
    node. `precision` auto: bf16 where the hardware computes in it, fp32 elsewhere; on one GPU that is bf16-true, 16-bit
    weights with their other 16 bits in the optimizer, else bf16-mixed, fp32 weights. `val_check_interval` null: ten
    times over the run.

    Ours: `micro_batch_size` null: a device's share of the batch at once. `gradient_dtype` is the dtype in which
    bf16-true adds the gradients of micro-batches. `async_checkpoints` null: on a GPU. `threads` is per process: a tiny
    model gains nothing from more than one.
    """

    accelerator: str = runtime_field("auto")
    devices: int = runtime_field(1)
    num_nodes: int = runtime_field(1)
    precision: str = "auto"
    max_epochs: int = 2
    max_steps: int | None = None
    gradient_clip_val: float | None = 1.0
    gradient_clip_algorithm: str = "norm"
    accumulate_grad_batches: int | None = runtime_field(None)
    log_every_n_steps: int = runtime_field(10)
    val_check_interval: Any = runtime_field(None)
    profiler: Any = runtime_field(None)

    micro_batch_size: int | None = runtime_field(None)
    activation_checkpointing: str = runtime_field("none")
    compile: str = runtime_field("none")
    attention: str = runtime_field("auto")
    gradient_dtype: str = runtime_field("float32")
    checkpoint_every_n_steps: int = runtime_field(500)
    async_checkpoints: bool | None = runtime_field(None)
    threads: int | None = runtime_field(1)
    save_dtype: str = "float32"

    # Passed to Lightning as they are; null leaves Lightning's default.
    fast_dev_run: Any = None
    min_epochs: int | None = None
    min_steps: int | None = None
    max_time: Any = None
    limit_train_batches: Any = None
    overfit_batches: Any = None
    sync_batchnorm: bool | None = None
    reload_dataloaders_every_n_epochs: int | None = None
    deterministic: Any = None
    benchmark: bool | None = runtime_field(None)
    detect_anomaly: bool | None = runtime_field(None)
    inference_mode: bool | None = runtime_field(None)
    limit_val_batches: Any = runtime_field(None)
    limit_test_batches: Any = runtime_field(None)
    limit_predict_batches: Any = runtime_field(None)
    check_val_every_n_epoch: int | None = runtime_field(None)
    num_sanity_val_steps: int | None = runtime_field(0)
    enable_checkpointing: bool | None = runtime_field(None)
    enable_progress_bar: bool | None = runtime_field(False)
    enable_model_summary: bool | None = runtime_field(False)
    enable_autolog_hparams: bool | None = runtime_field(None)

    def __post_init__(self) -> None:
        problems = [
            f"trainer.{key}: {getattr(self, key)!r} found, one of {', '.join(choices)} expected"
            for key, choices in CHOICES.items()
            if getattr(self, key) not in choices
        ]
        problems += [
            f"trainer.{key}: {getattr(self, key)} found, at least 1 expected"
            for key in POSITIVE
            if getattr(self, key) is not None and getattr(self, key) < 1
        ]
        if self.world_size > 1 and self.precision == "bf16-true":
            problems.append(
                "trainer.precision: bf16-true is for one device; several share fp32 weights and compute in bf16: "
                "set bf16-mixed"
            )
        if problems:
            raise ConfigError("\n".join(problems))

    @property
    def world_size(self) -> int:
        return self.devices * self.num_nodes

    @property
    def inexact_arguments(self) -> list[str]:
        """Returns the arguments that are set and give up exact resume."""
        return [name for name in INEXACT if getattr(self, name)]

    def lightning_arguments(self) -> dict[str, Any]:
        """Returns the arguments that `lightning.Trainer` receives unchanged."""
        names = [each.name for each in fields(self) if each.name not in (*OURS, *SET_BY_TRAINING)]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def accumulation(self, batch_size: int) -> int:
        """Returns the micro-batches per optimizer step on each device. Raises ConfigError if they do not divide it."""
        if batch_size % self.world_size:
            raise ConfigError(
                f"data.batch_size: {batch_size} sequences cannot be shared by trainer.devices x trainer.num_nodes = "
                f"{self.world_size} devices; choose a number of devices that divides it"
            )
        share = batch_size // self.world_size
        suffix = f", of which each of {self.world_size} devices has {share}" if self.world_size > 1 else ""
        if self.micro_batch_size and self.accumulate_grad_batches:
            raise ConfigError(
                "trainer: micro_batch_size and accumulate_grad_batches both divide data.batch_size; set one of them"
            )
        if self.accumulate_grad_batches:
            if share % self.accumulate_grad_batches:
                raise ConfigError(
                    f"trainer.accumulate_grad_batches: {self.accumulate_grad_batches} does not divide data.batch_size "
                    f"{batch_size}{suffix}"
                )
            return self.accumulate_grad_batches
        micro = self.micro_batch_size or share
        if share % micro:
            raise ConfigError(f"trainer.micro_batch_size: {micro} does not divide data.batch_size {batch_size}{suffix}")
        return share // micro
