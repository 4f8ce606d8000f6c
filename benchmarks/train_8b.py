"""Measures tokens/s, MFU and peak memory of Llama 3 8B with random weights on one GPU, for the settings that fit.

python benchmarks/train_8b.py [--json FILE] [--steps 6] [--row N ...]

Reads generated shards with the loader, model, loss and optimizer of the training stage. Prints and saves each row when
it is measured, which takes one to two minutes. Needs a GPU with about 140 GB and no network. Without a GPU, it prints
the expected values and runs the same code with a small model.
"""

import argparse
import gc
import json
import os
import sys
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
SMALL = {
    **LLAMA_3_8B,
    "vocab_size": 2048,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "intermediate_size": 448,
}
CONTEXT, BATCH = 2048, 16
WARM = 2
# micro-batch size, activation checkpointing, compiled blocks, dtype of the accumulated gradients
SETTINGS = (
    (2, "none", "blocks", "bfloat16"),
    (1, "none", "blocks", "bfloat16"),
    (1, "selective", "blocks", "float32"),
    (2, "selective", "blocks", "float32"),
    (4, "full", "blocks", "float32"),
    (8, "full", "blocks", "bfloat16"),
    (1, "selective", "none", "float32"),
)
HEADER = "micro  recompute  compile  sums in    expected GiB  tokens/s |  measured GiB  tokens/s    MFU"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=6)
    arguments.add_argument("--row", type=int, nargs="*", choices=range(1, len(SETTINGS) + 1), help="default: all")
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    if not gpu:
        torch.set_num_threads(1)
        print("no GPU: expected values for one H200, then the same code with a small model\n")
    about = {
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "torch": torch.__version__,
        "command": " ".join(sys.argv),
    }
    rows: list[dict[str, Any]] = []
    print(HEADER)
    for setting in [SETTINGS[number - 1] for number in options.row] if options.row else SETTINGS:
        row = expected(*setting)
        if gpu and row["fits"]:
            row = measure(row, LLAMA_3_8B, CONTEXT, BATCH, options.steps, device)
        print(table_line(row), flush=True)
        rows.append(row)
        if options.json:
            options.json.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")
    if not gpu:
        small = {**rows[-1], "compile": "none", "shape": "small"}  # compilation takes longer than the steps
        print(table_line(measure(small, SMALL, 64, 4, 3, device)))
    accumulation_cost(device)


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


def table_line(row: dict[str, Any]) -> str:
    line = f"{row['micro_batch']:>5}  {row['recompute']:9}  {row['compile']:7}  {row['gradient_dtype']:9}"
    line += f"  {row['expected_gib']:>12.1f}  {row['expected_tokens_per_second']:>8,.0f} |"
    if row.get("failed"):
        return f"{line}  {row['failed']}"
    if "tokens_per_second" in row:
        mfu = f"{row['mfu']:.1%}" if row["mfu"] else "-"
        line += f"  {row['peak_gib']:>12.1f}  {row['tokens_per_second']:>8,.0f}  {mfu:>5}"
        return line + ("   (small model)" if row.get("shape") == "small" else "")
    return line if row["fits"] else f"{line}  does not fit one H200"


def accumulation_cost(device: torch.device) -> None:
    """Prints the error of accumulating micro-batch gradients in bf16, for random gradients with a common part."""
    torch.manual_seed(0)
    common = torch.randn(1_000_000, device=device) * 0.1
    for count in (2, 4, 8, 16):
        parts = [(common + torch.randn_like(common)).bfloat16() for _ in range(count)]
        exact = torch.stack(parts).double().sum(0)
        narrow = parts[0].clone()
        for part in parts[1:]:
            narrow += part
        wide = torch.stack(parts).float().sum(0)
        errors = [float((total.double() - exact).norm() / exact.norm()) for total in (narrow, wide)]
        print(f"{count:>3} micro-batches: relative error of their sum {errors[0]:.1e} in bf16, {errors[1]:.1e} in fp32")


if __name__ == "__main__":
    main()
