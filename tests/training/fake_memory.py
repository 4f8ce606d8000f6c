"""The peak memory of a training step, measured on fake tensors: real code of the training stage, no weights."""

from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import LlamaConfig, LlamaForCausalLM

from entigraph.training import loss
from entigraph.training.loss import TokenLosses
from entigraph.training.memory import Workload
from entigraph.training.module import clip_norm
from entigraph.training.optim import adamw, parameter_groups
from entigraph.training.optim.split_bf16_adamw import SplitBF16AdamW, split_weights
from entigraph.training.strategies import prepare_layers


def measure_peak(values: dict[str, Any], workload: Workload) -> float:
    """Returns the peak bytes of two micro-batches and an optimizer step on one device, uncompiled.

    Without an adapter: MemTracker cannot track frozen weights.
    """
    settings = (loss.CHUNK_LOGITS, loss.GRADIENTS_IN_FORWARD)
    with ExitStack() as stack:
        for setting in settings:  # fake tensors are on the CPU
            stack.enter_context(patch.dict(setting, cpu=setting[workload.accelerator]))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        return peak_of_step(values, workload)


def peak_of_step(values: dict[str, Any], workload: Workload) -> float:
    net = LlamaForCausalLM(LlamaConfig(**values, bos_token_id=None, eos_token_id=None)).train()
    prepare_layers(net, workload.recompute, "none")
    options: dict[str, Any] = {}
    if workload.split_bf16:
        options = {
            "low_halves": split_weights(net),
            "fp32_gradients": workload.accumulates and workload.gradient_dtype == "float32",
        }
    optimizer = adamw(parameter_groups(net.parameters()), 1e-4, **options)
    losses = TokenLosses(net)
    tracker = MemTracker()
    tracker.track_external(losses, optimizer, *options.get("low_halves", {}).values())
    with tracker:
        for _ in range(2 if workload.accumulates else 1):
            tracker.reset_mod_stats()
            ids = torch.zeros(workload.micro_batch, workload.context, dtype=torch.long)
            with torch.autocast("cpu", torch.bfloat16, enabled=workload.bf16 and not workload.split_bf16):
                losses(ids, ids).mean().backward()
        if isinstance(optimizer, SplitBF16AdamW):
            clip_norm(optimizer.gradients(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return float(tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"])
