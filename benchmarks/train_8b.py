"""Measures tokens/s, MFU and peak memory of Llama 3 8B with random weights on one GPU; used by gpu_check.py.

Reads generated shards with the loader, model, loss and optimizer of the training stage.
"""

import gc
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # name before torch 2.9

import numpy as np
import torch
from token_folders import write_tokens_folder

from entigraph.storage.token_shards import TokenStore
from entigraph.training import memory
from entigraph.training.callbacks.throughput import peak_flops, peak_memory
from entigraph.training.data_schedule import DataSchedule
from entigraph.training.datamodule import BatchLoader
from entigraph.training.loss import TokenLosses
from entigraph.training.module import clip_norm
from entigraph.training.optim import parameter_groups
from entigraph.training.optim.split_bf16_adamw import SplitBF16AdamW, split_weights
from entigraph.training.strategies import prepare_layers

LLAMA_3_8B = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14_336,
    "max_position_embeddings": 8192,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": False,
}
CONTEXT, BATCH = 2048, 16
WARM = 2


def expected(micro: int, recompute: str, compiled: str, gradient_dtype: str) -> dict[str, Any]:
    shape = memory.read_shape(LLAMA_3_8B)
    assert shape
    workload = memory.Workload(
        context=CONTEXT,
        micro_batch=micro,
        accumulates=micro < BATCH,
        devices=1,
        split_bf16=True,
        bf16=True,
        gradient_dtype=gradient_dtype,
        recompute=recompute,
        compiled=compiled == "blocks",
    )
    need = sum(memory.estimate_memory(shape, workload).values())
    return {
        "micro_batch": micro,
        "recompute": recompute,
        "compile": compiled,
        "gradient_dtype": gradient_dtype,
        "expected_gib": need / memory.GIB,
        "expected_tokens_per_second": 1 / memory.estimate_seconds(shape, workload, 1.0, memory.PEAKS["H200"]),
        "fits": need < available_memory(),
    }


def available_memory() -> float:
    total = torch.cuda.mem_get_info()[1] if torch.cuda.is_available() else memory.REFERENCE_MEMORY
    return float(total * (1 - memory.MARGIN / 2))  # close to the limit: a setting that runs out of memory is reported


def measure(
    row: dict[str, Any], shape: dict[str, Any], context: int, batch_size: int, steps: int, device: torch.device
) -> dict[str, Any]:
    gc.collect()  # the optimizer's hooks and the model reference each other
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        return {**row, **run(row, shape, context, batch_size, steps, device)}
    except torch.OutOfMemoryError as error:
        return {**row, "failed": str(error).splitlines()[0]}


def run(
    row: dict[str, Any], shape: dict[str, Any], context: int, batch_size: int, steps: int, device: torch.device
) -> dict[str, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)  # random weights lose nothing by it
    with device:
        net = LlamaForCausalLM(LlamaConfig(**shape, bos_token_id=None, eos_token_id=None)).train()
    torch.set_default_dtype(torch.float32)
    for module in net.modules():  # rotary embeddings in fp32, as in a loaded model
        if module._non_persistent_buffers_set:
            module.__init__(net.config)
            module.to(device)
    prepare_layers(net, row["recompute"], row["compile"])
    optimizer = SplitBF16AdamW(
        parameter_groups(net.parameters()),
        lr=5e-6,
        low_halves=split_weights(net),
        fp32_gradients=row["gradient_dtype"] == "float32",
    )
    if row["compile"] == "blocks":
        optimizer.compile()
    losses = TokenLosses(net)
    accumulation = batch_size // row["micro_batch"]
    with tempfile.TemporaryDirectory() as folder:
        store = shards(Path(folder), shape["vocab_size"], (steps + WARM) * batch_size * context)
        loader = iter(build_loader(store, context, batch_size, steps + WARM, row["micro_batch"], shape["vocab_size"]))
        for step in range(steps + WARM):
            if step == WARM:
                synchronize(device)
                started = time.perf_counter()
            for _ in range(accumulation):
                batch = {name: value.to(device, non_blocking=True) for name, value in next(loader).items()}
                loss = losses(batch["input_ids"], batch["labels"]).mean() / accumulation
                loss.backward()
            norm = clip_norm(optimizer.gradients(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        synchronize(device)
        seconds = time.perf_counter() - started
    speed = steps * batch_size * context / seconds
    flops, peak = memory.flops_per_token(shape, context), peak_flops(device, torch.bfloat16)
    return {
        "tokens_per_second": speed,
        "mfu": speed * flops / peak if flops and peak else None,
        "peak_gib": peak_memory(device) / memory.GIB,
        "loss": loss.item() * accumulation,
        "grad_norm": norm.item(),
    }


def shards(folder: Path, vocabulary: int, tokens: int) -> TokenStore:
    rng = np.random.default_rng(0)
    return write_tokens_folder(folder, [rng.zipf(1.2, 4000).clip(0, vocabulary - 1) for _ in range(tokens // 4000 + 2)])


def build_loader(
    store: TokenStore, context: int, batch_size: int, steps: int, micro: int, vocabulary: int
) -> BatchLoader:
    plan = DataSchedule(
        synthetic_tokens=len(store),
        replay_tokens=0,
        context_length=context,
        batch_size=batch_size,
        epochs=1,
        replay_rate=0.0,
        seed=0,
        max_steps=steps,
    )
    return BatchLoader(plan, {0: store}, micro, vocabulary=vocabulary)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
