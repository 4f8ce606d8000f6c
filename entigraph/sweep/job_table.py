"""What the jobs of a sweep are doing, read from their status files, and shown while they do it."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

if TYPE_CHECKING:
    from rich.table import Table

NAMED = ("augmenter", "tokens.budget", "seed")
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_SIGNS = 30.0


@dataclass
class Sweep:
    """What the parent knows of the sweep that it runs."""

    config: DictConfig
    jobs: Sequence[Sequence[str]]
    folder: Path
    started: float = field(default_factory=time.monotonic)
    over: threading.Event = field(default_factory=threading.Event)
    watcher: threading.Thread | None = None

    @cached_property
    def apart(self) -> list[list[str]]:
        """For each job, what is swept over besides the keys that its name tells."""
        shared = set.intersection(*map(set, self.jobs))
        return [
            [given for given in job if given not in shared and given.partition("=")[0] not in NAMED]
            for job in self.jobs
        ]

    def statuses(self) -> list[dict[str, Any]]:
        """One for each job; those that have not begun are "waiting"."""
        found = []
        for number, overrides in enumerate(self.jobs):
            try:
                status = json.loads(job_file(self.folder, number).read_text(encoding="utf-8"))
                status["job"] = " ".join([status["job"], *self.apart[number]])
            except (FileNotFoundError, ValueError):
                status = {"state": "waiting", "job": " ".join(overrides)}
            found.append({"number": number, **status})
        return found


def job_file(folder: Path, number: int) -> Path:
    return folder / f"job-{number:04}.json"


def watch(sweep: Sweep) -> None:
    if not sys.stdout.isatty():
        watch_by_lines(sweep)
        return
    from rich.live import Live

    with Live(job_table(sweep), refresh_per_second=2, transient=True) as live:
        while not sweep.over.wait(SECONDS_BETWEEN_LOOKS):
            live.update(job_table(sweep))


def job_table(sweep: Sweep) -> "Table":
    from rich.table import Table

    statuses = sweep.statuses()
    states = Counter(status["state"] for status in statuses)
    seconds = time.monotonic() - sweep.started
    table = Table(
        title=f"{sweep.config.study}: {states['done']} of {len(statuses)} done, "
        f"{states['failed']} failed, {seconds:.0f} s"
    )
    for heading in ("job", "state", "doing"):
        table.add_column(heading, overflow="fold")
    for status in statuses:
        if status["state"] != "waiting":
            table.add_row(status["job"], status["state"], told(status))
    if states["waiting"]:
        table.add_row(f"and {states['waiting']} more", "waiting", "")
    return table


def watch_by_lines(sweep: Sweep) -> None:
    """A line for each job that ends, and now and then one for each that goes on."""
    ended: set[int] = set()
    printed: dict[int, str] = {}
    last = time.monotonic()
    over = False
    while not over:
        over = sweep.over.wait(SECONDS_BETWEEN_LOOKS)
        statuses = sweep.statuses()
        due = time.monotonic() - last > SECONDS_BETWEEN_SIGNS
        for status in statuses:
            number, going = status["number"], status["state"] in ("waiting", "running")
            line = f"{status['job']}: {status['state']} {told(status)}"
            if number in ended or (going and (not due or status["state"] == "waiting" or printed.get(number) == line)):
                continue
            print(f"  [{number + 1}/{len(statuses)}] {line}", flush=True)
            printed[number], last = line, time.monotonic()
            if not going:
                ended.add(number)


def told(status: dict[str, Any]) -> str:
    if status["state"] == "done" and status.get("accuracy") is not None:
        return f"accuracy {status['accuracy']:.3f} at {status['synthetic_tokens']:,} tokens"
    return str(status.get("doing") or status.get("reason") or "")
