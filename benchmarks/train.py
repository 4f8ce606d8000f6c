"""Compares training with alternatives in one run on this machine. Only the ratios are meaningful.

python benchmarks/train.py [speed] [loss]        both by default; --json FILE saves the results

speed   CPU time of a tiny Llama on one thread: our stage, a bare PyTorch loop, and the Hugging Face Trainer configured
        as by the paper's authors (bf16, micro-batch 1, logging every step); same tokens, without start-up
loss    peak memory of head and loss over 2,048 tokens of a 128k vocabulary, without the head's weight and gradient
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from token_folders import write_tokens_folder

from entigraph.runtime.devices import pick_precision
from entigraph.storage.token_shards import TokenStore
from entigraph.tokenization.builders import ByteTokenizer
from entigraph.training import stage
from entigraph.training.data_schedule import DataSchedule
from entigraph.training.datamodule import BatchLoader
from entigraph.training.optim import adamw, parameter_groups
from entigraph.training.starting_models import RandomLlama

WARM, STEPS, ROUNDS = 20, 120, 3
VOCABULARY, CONTEXT, BATCH = 4096, 128, 8
LR, BETAS = 1e-3, [0.9, 0.999]
Rate = float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("parts", nargs="*", choices=["speed", "loss", []])
    arguments.add_argument("--json", type=Path)
    arguments.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    arguments.add_argument("--rate", nargs=2, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    if options.rate:
        print(json.dumps(STACKS[options.rate[0]](Path(options.rate[1]))))
        return
    if options.peak:
        print(json.dumps(measure_peak(options.peak[0], getattr(torch, options.peak[1]))))
        return
    results: dict[str, Any] = {"torch": torch.__version__, "command": " ".join(sys.argv)}
    for name, part in (("speed", speed), ("loss", loss_memory)):
        if name in (options.parts or ["speed", "loss"]):
            results[name] = part()
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


# --- speed ---


def speed() -> dict[str, float]:
    """Measures each in a separate process, because malloc settings apply to a whole process."""
    rates: dict[str, list[Rate]] = {name: [] for name in STACKS}
    with tempfile.TemporaryDirectory() as root:
        make_tokens(Path(root))
        for _ in range(ROUNDS):  # interleaved, so that other load affects all of them equally
            for name in STACKS:
                rates[name].append(run_self("--rate", name, root))
    medians = {name: median(values) for name, values in rates.items()}
    for name, rate in medians.items():
        print(f"speed  {name:28} {rate:>10,.0f} tokens/s   ours at {medians['ours'] / rate:.2f} of it")
    return medians


def run_self(*arguments: str) -> Any:
    """Runs this file with the arguments and returns the JSON that it prints."""
    result = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def make_tokens(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("tokens", "tokenizer"):
        (folder / name).mkdir()
    write_tokens_folder(
        folder / "tokens", [[256, *rng.zipf(1.3, 500).clip(0, VOCABULARY - 1).tolist()] for _ in range(400)]
    )
    ByteTokenizer().build(folder / "tokenizer")


def rate_between(times: list[float]) -> Rate:
    return (STEPS - WARM) * BATCH * CONTEXT / (times[-1] - times[0])


def ours(folder: Path) -> Rate:
    times: list[float] = []
    with tempfile.TemporaryDirectory(dir=folder) as out:
        stage.run(
            folder / "tokens",
            folder / "tokenizer",
            None,
            Path(out),
            nodes=training_nodes(),
            vocabulary=VOCABULARY,
            seed=0,
            record=lambda values: times.append(time.process_time()) if values["step"] in (WARM, STEPS) else None,
        )
    return rate_between(times)


def training_nodes() -> dict[str, Any]:
    """Returns the components of a run as the default configuration has them."""
    import entigraph
    from entigraph.training.component_nodes import resolved_nodes

    changes = [f"trainer.max_steps={STEPS}", "trainer.accelerator=cpu", "logger=none", f"optim.lr={LR}"]
    changes += [f"+optim.betas={BETAS}", "optim.weight_decay=0.01", "scheduler.min_lr_ratio=0"]
    changes += [f"data.context_length={CONTEXT}", f"data.batch_size={BATCH}"]
    return resolved_nodes(entigraph.compose(changes))


def build_schedule(store: TokenStore) -> DataSchedule:
    return DataSchedule(
        synthetic_tokens=len(store),
        replay_tokens=0,
        context_length=CONTEXT,
        batch_size=BATCH,
        epochs=1,
        replay_rate=0.0,
        seed=0,
        max_steps=STEPS,
    )


def bare(folder: Path) -> Rate:
    """A loop with the same model, batches, optimizer, clipping and precision, and nothing else."""
    store = TokenStore(folder / "tokens")
    net = RandomLlama().build(VOCABULARY).train()
    optimizer = adamw(parameter_groups(net.parameters()), LR, betas=(BETAS[0], BETAS[1]))
    mixed = pick_precision("auto", "cpu") == "bf16-mixed"
    times = []
    for step, batch in enumerate(BatchLoader(build_schedule(store), {0: store}, BATCH), 1):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            logits = net(input_ids=batch["input_ids"], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch["labels"].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step in (WARM, STEPS):
            times.append(time.process_time())
    return rate_between(times)


def hugging_face(folder: Path, micro: int, log_every: int) -> Rate:
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.utils import logging

    logging.set_verbosity_error()
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step in (WARM, STEPS):
                times.append(time.process_time())

    class Blocks(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
        """As in the authors' code: a slice of a memory-mapped file is both input and labels."""

        tokens = np.memmap(folder / "tokens" / "shard-00000.bin", dtype=np.uint32, mode="r")

        def __len__(self) -> int:
            return len(self.tokens) // CONTEXT

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            block = torch.from_numpy(self.tokens[index * CONTEXT : (index + 1) * CONTEXT].astype(np.int64))
            return {"input_ids": block, "labels": block}

    with tempfile.TemporaryDirectory(dir=folder) as out:
        arguments = TrainingArguments(
            output_dir=out,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=BATCH // micro,
            max_steps=STEPS,
            learning_rate=LR,
            weight_decay=0.01,
            warmup_steps=round(0.05 * STEPS),
            lr_scheduler_type="cosine",
            bf16=pick_precision("auto", "cpu") == "bf16-mixed",
            use_cpu=True,
            logging_steps=log_every,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = Trainer(RandomLlama().build(VOCABULARY), arguments, train_dataset=Blocks(), callbacks=[Clock()])
        trainer.log = lambda *values, **named: None  # type: ignore[method-assign]  # it prints every log line
        trainer.train()
    return rate_between(times)


STACKS: dict[str, Callable[[Path], Rate]] = {
    "ours": ours,
    "bare PyTorch loop": bare,
    "HF Trainer, as the authors": lambda folder: hugging_face(folder, micro=1, log_every=1),
    "HF Trainer, whole batches": lambda folder: hugging_face(folder, micro=BATCH, log_every=10),
}


# --- loss ---

ROWS, HEAD, WIDTH = 2048, 128_256, 1024


def whole_logits(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = torch.nn.functional.linear(hidden, weight).float()
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def in_chunks(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    from entigraph.training.loss import chunked_losses

    return chunked_losses(hidden, weight, labels)


DTYPES = ("float32", "bfloat16")
PATHS = {"whole logits": whole_logits, "ours": in_chunks}


def loss_memory() -> dict[str, Any]:
    """Measures each in a separate process, because freed memory is not returned to the system at once."""
    peaks: dict[str, dict[str, dict[str, float]]] = {}
    for name in PATHS:
        for dtype in DTYPES:
            peaks.setdefault(name, {})[dtype] = run_self("--peak", name, dtype)
    for dtype in DTYPES:
        full_logits, chunked = (peaks[name][dtype]["bytes"] for name in ("whole logits", "ours"))
        seconds = peaks["ours"][dtype]["seconds"] / peaks["whole logits"][dtype]["seconds"]
        print(
            f"loss   {dtype:9} whole logits {full_logits / 2**20:>6,.0f} MiB, ours {chunked / 2**20:>6,.0f} MiB: "
            f"{chunked / full_logits:.2f} of it, in {seconds:.2f} of the time"
        )
    return peaks


def measure_peak(name: str, dtype: torch.dtype) -> dict[str, float]:
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH).to(dtype).requires_grad_()
    weight = (torch.randn(HEAD, WIDTH) * 0.02).to(dtype).requires_grad_()
    gradient = weight.numel() * weight.element_size()
    labels = torch.randint(0, HEAD, (ROWS,))
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, started = resident("VmHWM"), time.perf_counter()
    PATHS[name](hidden, weight, labels).mean().backward()
    return {"bytes": resident("VmHWM") - before - gradient, "seconds": time.perf_counter() - started}


def resident(field: str) -> int:
    """Returns a memory field of this process in bytes; VmHWM is its peak (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
