"""Estimates the memory per device and the duration of a training run analytically, before it starts.

All sizes are in bytes. `tests/training/test_memory.py` compares them with the peak of the real code on fake tensors.
`MARGIN` accounts for fragmentation and buffers of libraries.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf, log2
from typing import Any

from entigraph.runtime.devices import cpu_memory, nvidia_gpu, pick_accelerator
from entigraph.runtime.progress import format_seconds
from entigraph.training.adapters import LoraAdapter
from entigraph.training.data_schedule import DataConfig
from entigraph.training.optim import ADAMW_MOMENTS
from entigraph.training.trainer import TrainerSettings

GIB = 2**30
MARGIN = 0.06  # reserved fraction of a device's memory
FORWARD_PASSES = {"none": 3.0, "selective": 3.5, "full": 4.0}  # FLOPs per step in forward passes; a backward is two
QUANTIZED_BYTES = 0.516  # bytes per 4-bit weight with double quantization
LOSS_CHUNK_LOGITS = {"cpu": 2**26, "cuda": 2**27}  # logits per chunk of the loss, see loss.py
UTILIZATION = 0.5  # MFU, the fraction of the datasheet's FLOP/s: the best that one GPU reaches without recomputation
PCIE = 20e9  # bytes per second between CPU and GPU: what PCIe 4.0 with 16 lanes reaches from pinned memory
# Dense bf16 FLOP/s with fp32 accumulation, by NVIDIA's datasheets. Keys are whole words of the name that nvidia-smi
# prints; the first that matches counts, so that "H100 NVL" precedes "H100".
PEAKS: Mapping[str, float] = {
    "GB200": 2500e12,
    "B200": 2250e12,
    "GH200": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX 6000 Ada": 364e12,
    "RTX A6000": 155e12,
    "RTX 5090": 210e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
MIN_PARAMETERS = 1e8  # the time of smaller models is dominated by overhead, which is not estimated
REFERENCE, REFERENCE_MEMORY = "H200", 143_771.0 * 2**20


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama-like model. `queries` and `keys` are heads times head dimension."""

    hidden: int
    layers: int
    intermediate: int
    queries: int
    keys: int
    vocabulary: int
    tied: bool

    @property
    def linear_layers(self) -> Mapping[str, tuple[int, int]]:
        """Returns input and output size of the linear layers of a transformer layer."""
        return {
            "q_proj": (self.hidden, self.queries),
            "k_proj": (self.hidden, self.keys),
            "v_proj": (self.hidden, self.keys),
            "o_proj": (self.queries, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def layer_parameters(self) -> int:
        return self.hidden * (2 * self.queries + 2 * self.keys + 3 * self.intermediate + 2)

    @property
    def embedding_parameters(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer_parameters + self.embedding_parameters * (1 if self.tied else 2) + self.hidden

    @property
    def matmul_parameters(self) -> int:
        """Returns the number of weights in matrix products: all but the input embedding, which is a lookup."""
        return self.layers * self.layer_parameters + self.embedding_parameters


def read_shape(values: Mapping[str, Any] | None) -> Shape | None:
    """Returns the shape given by a config.json; None if its keys are not those of a Llama."""
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


def flops_per_token(values: Mapping[str, Any] | None, context: int, frozen: bool = False) -> float | None:
    """Returns the FLOPs of forward and backward per token, without recomputation: 46.6e9 for Llama 3 8B at 2,048.

    `frozen`: only an adapter is trained, so that the weights need no gradients.
    """
    shape = read_shape(values)
    if shape is None:
        return None
    return (4.0 if frozen else 6.0) * (shape.matmul_parameters + shape.layers * shape.queries * context)


@dataclass(frozen=True)
class Device:
    """`memory` is in bytes; `peak` in FLOP/s, None if unknown. `shared`: all ranks share the memory (a CPU).

    `cpu_memory` is the memory in bytes that this machine lets a process use, if the device was found on it.
    """

    name: str
    memory: float
    peak: float | None
    shared: bool = False
    cpu_memory: float = inf


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The settings that determine memory and time. `micro_batch` is the number of sequences per device.

    `shards` is the number of devices that share the weights: all, or with hybrid sharding those of a node.
    `moment_bytes` are those of the optimizer per trained parameter.
    """

    context: int
    micro_batch: int
    accumulates: bool
    devices: int
    split_bf16: bool
    bf16: bool
    gradient_dtype: str = "float32"
    recompute: str = "none"
    accelerator: str = "cuda"
    compiled: bool = False
    adapter: LoraAdapter | None = None
    shards: int = 1
    moment_bytes: float = ADAMW_MOMENTS
    reshard_after_forward: bool = True
    cpu_offload: bool = False

    @property
    def is_sharded(self) -> bool:
        return self.devices > 1 or self.cpu_offload

    @property
    def offloads(self) -> bool:
        """Returns whether the optimizer state is kept off the device; never on a CPU, which has a single memory."""
        return self.cpu_offload and self.accelerator == "cuda"

    @property
    def tokens(self) -> int:
        """Returns the tokens of a micro-batch."""
        return self.micro_batch * self.context


def plan_workload(
    data: DataConfig,
    trainer: TrainerSettings,
    device: Device,
    adapter: LoraAdapter | None = None,
    moment_bytes: float = ADAMW_MOMENTS,
) -> Workload:
    """Returns the settings that training will choose on this device. `trainer` has no "auto" settings left."""
    cuda = not device.shared
    split_bf16 = trainer.precision == "bf16-true" or (trainer.precision == "auto" and cuda and not trainer.is_sharded)
    accumulation = trainer.accumulation(data.batch_size)
    return Workload(
        context=data.context_length,
        micro_batch=data.batch_size // trainer.world_size // accumulation,
        accumulates=accumulation > 1,
        devices=trainer.world_size,
        split_bf16=split_bf16,
        bf16=split_bf16 or trainer.precision == "bf16-mixed" or (trainer.precision == "auto" and cuda),
        gradient_dtype=trainer.gradient_dtype,
        recompute=trainer.activation_checkpointing,
        accelerator="cuda" if cuda else "cpu",
        compiled=trainer.compile == "blocks",
        adapter=adapter,
        shards=trainer.devices if trainer.sharding == "hybrid" else trainer.world_size,
        moment_bytes=moment_bytes,
        reshard_after_forward=trainer.reshard_after_forward,
        cpu_offload=trainer.cpu_offload,
    )


def count_tokens_seen(data: DataConfig, trainer: TrainerSettings, synthetic: int | None) -> float | None:
    """Returns the number of training tokens of all sources; None if the number of synthetic tokens is unknown."""
    if trainer.max_steps:
        return float(trainer.max_steps * data.batch_size * data.context_length)
    share = 1 if data.replay_mode == "replace" else 1 - data.replay_rate
    return synthetic * trainer.max_epochs / share if synthetic else None


def estimate_memory(shape: Shape, workload: Workload) -> dict[str, float]:
    """Returns the peak bytes per device during a step, by purpose."""
    size = 2 if workload.bf16 else 4
    trained = trained_parameters(shape, workload.adapter) / workload.shards
    bf16_copy = size * trained if workload.bf16 and not workload.split_bf16 and not workload.is_sharded else 0.0
    held = state_bytes(shape, workload)
    if workload.offloads:
        held = dict.fromkeys(held, 0.0)
    return {
        **held,
        "activations": workload.tokens * shape.layers * stored_activations(shape, workload) * size / 2,
        # The loss precedes the backward pass, which recomputes one layer at a time.
        "temporary": max(loss_bytes(shape, workload, size), recomputed_bytes(shape, workload, size)),
        "gathered": gathered_bytes(shape, workload, size) + bf16_copy,
    }


def state_bytes(shape: Shape, workload: Workload) -> dict[str, float]:
    """Returns the bytes per device of weights, gradients and optimizer state."""
    trained = trained_parameters(shape, workload.adapter) / workload.shards
    fp32_gradients = workload.gradient_dtype == "float32" and workload.accumulates
    return {
        "weights": trained * 4 + frozen_bytes(shape, workload),  # split bf16 weights: two halves of the same four bytes
        "gradients": trained * (4 if not workload.split_bf16 or fp32_gradients else 2),
        "optimizer": trained * workload.moment_bytes,
    }


def offloaded_bytes(shape: Shape, workload: Workload) -> float:
    """Returns the bytes of CPU memory that the offloaded state of each GPU takes. Weights and gradients are pinned."""
    if not workload.offloads:
        return 0.0
    state = state_bytes(shape, workload)
    return pinned_ratio(shape, workload.shards) * (state["weights"] + state["gradients"]) + state["optimizer"]


def pinned_ratio(shape: Shape, shards: int) -> float:
    """Returns the size of pinned fp32 weights relative to their bytes: torch pins blocks of powers of two."""
    matrices = [rows * columns for rows, columns in shape.linear_layers.values()] * shape.layers
    matrices += [shape.embedding_parameters] * (1 if shape.tied else 2)
    sizes = [4 * size / shards for size in matrices if size]  # the vocabulary may be unknown
    return float(sum(2.0 ** ceil(log2(size)) for size in sizes) / sum(sizes))


def gathered_bytes(shape: Shape, workload: Workload, size: int) -> float:
    """Returns the size of the weights that FSDP gathers at a time, and of the gradients of a layer."""
    if not workload.is_sharded:
        return 0.0
    if not workload.reshard_after_forward:
        return size * (shape.parameters + shape.layer_parameters) + 4.0 * shape.layer_parameters
    return size * (2.0 * shape.layer_parameters + 2 * shape.embedding_parameters) + 4 * shape.layer_parameters


def loss_bytes(shape: Shape, workload: Workload, size: int) -> float:
    """Returns the size of a chunk of logits, and of the head's gradient before it is accumulated."""
    logits = min(LOSS_CHUNK_LOGITS[workload.accelerator], workload.tokens * shape.vocabulary)
    trains_head = workload.adapter is None or workload.adapter.train_head
    return logits * 10.0 + (size * shape.embedding_parameters if trains_head else 0)


def recomputed_bytes(shape: Shape, workload: Workload, size: int) -> float:
    if workload.recompute == "none":
        return 0.0
    return workload.tokens * layer_activations(shape, workload) * size / 2


def trained_parameters(shape: Shape, adapter: LoraAdapter | None) -> int:
    if adapter is None:
        return shape.parameters
    complete = adapter.train_embeddings + (adapter.train_head and not shape.tied)
    return (
        shape.layers * adapter.adapter_rank * sum(adapter_sizes(shape, adapter)) + complete * shape.embedding_parameters
    )


def adapter_sizes(shape: Shape, adapter: LoraAdapter) -> list[int]:
    """Returns input plus output size of each linear layer of a transformer layer that gets an adapter."""
    targets = adapter.target_modules
    return [
        sum(sizes)
        for name, sizes in shape.linear_layers.items()
        if targets is None or any(target.endswith(name) for target in targets)
    ]


def frozen_bytes(shape: Shape, workload: Workload) -> float:
    """Returns the size of the frozen weights on each device."""
    adapter = workload.adapter
    if adapter is None:
        return 0.0
    size = 2 if workload.split_bf16 else 4
    linear = shape.layers * sum(rows * columns for rows, columns in shape.linear_layers.values())
    linear_size = QUANTIZED_BYTES if adapter.quantized else size
    return (linear * linear_size + (shape.parameters - linear) * size) / workload.shards


def stored_activations(shape: Shape, workload: Workload) -> float:
    """Returns the bytes per token that the forward pass of a layer stores in bf16."""
    if workload.recompute == "full":
        return 2.0 * shape.hidden  # its input
    if workload.recompute == "selective":
        # Its input, the attention, and every second product: queries, values, gate and the output of the MLP.
        outputs = 4.0 * shape.queries + 2 * shape.keys + 2 * shape.intermediate
        return 2.0 * shape.hidden + outputs + (0 if workload.compiled else 2 * shape.hidden)
    return layer_activations(shape, workload)


def layer_activations(shape: Shape, workload: Workload) -> float:
    """Returns the bytes per token that the backward pass of a layer reads in bf16, without recomputation.

    Queries, keys, values and attention; gate, up and their product; in eager mode also the activation of the gate. Two
    norms read and write the hidden states, in eager mode also in fp32. An adapter's inner products are added.
    """
    attention = 4.0 * shape.queries + 4 * shape.keys
    mlp = (6.0 if workload.compiled else 8.0) * shape.intermediate
    norms = (8.0 if workload.compiled else 16.0) * shape.hidden
    adapter = workload.adapter
    return (
        attention + mlp + norms + (2.0 * adapter.adapter_rank * len(adapter_sizes(shape, adapter)) if adapter else 0.0)
    )


def estimate_seconds(shape: Shape, workload: Workload, tokens: float, peak: float) -> float:
    """Returns the duration of a training without the optimizer, whose steps are slow on a CPU (with offloading)."""
    work = 2.0 * shape.matmul_parameters + 2.0 * shape.layers * shape.queries * workload.context
    passes = FORWARD_PASSES[workload.recompute]
    if workload.adapter is not None:
        passes -= 1  # no gradients of the frozen weights
    seconds = tokens * work * passes / (peak * UTILIZATION * workload.devices)
    if workload.offloads:  # each micro-batch moves the weights to the GPU twice, and the gradients back
        moved = 4.0 * (2 * shape.parameters + trained_parameters(shape, workload.adapter)) / workload.shards
        seconds += tokens / (workload.tokens * workload.devices) * moved / PCIE
    return seconds


def datasheet_flops(name: str) -> float | None:
    """Returns the peak bf16 FLOP/s of a GPU by the name that nvidia-smi and torch print; None if unknown."""
    return next((peak for key, peak in PEAKS.items() if re.search(rf"\b{key}\b", name)), None)


def find_device(accelerator: str) -> Device:
    """Returns the device that a plan assumes. Calls nvidia-smi, because plans do not import torch."""
    if accelerator != "cpu":
        name, _, mebibytes = (nvidia_gpu() or "").rpartition(", ")
        if mebibytes.isdecimal():
            return gpu_device(name, float(mebibytes) * 2**20)
        if accelerator in ("cuda", "gpu"):
            return Device(f"{REFERENCE} (no GPU detected)", REFERENCE_MEMORY, PEAKS[REFERENCE])
    return cpu_device()


def find_torch_device(accelerator: str) -> Device:
    """Returns the device that training uses, which torch numbers and measures differently than nvidia-smi."""
    if pick_accelerator(accelerator) == "cpu":
        return cpu_device()
    import torch

    gpu = torch.cuda.get_device_properties(0)
    return gpu_device(gpu.name, float(gpu.total_memory))


def gpu_device(name: str, memory: float) -> Device:
    return Device(name, memory, datasheet_flops(name), cpu_memory=cpu_memory())


def cpu_device() -> Device:
    return Device("this machine's CPU", cpu_memory(), None, shared=True, cpu_memory=cpu_memory())


def available_memory(device: Device, devices: int) -> float:
    """Returns the bytes that each of the run's processes can use."""
    return device.memory * (1 - MARGIN) / (devices if device.shared else 1)


def summary_lines(
    shape: Shape, workload: Workload, tokens: float | None, device: Device, rate: float | None = None
) -> list[str]:
    """Returns the estimated memory and time as text, without the verdict whether the run fits.

    `rate` is the number of tokens per second that was measured on this machine's CPU.
    """
    parts = estimate_memory(shape, workload)
    total = sum(parts.values())
    where = f"on each of {workload.devices} devices" if workload.devices > 1 else "on one device"
    breakdown = ", ".join(f"{name} {size / GIB:,.1f}" for name, size in parts.items() if size >= 0.05 * GIB)
    what = f"{format_count(shape.parameters)} parameters"
    if workload.adapter is not None:
        what = f"an adapter of {format_count(trained_parameters(shape, workload.adapter))} for {what}"
    offloaded = offloaded_bytes(shape, workload)
    also = f", and {offloaded / GIB:,.1f} GiB of CPU memory" if offloaded else ""
    also += " for each" if offloaded and workload.devices > 1 else ""
    lines = [f"training {what}: about {total / GIB:,.1f} GiB {where}" + (f" ({breakdown})" if breakdown else "") + also]
    if tokens and (device.shared or shape.parameters >= MIN_PARAMETERS):
        lines.append(f"  {tokens:,.0f} tokens: {time_estimate(shape, workload, tokens, device, rate)}")
    return lines


def time_estimate(shape: Shape, workload: Workload, tokens: float, device: Device, rate: float | None) -> str:
    """Returns the duration as text; "unknown" on a CPU without a measured rate, whose speed no datasheet states."""
    if device.shared:
        if not rate:
            return "time unknown on this CPU; the first training measures it"
        return f"about {format_seconds(tokens / rate)} at the {rate:,.0f} tokens/s measured on this CPU"
    name, peak = (device.name, device.peak) if device.peak else (REFERENCE, PEAKS[REFERENCE])
    hours = estimate_seconds(shape, workload, tokens, peak) / 3600
    duration = f"about {hours:,.1f} h" if hours >= 0.1 else "under 0.1 h"
    return f"{duration} on {workload.devices} x {name}, at {UTILIZATION:.0%} of its {peak / 1e12:,.0f} TFLOP/s"


def format_count(parameters: int) -> str:
    return f"{parameters / 1e9:,.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:,.1f}M"
