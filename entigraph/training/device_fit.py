"""Chooses trainer settings that are "auto": the least activation checkpointing and largest micro-batch that fit.

Importing this module does not import torch. The plan and the training stage choose with the same function.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from entigraph.training.adapters import LoraAdapter, QloraAdapter
from entigraph.training.data_schedule import DataConfig
from entigraph.training.memory import (
    GIB,
    MARGIN,
    Device,
    Shape,
    Workload,
    available_memory,
    estimate_memory,
    offloaded_bytes,
    plan_workload,
)
from entigraph.training.optim import ADAMW_MOMENTS, adamw_8bit, moment_bytes
from entigraph.training.trainer import AUTO, AUTO_SETTINGS, TrainerSettings

# From the fastest to the slowest. Checkpointing costs more than small micro-batches, and those more than fp32 sums.
CHECKPOINTING = ("none", "selective", "full")
GRADIENT_DTYPES = ("float32", "bfloat16")
DEVICES = (2, 4, 8)


@dataclass(frozen=True)
class TrainingTarget:
    """What is trained and where: everything that determines which settings fit."""

    data: DataConfig
    shape: Shape | None
    device: Device
    adapter: LoraAdapter | None = None
    moment_bytes: float = ADAMW_MOMENTS

    def workload(self, trainer: TrainerSettings) -> Workload:
        """Returns what settings without "auto" make each device do."""
        return plan_workload(self.data, trainer, self.device, self.adapter, self.moment_bytes)

    def needed(self, trainer: TrainerSettings) -> float:
        """Returns the estimated peak bytes per device of settings without "auto"."""
        assert self.shape is not None
        return sum(estimate_memory(self.shape, self.workload(trainer)).values())

    def fits(self, trainer: TrainerSettings) -> bool:
        """Returns whether the memory of the device, and with offloading that of the machine, is enough."""
        enough = self.needed(trainer) <= available_memory(self.device, trainer.world_size)
        return enough and not self.offload_problem(trainer)

    def offload_problem(self, trainer: TrainerSettings) -> str:
        """Returns why this machine's memory does not hold what is offloaded; empty if it does.

        The settings that can be "auto" do not change what is offloaded.
        """
        assert self.shape is not None
        offloaded = offloaded_bytes(self.shape, self.workload(trainer)) * trainer.devices
        room = self.device.cpu_memory * (1 - MARGIN)
        if offloaded <= room:
            return ""
        return (
            f"trainer.cpu_offload needs {offloaded / GIB:,.1f} GiB of CPU memory, and this machine has "
            f"{room / GIB:,.1f}"
        )


@dataclass(frozen=True)
class ChosenSettings:
    """Trainer settings without "auto". `values` are the chosen ones and `reason` explains them; empty if none was."""

    trainer: TrainerSettings
    values: Mapping[str, Any]
    reason: str
    fits: bool


def choose_settings(trainer: TrainerSettings, target: TrainingTarget) -> ChosenSettings:
    """Returns the fastest settings that fit, or if none does those that need the least memory."""
    names = trainer.automatic
    if not names:
        return ChosenSettings(trainer, {}, "", fits=True)
    if target.shape is None:
        values: dict[str, Any] = {
            "micro_batch_size": 1,
            "activation_checkpointing": "selective",
            "gradient_dtype": "float32",
        }
        values["compile"] = "none" if target.device.shared else "blocks"
        chosen = replace(trainer, **{name: values[name] for name in names})
        return ChosenSettings(chosen, pick(chosen, names), "the model's size is unknown", fits=True)
    options = list(all_settings(trainer, target))
    rank = next((rank for rank, option in enumerate(options) if target.fits(option)), None)
    chosen = min(options, key=target.needed) if rank is None else options[rank]
    available = available_memory(target.device, trainer.world_size)
    room = f"{available / GIB:,.1f} GiB of {target.device.name}"
    if rank is None:
        reason = target.offload_problem(chosen) or f"the least memory, but it does not fit {room}"
    elif rank == 0:
        reason = f"the fastest; it fits {room}"
    else:
        faster = options[rank - 1]
        reason = (
            f"the fastest that fits {room}; {describe(pick(faster, differing(chosen, faster)))} would need "
            f"{target.needed(faster) / GIB:,.1f}"
        )
    return ChosenSettings(chosen, pick(chosen, names), reason, fits=rank is not None)


def all_settings(trainer: TrainerSettings, target: TrainingTarget) -> Iterator[TrainerSettings]:
    """Yields every combination of the settings that are "auto", from the fastest to the slowest."""
    per_device = target.data.batch_size // trainer.world_size
    micro_batches = [size for size in range(per_device, 0, -1) if per_device % size == 0]
    choices: dict[str, list[Any]] = {
        "compile": ["none" if target.device.shared else "blocks"],
        "activation_checkpointing": list(CHECKPOINTING),
        "micro_batch_size": micro_batches if trainer.accumulate_grad_batches is None else [None],
        "gradient_dtype": list(GRADIENT_DTYPES),
    }
    if trainer.cpu_offload and not target.device.shared:  # every micro-batch moves all weights to the GPU
        choices = {"micro_batch_size": choices["micro_batch_size"], **choices}
    open_choices = {name: values for name, values in choices.items() if getattr(trainer, name) == AUTO}
    for combination in product(*open_choices.values()):
        yield replace(trainer, **dict(zip(open_choices, combination, strict=True)))


def differing(one: TrainerSettings, other: TrainerSettings) -> list[str]:
    return [name for name in AUTO_SETTINGS if getattr(one, name) != getattr(other, name)]


def pick(trainer: TrainerSettings, names: list[str]) -> dict[str, Any]:
    return {name: getattr(trainer, name) for name in names}


def describe(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={'null' if value is None else value}" for name, value in values.items())


def alternatives(trainer: TrainerSettings, target: TrainingTarget) -> list[str]:
    """Returns what would fit where no setting does: 8-bit moments, CPU memory, an adapter, or more devices."""
    open_settings: dict[str, Any] = dict.fromkeys(AUTO_SETTINGS, AUTO)
    automatic = replace(trainer, **open_settings, accumulate_grad_batches=None)
    options = []
    if target.adapter is None and not trainer.is_sharded and not target.device.shared:
        options += fitting_optimizer(automatic, target) or fitting_offload(automatic, target)
        options += fitting_adapter(automatic, target)
    if not target.device.shared and not (target.adapter and target.adapter.quantized):
        options += fitting_devices(automatic, target)
    if target.offload_problem(trainer):
        options.append("a machine with more memory")
    return options


def fitting_devices(automatic: TrainerSettings, target: TrainingTarget) -> list[str]:
    other, optimizer = with_sharded_optimizer(target)
    one_node: dict[str, Any] = {"num_nodes": 1, "sharding": "full", "cpu_offload": False}
    changes = "".join(
        f" trainer.{name}={str(value).lower()}" for name, value in one_node.items() if getattr(automatic, name) != value
    )
    for devices in DEVICES:
        if devices <= automatic.world_size or target.data.batch_size % devices:
            continue
        sharded = replace(automatic, **one_node, devices=devices, precision="bf16-mixed")
        chosen = choose_settings(sharded, other)
        if chosen.fits:
            needed = other.needed(chosen.trainer) / GIB
            return [f"{optimizer}trainer=fsdp trainer.devices={devices}{changes} ({needed:,.1f} GiB on each)"]
    return []


def with_sharded_optimizer(target: TrainingTarget) -> tuple[TrainingTarget, str]:
    """Returns the target with AdamW, whose moments can be sharded, and the option that sets it if another is set."""
    optimizer = "" if target.moment_bytes == ADAMW_MOMENTS else "optim=adamw "
    return replace(target, moment_bytes=ADAMW_MOMENTS), optimizer


def fitting_optimizer(automatic: TrainerSettings, target: TrainingTarget) -> list[str]:
    if target.moment_bytes == moment_bytes(adamw_8bit):
        return []
    other = replace(target, moment_bytes=moment_bytes(adamw_8bit))
    chosen = choose_settings(automatic, other)
    return [f"optim=adamw_8bit ({other.needed(chosen.trainer) / GIB:,.1f} GiB)"] if chosen.fits else []


def fitting_offload(automatic: TrainerSettings, target: TrainingTarget) -> list[str]:
    other, optimizer = with_sharded_optimizer(target)
    chosen = choose_settings(replace(automatic, precision="bf16-mixed", cpu_offload=True), other)
    if not chosen.fits or other.shape is None:
        return []
    sizes = other.needed(chosen.trainer), offloaded_bytes(other.shape, other.workload(chosen.trainer))
    gpu, cpu = (f"{size / GIB:,.1f} GiB" for size in sizes)
    option = f"{optimizer}trainer=fsdp trainer.devices=1 trainer.cpu_offload=true"
    return [f"{option} ({gpu}, and {cpu} of CPU memory)"]


def fitting_adapter(automatic: TrainerSettings, target: TrainingTarget) -> list[str]:
    if automatic.float8 != "none":  # adapters are trained on layers in bf16
        return []
    for option, adapter in (("lora", LoraAdapter()), ("qlora", QloraAdapter())):
        other = replace(target, adapter=adapter)
        chosen = choose_settings(automatic, other)
        if chosen.fits:
            return [f"model/adapter={option} ({other.needed(chosen.trainer) / GIB:,.1f} GiB)"]
    return []
