"""Training rates measured on this machine's CPU, for the plans of later runs: no datasheet states the speed of a CPU.

Each training appends a line to `training_rates.jsonl` under paths.root, which no cache key contains.
"""

import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from entigraph.pipeline.run import Run
from entigraph.storage.jsonl import parse_json
from entigraph.training.adapters import adapter_of

RATES = "training_rates.jsonl"


def record_rate(run: Run, counts: Mapping[str, Any], seconds: float) -> None:
    """Stores the rate of a training on the CPU that ran from its first step to its last."""
    if counts["accelerator"] != "cpu" or counts["resumed_from"] is not None or seconds <= 0:
        return
    rate = {**workload_key(run, counts["parameters"]), "tokens": counts["tokens"], "seconds": round(seconds, 2)}
    with (run.root / RATES).open("a", encoding="utf-8") as file:
        file.write(json.dumps(rate) + "\n")


def measured_rate(run: Run, parameters: int) -> float | None:
    """Returns the tokens per second of the longest training of such a model on this CPU; None before the first."""
    key = workload_key(run, parameters)
    rates = [rate for rate in read_lines(run.root / RATES) if key.items() <= rate.items() and rate.get("tokens")]
    longest = max(rates, key=lambda rate: rate["tokens"], default=None)
    return longest["tokens"] / longest["seconds"] if longest else None


def workload_key(run: Run, parameters: int) -> dict[str, Any]:
    """Returns what the rate depends on: the machine, the model's size, what is trained of it, and the context."""
    return {
        "machine": f"{cpu_name()}, {os.cpu_count()} cores",
        "parameters": parameters,
        "adapter": adapter_of(run.model) is not None,
        "context_length": run.data.context_length,
        "devices": run.trainer.world_size,
        "threads": run.trainer.threads,
    }


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yields the measurements of a file that state their seconds."""
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        with suppress(ValueError):  # an incomplete line
            values = parse_json(line)
            if isinstance(values, dict) and values.get("seconds"):
                yield values


@cache
def cpu_name() -> str:
    """Returns the name that the kernel gives the processor, or the machine's architecture."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
