"""Progress of a stage: a bar on a terminal, a status file in a sweep (for the job table), or lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from entigraph.storage.artifact import write_json

SECONDS_BETWEEN_LINES = 15.0
SECONDS_BETWEEN_STATUS = 0.5


class Advance(Protocol):
    """Called with each completed amount, and an optional note to display (a loss, dollars)."""

    def __call__(self, amount: int, note: str = "") -> None: ...


class Progress(Protocol):
    def notify(self, line: str) -> None: ...

    def bar(self, label: str, total: int | None, unit: str) -> AbstractContextManager[Advance]: ...


class SilentProgress:
    def notify(self, line: str) -> None:
        pass

    @contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[Advance]:
        yield lambda amount, note="": None


class TerminalProgress:
    """Shows bars with rate and remaining time on a terminal, or prints an occasional line otherwise (a log file)."""

    def notify(self, line: str) -> None:
        print(line, flush=True)

    @contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[Advance]:
        if not sys.stderr.isatty():
            with print_progress_lines(label, total, unit) as advance:
                yield advance
            return
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("  {task.description:<12}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.completed:,.0f} {task.fields[unit]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with RichProgress(*columns, console=Console(stderr=True), transient=True) as display:
            task = display.add_task(label, total=total, unit=unit, rate="", note="")

            def advance(amount: int, note: str = "") -> None:
                display.update(task, advance=amount, note=note)
                speed = display.tasks[task].speed
                display.update(task, rate=f"{speed:,.0f}/s" if speed else "")

            yield advance


@contextmanager
def print_progress_lines(label: str, total: int | None, unit: str) -> Iterator[Advance]:
    def print_line(line: str) -> None:
        print(f"  {line}", file=sys.stderr, flush=True)

    yield throttled_progress(label, total, unit, print_line, SECONDS_BETWEEN_LINES, time.monotonic())


def throttled_progress(
    label: str, total: int | None, unit: str, write: Callable[[str], None], interval_s: float, last: float
) -> Advance:
    """Returns an `advance` that writes one line per interval. `last` is the time of the last line."""
    started = time.monotonic()
    done = 0

    def advance(amount: int, note: str = "") -> None:
        nonlocal done, last
        done += amount
        now = time.monotonic()
        if now - last >= interval_s:
            last = now
            write(format_progress(label, done, total, unit, now - started, note))

    return advance


class StatusFileProgress:
    """Writes the status of a sweep's job to a file, at most twice per second."""

    def __init__(self, path: Path, job: str, overrides: Sequence[str]) -> None:
        self.path, self.job, self.overrides = path, job, list(overrides)

    def notify(self, line: str) -> None:
        self.write("running", doing=line)

    def write(self, state: str, **details: object) -> None:
        with suppress(OSError):  # the job itself reports a full disk
            write_json(self.path, {"job": self.job, "overrides": self.overrides, "state": state, **details})

    @contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[Advance]:
        yield throttled_progress(label, total, unit, self.notify, SECONDS_BETWEEN_STATUS, 0.0)


def format_progress(label: str, done: int, total: int | None, unit: str, seconds: float, note: str) -> str:
    rate = done / seconds if seconds > 0 else 0.0
    completed = f"{done / total:4.0%} of {total:,}" if total else f"{done:,}"
    remaining = f", {(total - done) / rate:,.0f} s left" if total and rate and done < total else ""
    return f"{label}: {completed} {unit}, {rate:,.0f}/s{remaining}{', ' if note else ''}{note}"
