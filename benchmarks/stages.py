"""Measures the throughput of each stage, and compares training with a bare PyTorch loop in the same run.

python benchmarks/stages.py [--steps 300]        (make bench)
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from entigraph.config.composition import home
from entigraph.pipeline.execution import execute_step
from entigraph.pipeline.loading import load_run
from entigraph.pipeline.registration import register_config
from entigraph.pipeline.run import Run
from entigraph.pipeline.steps import Step, run_steps
from entigraph.runtime.devices import pick_precision
from entigraph.runtime.progress import SilentProgress
from entigraph.storage import artifact
from entigraph.tracking.base import Tracker
from entigraph.training.data_schedule import DataSchedule
from entigraph.training.datamodule import BatchLoader
from entigraph.training.optim import parameter_groups


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--steps", type=int, default=300)
    steps = arguments.parse_args().steps
    torch.set_num_threads(1)
    register_config()
    with tempfile.TemporaryDirectory() as root, initialize_config_dir(str(home() / "conf"), version_base="1.3"):
        overrides = [f"paths.root={root}", f"trainer.max_steps={steps}", "logger=none"]
        run = load_run(compose("config", overrides=overrides))
        seconds = {step.artifact.folder: measure_step(step) for step in run_steps(run)}
        report(run, seconds, steps)
        ours = seconds[run.artifacts.training.folder]
        bare = bare_loop(run, steps)
        tokens = steps * run.data.batch_size * run.data.context_length
        print(f"{'bare loop':12}{tokens / bare:>14,.0f} tokens/s")
        print(f"training stage, including start-up and export, at {bare / ours:.2f} of the bare loop")


def measure_step(step: Step) -> float:
    started = time.perf_counter()
    execute_step(step, SilentProgress(), Tracker)
    return time.perf_counter() - started


def report(run: Run, seconds: dict[Path, float], steps: int) -> None:
    counts = {folder: artifact.read_manifest(folder)["counts"] for folder in seconds}
    for output, unit, amount in (
        (run.artifacts.corpus, "characters", counts[run.artifacts.corpus.folder]["characters"]),
        (run.artifacts.synthesis, "tokens", counts[run.artifacts.synthesis.folder]["tokens"]),
        (run.artifacts.tokens, "tokens", counts[run.artifacts.tokens.folder]["synthetic_tokens"]),
        (run.artifacts.training, "tokens", counts[run.artifacts.training.folder]["tokens"]),
        (run.artifacts.evaluation, "questions", counts[run.artifacts.evaluation.folder]["closed_book"]["questions"]),
    ):
        took = seconds[output.folder]
        print(f"{output.stage:12}{amount / took:>14,.0f} {unit}/s   ({amount:,} in {took:.1f} s)")


def bare_loop(run: Run, steps: int) -> float:
    """Returns the seconds of a loop with the same model, data, optimizer and precision, without Lightning."""
    plan = DataSchedule(
        synthetic_tokens=artifact.read_manifest(run.artifacts.tokens.folder)["counts"]["synthetic_tokens"],
        replay_tokens=0,
        context_length=run.data.context_length,
        batch_size=run.data.batch_size,
        epochs=1,
        replay_rate=0.0,
        seed=0,
        max_steps=steps,
    )
    from entigraph.storage.token_shards import TokenStore

    loader = BatchLoader(plan, {0: TokenStore(run.artifacts.tokens.folder)}, run.data.batch_size)
    net = run.model.build(artifact.read_manifest(run.artifacts.tokenizer.folder)["counts"]["vocabulary"]).train()
    optimizer = run.optim(parameter_groups(net.parameters()))
    mixed = pick_precision("auto", "cpu") == "bf16-mixed"
    started = time.perf_counter()
    for batch in loader:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            logits = net(input_ids=batch["input_ids"], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch["labels"].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
