"""A model over several devices: FSDP2 on each block, weights read from safetensors straight into the shares."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from entigraph.training.loss import TokenLosses

INDEX = "model.safetensors.index.json"


def blocks(net: PreTrainedModel) -> Iterator[nn.Module]:
    """The transformer's layers: what is recomputed, compiled and gathered one at a time."""
    for module in net.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == net.config.num_hidden_layers:
            yield from module
            return


def shard(losses: TokenLosses, mesh: Any, *, bf16: bool, weights: Path | None) -> None:
    """Split every weight over the ranks of the mesh.

    fp32 shares; with `bf16`, gathered and computed with in bf16, and gradients reduced in fp32. A model on the meta
    device is filled from `weights`, a folder of safetensors, of which each rank reads its own rows.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bf16 else MixedPrecisionPolicy()
    over = mesh["data_parallel"]
    for block in blocks(losses.net):
        fully_shard(block, mesh=over, mp_policy=policy)
    fully_shard(losses, mesh=over, mp_policy=policy)
    if weights is not None:
        losses.net.to_empty(device=torch.device(over.device_type))
        losses.net.tie_weights()
        fill_buffers(losses.net)
        fill(losses.net, weights, over.get_local_rank(), over.size())


def fill_buffers(net: PreTrainedModel) -> None:
    """What no file holds, the angles of rotary embeddings: made by the model's own rule."""
    for module in net.modules():
        if module._non_persistent_buffers_set:
            net._init_weights(module)  # type: ignore[no-untyped-call]


def files_of(folder: Path) -> dict[str, Path]:
    """Each tensor's name and its file."""
    from safetensors import safe_open

    if (folder / INDEX).exists():
        named: Mapping[str, str] = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        return {name: folder / file for name, file in named.items()}
    with safe_open(folder / "model.safetensors", framework="pt") as opened:
        return dict.fromkeys(opened.keys(), folder / "model.safetensors")


def can_fill(net: PreTrainedModel, folder: Path) -> bool:
    """Whether the files hold every weight under the model's own names."""
    return {name for name, _ in net.named_parameters()} <= {*files_of(folder)}


@torch.no_grad()
def fill(net: PreTrainedModel, folder: Path, rank: int, ranks: int) -> None:
    from safetensors import safe_open

    files = files_of(folder)
    with ExitStack() as stack:
        opened: dict[Path, Any] = {}
        for name, parameter in net.named_parameters():
            file = files[name]
            if file not in opened:
                opened[file] = stack.enter_context(safe_open(file, framework="pt"))
            found = opened[file].get_slice(name)
            rows = -(-parameter.shape[0] // ranks)
            local = cast(DTensor, parameter).to_local()
            local.copy_(found[rank * rows : rank * rows + local.shape[0]])


def recompute(net: PreTrainedModel, how: str) -> None:
    """Forget activations of each block and compute them again in the backward pass: full, or selective."""
    from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

    contexts: dict[str, Any] = {}
    if how == "selective":
        contexts["context_fn"] = lambda: create_selective_checkpoint_contexts(KeepHalf())  # type: ignore[no-untyped-call]
    for block in blocks(net):
        block.forward = recomputed(checkpoint, block.forward, contexts)


class KeepHalf:
    """Keeps attention and every second matrix product: half the products' memory for less than half their time."""

    def __init__(self) -> None:
        self.attention = attention_kernels()
        self.products = {False: 0, True: 0}

    def __call__(self, context: Any, operation: Any, *inputs: Any, **named: Any) -> Any:
        from torch.utils.checkpoint import CheckpointPolicy

        keep = operation in self.attention
        if operation in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.products[context.is_recompute] += 1
            keep = self.products[context.is_recompute] % 2 == 1
        return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE


def recomputed(checkpoint: Callable[..., Any], forward: Callable[..., Any], contexts: dict[str, Any]) -> Any:
    def run(*inputs: Any, **named: Any) -> Any:
        return checkpoint(forward, *inputs, use_reentrant=False, **contexts, **named)

    return run


def attention_kernels() -> list[Any]:
    names = ("flash", "efficient", "cudnn", "flash_attention_for_cpu")
    found = [getattr(torch.ops.aten, f"_scaled_dot_product_{name}", None) for name in names]
    found += [getattr(torch.ops.aten, f"_scaled_dot_product_{name}_attention", None) for name in names]
    return [kernel.default for kernel in found if kernel is not None]


def prepare_blocks(net: PreTrainedModel, recomputation: str, compilation: str) -> None:
    if recomputation != "none":
        recompute(net, recomputation)
    if compilation == "blocks":
        for block in blocks(net):
            block.compile()


def gathered(net: PreTrainedModel) -> dict[str, Tensor]:
    """The whole weights on the CPU of rank 0; empty elsewhere. A collective call."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return cast(dict[str, Tensor], get_model_state_dict(net, options=options))
