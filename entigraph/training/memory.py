"""What a run will need, before it starts: memory of each device and time, by arithmetic alone.

All sizes are bytes. A block of a Llama keeps 12 hidden + 4 key/value + 8 intermediate bytes a token for its backward
pass in bf16 (norms, queries, keys, values, attention, two residuals, gate, up, their product and its activation): 41
times the hidden size at Llama 3's proportions. Fragmentation and the libraries' own buffers come on top; `MARGIN`
stands for them.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from entigraph.training.data_schedule import DataConfig
from entigraph.training.trainer import TrainerSettings

GIB = 2**30
MARGIN = 0.06  # of a device's memory
KEPT = {"none": 1.0, "selective": 0.45}  # share of activations; full keeps each block's input, and one block
PASSES = {"none": 3.0, "selective": 3.5, "full": 4.0}  # forward passes' worth of work a step: backward counts two
LOGITS = {"cpu": 2**24, "cuda": 2**27}  # of one chunk of the loss, see loss.py
UTILIZATION = 0.5  # of the datasheet, without recomputation: the better part of what one GPU reaches
# Dense bf16 FLOP/s by datasheet, by what nvidia-smi calls the device.
PEAKS: Mapping[str, float] = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
LEAST_PARAMETERS = 1e8  # of smaller models the libraries' own time decides, which no arithmetic tells
REFERENCE, REFERENCE_MEMORY = "H200", 143_771.0 * 2**20


@dataclass(frozen=True)
class Shape:
    """A Llama-like model, by the names of its config.json."""

    hidden: int
    layers: int
    intermediate: int
    queries: int
    keys: int
    vocabulary: int
    tied: bool

    @property
    def block(self) -> int:
        return self.hidden * (2 * self.queries + 2 * self.keys + 3 * self.intermediate + 2)

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.block + self.embedding * (1 if self.tied else 2) + self.hidden

    @property
    def multiplied(self) -> int:
        """Weights that every token is multiplied with: all but the embedding, which is looked up."""
        return self.layers * self.block + self.embedding


def shape_of(values: Mapping[str, Any] | None) -> Shape | None:
    """None where config.json does not have a Llama's names."""
    try:
        assert values is not None
        heads, hidden = values["num_attention_heads"], values["hidden_size"]
        width = values.get("head_dim") or hidden // heads
        return Shape(
            hidden=hidden,
            layers=values["num_hidden_layers"],
            intermediate=values["intermediate_size"],
            queries=heads * width,
            keys=(values.get("num_key_value_heads") or heads) * width,
            vocabulary=values["vocab_size"],
            tied=bool(values.get("tie_word_embeddings", False)),
        )
    except (AssertionError, KeyError, TypeError):
        return None


def flops_per_token(values: Mapping[str, Any] | None, context: int) -> float | None:
    """Forward and backward, causal attention, recomputation not counted: 46.6 GFLOP for Llama 3 8B at 2,048."""
    shape = shape_of(values)
    return 6.0 * shape.multiplied + 6.0 * shape.layers * shape.queries * context if shape else None


