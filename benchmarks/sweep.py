"""Measures the overhead of a sweep over training and evaluation, on a small fictional study with its inputs finished.

python benchmarks/sweep.py [--steps 400]

Each process of the parallel launcher runs for the whole sweep. Time in which a process neither trains nor evaluates
is overhead: start-up, imports, tokens, W&B files, and at the end waiting for the last job and drawing the curve.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from entigraph.config.resolvers import cores

STUDY = ["run", "experiments=smoke", "sweep.augmenters=[entigraph,raw]", "sweep.token_budgets=[8000,6000,4000]"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=400, help="training steps per job")
    steps = arguments.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = [*STUDY, f"paths.root={root}", "data.batch_size=16"]
        run([*settings, "trainer.max_steps=1", "sweep.token_budgets=[8000]"])
        before = read_manifests(root)
        started, ended = run([*settings, f"trainer.max_steps={steps}", "trainer.max_epochs=1000"])
        report(started, ended, [manifest for file, manifest in read_manifests(root).items() if file not in before])


def run(settings: list[str]) -> tuple[float, float]:
    """Returns the times at which the command started and ended."""
    started = time.time()
    command = [sys.executable, "-m", "entigraph", *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return started, time.time()


def read_manifests(root: Path) -> dict[Path, dict[str, Any]]:
    return {file: json.loads(file.read_text(encoding="utf-8")) for file in root.glob("*/*/manifest.json")}


def report(started: float, ended: float, manifests: Sequence[dict[str, Any]]) -> None:
    work = [manifest for manifest in manifests if manifest["stage"] in ("training", "evaluation")]
    starts = [datetime.fromisoformat(manifest["created"]).timestamp() for manifest in work]  # whole seconds
    ends = [start + manifest["seconds"] for start, manifest in zip(starts, work, strict=True)]
    processes, busy = cores(), sum(manifest["seconds"] for manifest in work)
    jobs = sum(manifest["stage"] == "training" for manifest in work)
    print(f"{jobs} jobs, {processes} processes, {ended - started:.0f} s in total")
    print(f"  {min(starts) - started:6.0f} s until the first job trains")
    print(f"  {processes * (max(ends) - min(starts)) - busy:6.0f} process seconds until the end of the last job")
    print(f"  {ended - max(ends):6.0f} s to draw the curve")
    print(f"neither training nor evaluation: {1 - busy / processes / (ended - started):.1%}")


if __name__ == "__main__":
    main()
