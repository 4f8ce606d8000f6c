"""Estimates the time of evaluations: as long as earlier ones of the same kind took on this machine, else unknown.

Each evaluation appends a line to `evaluation_times.jsonl` under paths.root, which no cache key contains.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from entigraph.pipeline.run import Run
from entigraph.pipeline.study import comparable_settings
from entigraph.pipeline.training_estimate import count_unknown
from entigraph.pipeline.training_rates import cpu_name, read_lines
from entigraph.runtime.progress import format_seconds
from entigraph.storage.artifact import CHECKPOINTS
from entigraph.storage.fingerprints import digest

TIMES = "evaluation_times.jsonl"
SETTINGS = ("corpus", "questions", "written_questions", "retriever", "tokenizer", "model", "tasks", "engine")


@contextmanager
def record_time(run: Run, out: Path) -> Iterator[None]:
    """Stores how long the body evaluates the run's model, unless an earlier command did a part of it."""
    resumed, started = (out / CHECKPOINTS).exists(), time.monotonic()
    yield
    if not resumed:
        line = {**workload_key(run), "seconds": round(time.monotonic() - started, 2)}
        with (run.root / TIMES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def measured_seconds(run: Run) -> float | None:
    """Returns the median time of such evaluations on this machine; None before the first."""
    key = workload_key(run)
    times = [line["seconds"] for line in read_lines(run.root / TIMES) if key.items() <= line.items()]
    return median(times) if times else None


def workload_key(run: Run) -> dict[str, Any]:
    """Returns what the time depends on: the machine, and the settings of the evaluation other than seeds."""
    from entigraph.training.memory import find_device

    settings = comparable_settings(run)
    return {
        "machine": f"{find_device(run.trainer.accelerator).name}, {cpu_name()}, {os.cpu_count()} cores",
        "threads": run.trainer.threads,
        "settings": digest({name: settings[name] for name in SETTINGS if name in settings}),
    }


def evaluation_lines(pending: Mapping[Path, Run]) -> Iterator[str]:
    """Yields the time of the evaluations that are not complete, by folder."""
    if not pending:
        return
    seconds = [measured_seconds(run) for run in pending.values()]
    known = [value for value in seconds if value is not None]
    duration = f"about {format_seconds(sum(known))} sequentially" if known else "time unknown"
    reason = ", as long as earlier ones on this machine" if known else "; the first evaluation measures it"
    unknown = count_unknown(seconds, "of unknown duration") if known else ""
    yield f"evaluation: {len(pending)} model{'s' * (len(pending) > 1)} to evaluate, {duration}{unknown}{reason}"
