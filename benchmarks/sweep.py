"""What a sweep adds to its training and evaluation: a reduced fictional study, its base and texts made beforehand.

python benchmarks/sweep.py [--steps 400]

Each of the parallel launcher's processes is there for the whole sweep; a second in which one of them neither trains nor
evaluates counts as overhead: starting, importing, tokens, W&B's files, and at the end waiting for the last job and
drawing the curve.
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

from entigraph.config.schema import cores

STUDY = ["experiments=smoke", "sweep.augmenters=[entigraph,raw]", "sweep.token_budgets=[8000,6000,4000]"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=400, help="of each job's training")
    steps = arguments.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = [*STUDY, f"paths.root={root}", "data.batch_size=16"]
        run([*settings, "trainer.max_steps=1", "sweep.token_budgets=[8000]"])
        before = made(root)
        given, back = run([*settings, f"trainer.max_steps={steps}", "trainer.max_epochs=1000"])
        report(given, back, [found for file, found in made(root).items() if file not in before])


def run(settings: list[str]) -> tuple[float, float]:
    """When the command was given, and when its prompt was back."""
    started = time.time()
    command = [sys.executable, "-m", "entigraph", *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return started, time.time()


def made(root: Path) -> dict[Path, dict[str, Any]]:
    return {file: json.loads(file.read_text(encoding="utf-8")) for file in root.glob("*/*/manifest.json")}


def report(given: float, back: float, manifests: Sequence[dict[str, Any]]) -> None:
    work = [found for found in manifests if found["stage"] in ("training", "evaluation")]
    begun = [datetime.fromisoformat(found["created"]).timestamp() for found in work]  # whole seconds
    ended = [start + found["seconds"] for start, found in zip(begun, work, strict=True)]
    processes, busy = cores(), sum(found["seconds"] for found in work)
    jobs = sum(found["stage"] == "training" for found in work)
    print(f"{jobs} jobs, {processes} processes, {back - given:.0f} s from the command to its prompt")
    print(f"  {min(begun) - given:6.0f} s until the first trains")
    print(f"  {processes * (max(ended) - min(begun)) - busy:6.0f} s of all processes from there to the last one's end")
    print(f"  {back - max(ended):6.0f} s to draw the curve")
    print(f"neither training nor evaluation: {1 - busy / processes / (back - given):.1%}")


if __name__ == "__main__":
    main()
