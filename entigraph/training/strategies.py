"""Lightning strategies with exact checkpoints, FSDP2 sharding, activation checkpointing and compiled layers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy, SingleDeviceStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from entigraph.storage.artifact import read_json
from entigraph.training.adapters import base_name, initial_weight, is_adapter_weight
from entigraph.training.checkpointing import ShardedCheckpoints
from entigraph.training.loss import TokenLosses
from entigraph.training.optim.split_bf16_adamw import SplitBF16AdamW

INDEX = "model.safetensors.index.json"
PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)


class ExactSingleDeviceStrategy(ShardedCheckpoints, SingleDeviceStrategy):
    """Single-device training with exact checkpoints. `compiles_optimizer`: if it is a `SplitBF16AdamW`."""

    compiles_optimizer = False

    def setup_optimizers(self, trainer: Trainer) -> None:
        super().setup_optimizers(trainer)
        for optimizer in self.optimizers:
            if self.compiles_optimizer and isinstance(optimizer, SplitBF16AdamW):
                optimizer.compile()

    def teardown(self) -> None:
        """Leaves weights and optimizer state on the device, for the export.

        Lightning moves both to the CPU: 16 bytes per parameter, more than the host memory of many machines for 8B.
        """
        assert self.accelerator is not None
        self.precision_plugin.teardown()
        self.accelerator.teardown()
        self.checkpoint_io.teardown()


class FSDP2Strategy(ShardedCheckpoints, ModelParallelStrategy):
    """FSDP2: every rank holds a shard of each weight and of the optimizer state.

    With `hybrid`, the ranks of a node share the weights, and every node has a copy (HSDP). With `cpu_offload`, shards
    and optimizer state are in the memory of the CPU.
    """

    timeout: timedelta

    def __init__(self, backend: str, timeout_s: float, hybrid: bool = False, cpu_offload: bool = False) -> None:
        super().__init__(process_group_backend=backend, timeout=timedelta(seconds=timeout_s))
        self.timeout, self.hybrid, self.cpu_offload = timedelta(seconds=timeout_s), hybrid, cpu_offload

    def _configure_launcher(self) -> None:
        """Starts no processes: those of other ranks are running already."""

    def setup_environment(self) -> None:
        """Starts the process group and creates the device mesh, of one dimension unless it is hybrid.

        Lightning's mesh has a second dimension for tensor parallelism; splitting a group with a mixed gloo and NCCL
        backend for it is known to crash.
        """
        if self.world_size == 1:
            store = dist.HashStore()  # type: ignore[attr-defined]
            dist.init_process_group(self.process_group_backend, store=store, rank=0, world_size=1)
        super(ModelParallelStrategy, self).setup_environment()
        self._setup_distributed()
        device = self.root_device.type
        if self.hybrid:
            self._device_mesh = hybrid_mesh(device, self.num_nodes, self.num_processes, self.timeout)
        else:
            self._device_mesh = init_device_mesh(device, (self.world_size,), mesh_dim_names=("shard",))
        assert self.lightning_module is not None
        self.lightning_module._device_mesh = self._device_mesh

    def model_to_device(self) -> None:
        if not self.cpu_offload:
            super().model_to_device()

    def on_exception(self, exception: BaseException) -> None:
        """Aborts the NCCL communicators of a failed rank, which would otherwise wait for the others forever.

        Lightning does so only for a backend that is named exactly "nccl".
        """
        failed = isinstance(exception, Exception)  # not an interrupted rank, which still meets the others in a barrier
        if failed and dist.is_initialized() and "nccl" in str(self.process_group_backend):
            dist.distributed_c10d._abort_process_group()
        super().on_exception(exception)


def transformer_layers(net: PreTrainedModel) -> Iterator[nn.Module]:
    """Yields the transformer layers, the units of checkpointing, compilation and sharding."""
    for module in net.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == net.config.num_hidden_layers:
            yield from module
            return


def hybrid_mesh(device: str, nodes: int, devices: int, timeout: timedelta) -> DeviceMesh:
    """Returns a mesh of nodes by devices: weights are sharded within a node and replicated across nodes.

    Its groups are not split from that of all ranks, which has a mixed gloo and NCCL backend.
    """
    ranks = torch.arange(nodes * devices).view(nodes, devices)
    across, _ = dist.new_subgroups_by_enumeration(ranks.T.tolist(), timeout=timeout)  # type: ignore[no-untyped-call]
    within, _ = dist.new_subgroups_by_enumeration(ranks.tolist(), timeout=timeout)  # type: ignore[no-untyped-call]
    return DeviceMesh.from_group([across, within], device, ranks, mesh_dim_names=("replicate", "shard"))


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """How FSDP2 shards a model over the ranks of a mesh.

    Shards are fp32; with `bf16`, weights are gathered and used in bf16 and gradients are reduced in fp32. A model on
    the meta device is loaded from `weights`, a folder of safetensors; each rank reads only its rows. `seed` determines
    the initial weights of an adapter. Without `reshard_after_forward`, gathered weights stay until the backward pass:
    less communication, and 2 bytes more per parameter in bf16.
    """

    bf16: bool
    weights: Path | None = None
    seed: int = 0
    reshard_after_forward: bool = True
    cpu_offload: bool = False

    def __call__(self, losses: TokenLosses, mesh: DeviceMesh) -> None:
        from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

        on_gpu = mesh.device_type != "cpu"
        options: dict[str, Any] = {
            "mesh": mesh,
            "mp_policy": MixedPrecisionPolicy(torch.bfloat16, torch.float32) if self.bf16 else MixedPrecisionPolicy(),
            "offload_policy": CPUOffloadPolicy(pin_memory=on_gpu) if self.cpu_offload else OffloadPolicy(),
            # None: True for the layers; embedding and head stay gathered, because the loss uses them last.
            "reshard_after_forward": None if self.reshard_after_forward else False,
        }
        for layer in transformer_layers(losses.net):
            fully_shard(layer, **options)
        fully_shard(losses, **options)
        if self.weights is not None:
            losses.net.to_empty(device=torch.device("cpu" if self.cpu_offload else mesh.device_type))
            losses.net.tie_weights()
            init_buffers(losses.net, torch.device(mesh.device_type))
            ranks = mesh["shard"]
            load_weights(losses.net, self.weights, ranks.get_local_rank(), ranks.size(), self.seed)


def init_buffers(net: PreTrainedModel, device: torch.device) -> None:
    """Initializes the non-persistent buffers, such as the frequencies of rotary embeddings, on a device."""
    for module in net.modules():
        if module._non_persistent_buffers_set:
            net._init_weights(module)  # type: ignore[no-untyped-call]
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))


def weight_files(folder: Path) -> dict[str, Path]:
    """Returns the file of each tensor, by name."""
    from safetensors import safe_open

    if (folder / INDEX).exists():
        files: Mapping[str, str] = read_json(folder / INDEX)["weight_map"]
        return {name: folder / file for name, file in files.items()}
    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        return dict.fromkeys(tensors.keys(), folder / "model.safetensors")


def has_all_weights(net: PreTrainedModel, folder: Path) -> bool:
    """Returns whether the files contain every weight under the parameter names, and the model saves no buffers.

    Other tensors in the files are ignored, as by `from_pretrained`.
    """
    parameters = {name for name, _ in net.named_parameters(remove_duplicate=False)}
    return {*net.state_dict()} <= parameters and {name for name, _ in net.named_parameters()} <= {*weight_files(folder)}


@torch.no_grad()
def load_weights(net: PreTrainedModel, folder: Path, rank: int, ranks: int, seed: int) -> None:
    from safetensors import safe_open

    files = weight_files(folder)
    with ExitStack() as stack:
        readers: dict[Path, Any] = {}
        for name, parameter in net.named_parameters():
            if is_adapter_weight(name):
                tensor = initial_weight(name, parameter, seed)
            else:
                file = files[base_name(name)]
                if file not in readers:
                    readers[file] = stack.enter_context(safe_open(file, framework="pt"))
                tensor = readers[file].get_slice(base_name(name))
            rows = -(-parameter.shape[0] // ranks)
            local = cast(DTensor, parameter).to_local()
            local.copy_(tensor[rank * rows : rank * rows + local.shape[0]])


def checkpoint_activations(net: PreTrainedModel, mode: str, adapter_rank: int = 0) -> None:
    """Applies activation checkpointing to each layer: recomputes all activations (full), or half (selective)."""
    from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

    contexts: dict[str, Any] = {}
    if mode == "selective":
        contexts["context_fn"] = lambda: create_selective_checkpoint_contexts(SaveHalfPolicy(adapter_rank))  # type: ignore[no-untyped-call]
    for layer in transformer_layers(net):
        layer.forward = with_checkpoint(checkpoint, layer.forward, contexts)


class SaveHalfPolicy:
    """Selective checkpointing policy: saves attention and every second matrix product, half of the activations.

    The two products of an adapter of `adapter_rank` next to each product are recomputed: only their sum is needed.
    """

    def __init__(self, adapter_rank: int = 0) -> None:
        self.adapter_rank = adapter_rank
        self.attention = attention_kernels()
        self.products = {False: 0, True: 0}

    def __call__(self, context: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
        from torch.utils.checkpoint import CheckpointPolicy

        keep = operation in self.attention
        if operation in PRODUCTS and (not self.adapter_rank or min(args[-1].shape) > self.adapter_rank):
            self.products[context.is_recompute] += 1
            keep = self.products[context.is_recompute] % 2 == 1
        return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE


def with_checkpoint(checkpoint: Callable[..., Any], forward: Callable[..., Any], contexts: dict[str, Any]) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **contexts, **kwargs)

    return run


def attention_kernels() -> list[Any]:
    names = ("flash", "efficient", "cudnn", "flash_attention_for_cpu")
    kernels = [getattr(torch.ops.aten, f"_scaled_dot_product_{name}", None) for name in names]
    kernels += [getattr(torch.ops.aten, f"_scaled_dot_product_{name}_attention", None) for name in names]
    return [kernel.default for kernel in kernels if kernel is not None]


def prepare_layers(
    net: PreTrainedModel, activation_checkpointing: str, compilation: str, adapter_rank: int = 0
) -> None:
    """Applies activation checkpointing and compilation to each layer. `adapter_rank` is 0 without an adapter."""
    if activation_checkpointing != "none":
        checkpoint_activations(net, activation_checkpointing, adapter_rank)
    if compilation == "blocks":
        torch._dynamo.reset()  # an earlier training of other sizes would make them dynamic, and slow
        for layer in transformer_layers(net):
            layer.compile()


def gather_weights(net: PreTrainedModel) -> dict[str, Tensor]:
    """Returns the full trained weights on the CPU of rank 0, and none on other ranks. All ranks must call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    return cast(dict[str, Tensor], get_model_state_dict(net, options=options))
