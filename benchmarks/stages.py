"""Measures the throughput of each stage.

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
from entigraph.runtime.progress import SilentProgress
from entigraph.storage import artifact
from entigraph.tracking.base import Tracker


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
        report(run, seconds)


def measure_step(step: Step) -> float:
    started = time.perf_counter()
    execute_step(step, SilentProgress(), Tracker)
    return time.perf_counter() - started


def report(run: Run, seconds: dict[Path, float]) -> None:
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


if __name__ == "__main__":
    main()