@dataclass(frozen=True)
class Device:
    """`memory` in bytes, of one device; `peak` in FLOP/s where it is known. Several ranks share one CPU's memory."""

    name: str
    memory: float
    peak: float | None
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a shape is trained; `micro_batch` is the sequences a device holds at once."""

    context: int
    micro_batch: int
    accumulates: bool
    devices: int
    pairs: bool
    bf16: bool
    gradient_dtype: str = "float32"
    recompute: str = "none"
    accelerator: str = "cuda"


def setting_of(data: DataConfig, trainer: TrainerSettings, device: Device) -> Setting:
    """As training will choose on this device."""
    cuda = not device.shared
    pairs = trainer.precision == "bf16-true" or (trainer.precision == "auto" and cuda and trainer.ranks == 1)
    accumulation = trainer.accumulation(data.batch_size)
    return Setting(
        context=data.context_length,
        micro_batch=data.batch_size // trainer.ranks // accumulation,
        accumulates=accumulation > 1,
        devices=trainer.ranks,
        pairs=pairs,
        bf16=pairs or trainer.precision == "bf16-mixed" or (trainer.precision == "auto" and cuda),
        gradient_dtype=trainer.gradient_dtype,
        recompute=trainer.activation_checkpointing,
        accelerator="cuda" if cuda else "cpu",
    )


def seen_tokens(data: DataConfig, trainer: TrainerSettings, synthetic: int | None) -> float | None:
    """Of all sources over the run; None where nothing bounds it yet."""
    if trainer.max_steps:
        return float(trainer.max_steps * data.batch_size * data.context_length)
    beside = 1 if data.replay_mode == "replace" else 1 - data.replay_rate
    return synthetic * trainer.max_epochs / beside if synthetic else None


def memory(shape: Shape, setting: Setting) -> dict[str, float]:
    """Bytes on each device at the peak of a step, by what they are for."""
    own = shape.parameters / setting.devices
    wide = setting.gradient_dtype == "float32" and setting.accumulates
    gradient = 4 if not setting.pairs or wide else 2
    number = 2 if setting.bf16 else 4
    gathered = 0.0 if setting.devices == 1 else number * (2.0 * shape.block + 2 * shape.embedding) + 4 * shape.block
    cast = number * shape.parameters if setting.bf16 and not setting.pairs and setting.devices == 1 else 0.0
    return {
        "weights": own * 4,  # pairs are two halves of the same four bytes
        "gradients": own * gradient,
        "optimizer": own * 8 + (2**26 * 12 if setting.pairs else 0),
        "activations": activations(shape, setting) * number / 2,
        "loss": min(LOGITS[setting.accelerator], setting.micro_batch * setting.context * shape.vocabulary) * 10.0,
        "gathered": gathered + cast,
    }


def activations(shape: Shape, setting: Setting) -> float:
    tokens = setting.micro_batch * setting.context
    block = tokens * (12.0 * shape.hidden + 4 * shape.keys + 8 * shape.intermediate)
    if setting.recompute == "full":
        return tokens * 2.0 * shape.hidden * shape.layers + block
    return block * shape.layers * KEPT[setting.recompute]


def seconds(shape: Shape, setting: Setting, tokens: float, peak: float) -> float:
    work = 6.0 * shape.multiplied + 6.0 * shape.layers * shape.queries * setting.context
    return tokens * work * PASSES[setting.recompute] / 3 / (peak * UTILIZATION * setting.devices)


def find_device(accelerator: str) -> Device:
    """What the run would use here. Asks nvidia-smi, because a plan does not wait for torch."""
    if accelerator != "cpu":
        try:
            asked = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
            done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
            name, mebibytes = done.stdout.splitlines()[0].rsplit(",", 1)
            peak = next((peak for key, peak in PEAKS.items() if key in name), None)
            return Device(name.strip(), float(mebibytes) * 2**20, peak)
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            if accelerator == "cuda":
                return Device(f"{REFERENCE} (none is here)", REFERENCE_MEMORY, PEAKS[REFERENCE])
    return Device(
        "this machine's CPU", float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")), None, shared=True
    )


def told(shape: Shape, setting: Setting, tokens: float | None, device: Device) -> list[str]:
    """The estimate in words, and whether it fits."""
    parts = memory(shape, setting)
    need = sum(parts.values())
    several = f"on each of {setting.devices} devices" if setting.devices > 1 else "on one device"
    shown = ", ".join(f"{name} {size / GIB:,.1f}" for name, size in parts.items() if size >= 0.05 * GIB)
    lines = [
        f"training {size_of(shape.parameters)} parameters: about {need / GIB:,.1f} GiB {several}"
        + (f" ({shown})" if shown else "")
    ]
    room = device.memory * (1 - MARGIN) / (setting.devices if device.shared else 1)
    if need > room:
        lines.append(
            f"  it will not fit: {device.name} has room for {room / GIB:,.1f} GiB. Lower trainer.micro_batch_size "
            f"(now {setting.micro_batch}), set trainer.activation_checkpointing=full, or share it: trainer=fsdp "
            "trainer.devices=8"
        )
    name, peak = (device.name, device.peak) if device.peak else (REFERENCE, PEAKS[REFERENCE])
    if tokens and shape.parameters >= LEAST_PARAMETERS:
        hours = seconds(shape, setting, tokens, peak) / 3600
        lines.append(
            f"  {tokens:,.0f} tokens: about {hours:,.1f} h on {setting.devices} x {name}, at {UTILIZATION:.0%} of its "
            f"{peak / 1e12:,.0f} TFLOP/s"
        )
    return lines


def size_of(parameters: int) -> str:
    return f"{parameters / 1e9:,.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:,.1f}M"
