"""What the jobs of a sweep are doing: read from their status files and printed while the sweep runs."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from entigraph.runtime.progress import in_thread
from entigraph.storage.artifact import read_json
from entigraph.text.normalization import normalize_text

if TYPE_CHECKING:
    from rich.table import Table

KEYS_IN_JOB_NAME = ("augmenter", "tokens.budget", "seed")
SECONDS_BETWEEN_READS = 0.5
SECONDS_BETWEEN_LINES = 60.0


@dataclass
class Sweep:
    """The sweep as its parent process knows it. `jobs` is None if the sweeper chooses them while it runs."""

    config: DictConfig
    jobs: Sequence[Sequence[str]] | None
    folder: Path
    started: float = field(default_factory=time.monotonic)

    def statuses(self) -> list[dict[str, Any]]:
        """Returns one status per job, by number; jobs that have not begun are "waiting"."""
        statuses = {number: status for number, status in self.read_status_files()}
        for number, overrides in enumerate(self.jobs or ()):
            statuses.setdefault(
                number, {"state": "waiting", "job": " ".join(overrides), "overrides": list(overrides)}
            )  # fmt: skip
        common = set.intersection(*(set(status["overrides"]) for status in statuses.values())) if statuses else set()
        return [
            {**status, "number": number, "job": distinguishing_name(status, common)}
            for number, status in sorted(statuses.items())
        ]

    def read_status_files(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for file in self.folder.glob("job-*.json"):
            try:
                yield int(file.stem.removeprefix("job-")), read_json(file)
            except (FileNotFoundError, ValueError):
                continue  # deleted or replaced just now: the job is about to write it again


def distinguishing_name(status: dict[str, Any], common: set[str]) -> str:
    """Returns the job's name with the swept overrides that the name does not contain."""
    if status["state"] == "waiting":
        return str(status["job"])
    others = [
        override
        for override in status["overrides"]
        if override not in common and override.partition("=")[0] not in KEYS_IN_JOB_NAME
    ]
    return " ".join([status["job"], *others])


def job_file(folder: Path, number: int) -> Path:
    return folder / f"job-{number:04}.json"


def watching(sweep: Sweep) -> AbstractContextManager[None]:
    """Shows the jobs of a sweep from a thread while the body runs it."""
    return in_thread(partial(watch_table if sys.stdout.isatty() else watch_lines, sweep))


def watch_table(sweep: Sweep, over: threading.Event) -> None:
    from rich.live import Live

    with Live(render_table(sweep), refresh_per_second=2, transient=True) as live:
        while not over.wait(SECONDS_BETWEEN_READS):
            live.update(render_table(sweep))


def render_table(sweep: Sweep) -> "Table":
    from rich.table import Table
    from rich.text import Text

    statuses = sweep.statuses()
    states = Counter(status["state"] for status in statuses)
    seconds = time.monotonic() - sweep.started
    table = Table(
        title=Text(
            f"{sweep.config.study.name}: {states['done']} of {len(statuses)} done, "
            f"{states['failed']} failed, {seconds:.0f} s"
        )
    )
    for heading in ("job", "state", "doing"):
        table.add_column(heading, overflow="fold")
    for status in statuses:
        if status["state"] != "waiting":
            table.add_row(*map(Text, (status["job"], status["state"], describe_status(status))))
    if states["waiting"]:
        table.add_row(f"and {states['waiting']} more", "waiting", "")
    return table


def watch_lines(sweep: Sweep, over: threading.Event) -> None:
    """Prints a line for each job that ends, and every minute one for each running job."""
    ended: set[int] = set()
    printed: dict[int, str] = {}
    last = time.monotonic()
    while True:
        finished = over.wait(SECONDS_BETWEEN_READS)
        statuses = sweep.statuses()
        due = time.monotonic() - last > SECONDS_BETWEEN_LINES
        for status in statuses:
            number, state = status["number"], status["state"]
            line = f"{status['job']}: {state} {describe_status(status)}"
            if state == "waiting" or number in ended:
                continue
            if state == "running" and (not due or printed.get(number) == line):
                continue
            print(f"  [{number + 1}/{len(statuses)}] {line}", flush=True)
            printed[number], last = line, time.monotonic()
            if state != "running":
                ended.add(number)
        if finished:
            return


def describe_status(status: dict[str, Any]) -> str:
    if status["state"] == "done" and status.get("accuracy") is not None:
        return f"accuracy {status['accuracy']:.3f} at {status['synthetic_tokens']:,} tokens"
    return normalize_text(str(status.get("doing") or status.get("reason") or ""))
