"""The arguments of `lightning.Trainer`, and additional ones. Importing this module does not import torch."""

import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError

AUTO, FLASH_ATTENTION = "auto", "flash_attention_2"
AUTO_SETTINGS = ("compile", "activation_checkpointing", "micro_batch_size", "gradient_dtype")  # see device_fit.py
CHOICES: Mapping[str, Sequence[str]] = {
    "accelerator": ("auto", "cpu", "cuda", "gpu"),
    "precision": ("auto", "32-true", "bf16-mixed", "bf16-true"),
    "gradient_clip_algorithm": ("norm", "value"),
    "activation_checkpointing": ("none", "selective", "full", AUTO),
    "compile": ("none", "blocks", AUTO),
    "attention": ("auto", "sdpa", "eager", FLASH_ATTENTION, "flex_attention"),
    "gradient_dtype": ("float32", "bfloat16", AUTO),
    "save_dtype": ("float32", "bfloat16"),
    "float8": ("none", "tensorwise", "rowwise"),
    "sharding": ("full", "hybrid"),
}
POSITIVE = (
    "devices",
    "num_nodes",
    "max_epochs",
    "max_steps",
    "accumulate_grad_batches",
    "log_every_n_steps",
    "checkpoint_every_n_steps",
    "threads",
    "timeout_s",
)
PROFILERS = ("simple", "advanced", "pytorch")
FRACTIONS = ("limit_train_batches", "limit_val_batches", "overfit_batches")
# Arguments of lightning.Trainer that training sets itself or derives from the data schedule.
SET_BY_TRAINING = ("accelerator", "precision", "max_epochs", "max_steps", "accumulate_grad_batches", "profiler")
# With these, an interrupted and resumed run may end with different weights than an uninterrupted one.
INEXACT = ("limit_train_batches", "overfit_batches", "max_time", "fast_dev_run", "reload_dataloaders_every_n_epochs")


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """The arguments of `lightning.Trainer` that have an effect and do not conflict with the schedule or exact resume.

    Those left out, with the reasons, are in `tests/training/test_trainer_arguments.py`.

    `max_epochs` counts passes over the synthetic blocks; `max_steps` takes precedence. `devices` is per node.
    `precision` auto is 32-true on hardware without native bf16; otherwise bf16-true on one GPU (bf16 weights with their
    low 16 bits in the optimizer) and bf16-mixed elsewhere (fp32 weights). `val_check_interval` is a fraction of the run
    or a number of optimizer steps; by default a tenth of the run.

    Additional arguments: `micro_batch_size` defaults to a device's entire part of the batch. `gradient_dtype` is the
    dtype in which bf16-true accumulates gradients. These two, `compile` and `activation_checkpointing` can be "auto":
    `device_fit.choose_settings` then chooses the fastest that fit the device. `async_checkpoints` defaults to true
    on GPUs. `threads` is the number of CPU threads per process; a tiny model gains nothing from more than one.
    `float8` is torchao's recipe for matrix products in FP8. `sharding`, `reshard_after_forward` and `cpu_offload`
    configure FSDP2 (`strategies.Sharding`). A rank that waits longer than `timeout_s` seconds for another ends the run.
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

    micro_batch_size: int | str | None = runtime_field(None)
    activation_checkpointing: str = runtime_field("none")
    compile: str = runtime_field("none")
    attention: str = runtime_field("auto")
    gradient_dtype: str = runtime_field("float32")  # fitted to the device, as the two above: it only rounds
    checkpoint_every_n_steps: int = runtime_field(500)
    async_checkpoints: bool | None = runtime_field(None)
    threads: int | None = runtime_field(1)
    save_dtype: str = "float32"
    float8: str = "none"
    sharding: str = runtime_field("full")
    reshard_after_forward: bool = runtime_field(True)
    cpu_offload: bool = runtime_field(False)
    timeout_s: float = runtime_field(1800.0)

    # Passed to Lightning unchanged; null means Lightning's default.
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
    limit_val_batches: Any = runtime_field(None)
    num_sanity_val_steps: int | None = runtime_field(0)
    enable_progress_bar: bool | None = runtime_field(False)
    enable_model_summary: bool | None = runtime_field(False)
    enable_autolog_hparams: bool | None = runtime_field(None)

    def __post_init__(self) -> None:
        problems = [
            f"trainer.{key} must be one of {', '.join(choices)}, got {getattr(self, key)!r}"
            for key, choices in CHOICES.items()
            if getattr(self, key) not in choices
        ]
        problems += [
            f"trainer.{key} must be at least 1, got {getattr(self, key)}"
            for key in POSITIVE
            if getattr(self, key) is not None and getattr(self, key) < 1
        ]
        if self.gradient_clip_val is not None and self.gradient_clip_val < 0:
            problems.append(
                f"trainer.gradient_clip_val must be at least 0 (0 or null: no clipping), got {self.gradient_clip_val}"
            )
        problems += [f"trainer.{name} {problem}" for name, problem in self.argument_problems()]
        size = self.micro_batch_size
        if size not in (None, AUTO) and not (isinstance(size, int) and size >= 1):
            problems.append(f"trainer.micro_batch_size must be at least 1, auto or null, got {size!r}")
        if self.is_sharded and self.precision == "bf16-true":
            problems.append(
                "trainer.precision: bf16-true supports only one device without trainer.cpu_offload; set bf16-mixed"
            )
        if self.float8 != "none" and self.precision == "32-true":
            problems.append(
                f"trainer.float8={self.float8} needs trainer.precision=bf16-mixed, got 32-true; set it, or float8=none"
            )
        if self.attention == FLASH_ATTENTION and self.precision == "32-true":
            problems.append(
                f"trainer.attention={FLASH_ATTENTION} needs 16-bit weights, got trainer.precision=32-true; set "
                "attention=sdpa or precision=bf16-mixed"
            )
        if self.sharding == "hybrid" and self.num_nodes == 1:
            problems.append(
                "trainer.sharding=hybrid replicates the weights across nodes: trainer.num_nodes must be at least 2, "
                "got 1; set sharding=full"
            )
        if problems:
            raise ConfigError("\n".join(problems))

    def argument_problems(self) -> Iterator[tuple[str, str]]:
        """Yields the arguments of `lightning.Trainer` that it would reject when training starts, each with the reason.

        Their annotations accept several types, so they are not checked against the signature.
        """
        for name in FRACTIONS:
            value = getattr(self, name)
            if value is not None and not is_count(value) and not (isinstance(value, float) and 0 <= value <= 1):
                yield name, f"must be a number of batches, or a fraction from 0.0 to 1.0, got {value!r}"
        interval = self.val_check_interval
        if (
            interval is not None
            and not is_count(interval, 1)
            and not (isinstance(interval, float) and 0 < interval <= 1)
        ):
            yield (
                "val_check_interval",
                f"must be a number of steps, or a fraction of the run up to 1.0, got {interval!r}",
            )
        if (
            self.fast_dev_run is not None
            and not isinstance(self.fast_dev_run, bool)
            and not is_count(self.fast_dev_run)
        ):
            yield "fast_dev_run", f"must be true, false or a number of batches, got {self.fast_dev_run!r}"
        if self.deterministic not in (None, True, False, "warn"):
            yield "deterministic", f"must be true, false or warn, got {self.deterministic!r}"
        if self.max_time is not None and not is_duration(self.max_time):
            yield "max_time", f"must be DD:HH:MM:SS, or days, hours, minutes and seconds by name, got {self.max_time!r}"
        if isinstance(self.profiler, str) and self.profiler not in PROFILERS:
            yield "profiler", f"must be one of {', '.join(PROFILERS)}, or have a _target_, got {self.profiler!r}"
        if self.num_sanity_val_steps is not None and self.num_sanity_val_steps < -1:
            yield "num_sanity_val_steps", f"must be at least -1 (all batches), got {self.num_sanity_val_steps}"
        every = self.reload_dataloaders_every_n_epochs
        if every is not None and every < 0:
            yield "reload_dataloaders_every_n_epochs", f"must be at least 0, got {every}"

    @property
    def world_size(self) -> int:
        return self.devices * self.num_nodes

    @property
    def is_sharded(self) -> bool:
        """Returns whether FSDP2 holds the weights: on several devices, or for its CPU offload."""
        return self.world_size > 1 or self.cpu_offload

    @property
    def automatic(self) -> list[str]:
        """Returns the settings that are chosen when the device is known."""
        return [name for name in AUTO_SETTINGS if getattr(self, name) == AUTO]

    @property
    def inexact_arguments(self) -> list[str]:
        """Returns the arguments that are set and prevent exact resume."""
        return [name for name in INEXACT if getattr(self, name)]

    def lightning_arguments(self, accepted: Collection[str]) -> dict[str, Any]:
        """Returns the arguments passed to `lightning.Trainer`, which accepts these names, unchanged."""
        names = [field.name for field in fields(self) if field.name in accepted and field.name not in SET_BY_TRAINING]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def shows_lightning_bar(self) -> bool:
        """Returns whether Lightning's own progress bar is shown instead of the stage's: only on a terminal."""
        return bool(self.enable_progress_bar) and sys.stderr.isatty()

    def accumulation(self, batch_size: int) -> int:
        """Returns the number of micro-batches per optimizer step. Raises ConfigError if sizes do not divide evenly."""
        if batch_size % self.world_size:
            raise ConfigError(
                f"data.batch_size: {batch_size} sequences cannot be split over trainer.devices x trainer.num_nodes = "
                f"{self.world_size} devices; choose a number of devices that divides it"
            )
        per_device = batch_size // self.world_size
        suffix = f" ({per_device} on each of {self.world_size} devices)" if self.world_size > 1 else ""
        if isinstance(self.micro_batch_size, int) and self.accumulate_grad_batches:
            raise ConfigError(
                "trainer: micro_batch_size and accumulate_grad_batches both divide data.batch_size; set one of them"
            )
        if self.accumulate_grad_batches:
            if per_device % self.accumulate_grad_batches:
                raise ConfigError(
                    f"trainer.accumulate_grad_batches: {self.accumulate_grad_batches} does not divide data.batch_size "
                    f"{batch_size}{suffix}"
                )
            return self.accumulate_grad_batches
        micro = self.micro_batch_size if isinstance(self.micro_batch_size, int) else per_device
        if per_device % micro:
            raise ConfigError(f"trainer.micro_batch_size: {micro} does not divide data.batch_size {batch_size}{suffix}")
        return per_device // micro


def is_count(value: Any, minimum: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def is_duration(value: Any) -> bool:
    """Returns whether Lightning's timer accepts a value: DD:HH:MM:SS, or the arguments of `timedelta`."""
    if isinstance(value, str):
        return re.fullmatch(r"\d+:\d\d:\d\d:\d\d", value) is not None
    try:
        timedelta(**value)
    except TypeError:
        return False
    return True


def check_attention(attention: str) -> None:
    """Raises ConfigError if the package of an attention implementation is not installed."""
    if attention != FLASH_ATTENTION:
        return
    from transformers.utils.import_utils import is_flash_attn_2_available

    if not is_flash_attn_2_available() and find_spec("kernels") is None:
        raise ConfigError(
            f"trainer.attention={FLASH_ATTENTION} needs a GPU and the package flash-attn or kernels; set attention=sdpa"
        )
