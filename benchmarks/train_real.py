"""Compares training a model of real size on the CPU with a plain PyTorch loop: tokens/s and peak memory.

Each trains in a process of its own on the same tokens. Without `--model`, the model has the shape of Gemma 3 270M (a
vocabulary of 262,144) and random weights. `plain loop` is bf16 autocast over fp32 weights with whole logits.

python benchmarks/train_real.py [--model FOLDER] [--steps 3] [--threads 2] [--micro-batch 1]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from likelihood import GIB, build_model
from token_folders import write_tokens_folder

CONTEXT, BATCH, LR = 512, 4, 1e-4
STACKS = ("plain loop", "ours", "ours, LoRA rank 64")
Measured = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--steps", type=int, default=3, help="measured steps, after one that is not")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--micro-batch", type=int, default=BATCH, help=f"of ours; the plain loop has {BATCH}")
    parser.add_argument("--measure", choices=STACKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.model, options.steps, options.threads, options.micro_batch)))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or build_model(Path(folder))
        results = {name: run_child(name, model, options) for name in STACKS}
    plain = results["plain loop"]
    print(
        f"{options.steps} steps of {BATCH} x {CONTEXT} tokens, {options.threads} threads, "
        f"our micro-batch {options.micro_batch}"
    )
    print(f"{'':22}{'tokens/s':>10}{'peak GiB':>10}{'speed':>8}{'memory':>8}")
    for name, result in results.items():
        speed, memory = result["rate"] / plain["rate"], result["peak"] / plain["peak"]
        print(f"{name:22}{result['rate']:>10.1f}{result['peak'] / GIB:>10.2f}{speed:>8.2f}{memory:>8.2f}")


def run_child(name: str, model: Path, options: argparse.Namespace) -> Measured:
    numbers = ["--steps", options.steps, "--threads", options.threads, "--micro-batch", options.micro_batch]
    command = [sys.executable, __file__, "--measure", name, "--model", model, *numbers]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
    result: Measured = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(name: str, model: Path, steps: int, threads: int, micro_batch: int) -> Measured:
    """Returns the tokens per second of `steps` steps after the first, and the peak memory of this process in bytes."""
    times: list[float] = []

    def record(step: int) -> None:
        if step in (1, steps + 1):
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        write_tokens(Path(folder) / "tokens", steps + 1)
        if name == "plain loop":
            train_plainly(model, Path(folder) / "tokens", threads, record)
        else:
            train_with_stage(model, Path(folder), steps + 1, threads, micro_batch, name.endswith("64"), record)
    rate = steps * BATCH * CONTEXT / (times[1] - times[0])
    return {"rate": rate, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def write_tokens(folder: Path, steps: int) -> None:
    folder.mkdir()
    ids = np.random.default_rng(0).zipf(1.2, steps * BATCH * CONTEXT + 1).clip(3, 100_000)
    write_tokens_folder(folder, [ids.tolist()])


def train_with_stage(
    model: Path, folder: Path, steps: int, threads: int, micro_batch: int, lora: bool, record: Callable[[int], None]
) -> None:
    import entigraph
    from entigraph.tokenization.builders import PretrainedTokenizer
    from entigraph.training import stage
    from entigraph.training.component_nodes import resolved_nodes

    for name in ("tokenizer", "training"):
        (folder / name).mkdir()
    PretrainedTokenizer(path=str(model)).build(folder / "tokenizer")
    changes = ["model=pretrained", f"model.path={model}", f"trainer.max_steps={steps}", f"trainer.threads={threads}"]
    changes += ["trainer.accelerator=cpu", "logger=none", f"optim.lr={LR}", "trainer.save_dtype=bfloat16"]
    changes += [f"data.context_length={CONTEXT}", f"data.batch_size={BATCH}", f"trainer.micro_batch_size={micro_batch}"]
    changes += ["trainer.checkpoint_every_n_steps=1000000", "trainer.log_every_n_steps=1"]
    changes += ["model/adapter=lora"] if lora else []
    recorded: list[Any] = []

    def record_values(values: dict[str, float]) -> None:
        recorded.append(values)
        record(int(values["step"]))

    stage.run(
        folder / "tokens",
        folder / "tokenizer",
        None,
        folder / "training",
        nodes=resolved_nodes(entigraph.compose(changes)),
        vocabulary=json.loads((model / "config.json").read_text())["vocab_size"],
        seed=0,
        record=record_values,
    )


def train_plainly(model: Path, tokens: Path, threads: int, record: Callable[[int], None]) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, fused=True)
    ids = np.memmap(tokens / "shard-00000.bin", dtype=np.uint32, mode="r").astype(np.int64)
    for step in range(1, len(ids) // (BATCH * CONTEXT) + 1):
        start = (step - 1) * BATCH * CONTEXT
        block = torch.from_numpy(ids[start : start + BATCH * CONTEXT]).view(BATCH, CONTEXT)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = net(input_ids=block, labels=block, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        record(step)


if __name__ == "__main__":
    main()
