"""How far a stage is: a bar on a terminal, a status file in a sweep (read by the sweep's table), lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from entigraph.storage.artifact import write_json

SECONDS_BETWEEN_LINES = 15.0
SECONDS_BETWEEN_STATUS = 0.5


class Advance(Protocol):
    """Called with each amount done, and with what else there is to know (losses, dollars)."""

    def __call__(self, amount: int, note: str = "") -> None: ...


class Progress(Protocol):
    def say(self, line: str) -> None: ...

    def bar(self, what: str, total: int | None, unit: str) -> AbstractContextManager[Advance]: ...


class SilentProgress:
    def say(self, line: str) -> None:
        pass

    @contextmanager
    def bar(self, what: str, total: int | None, unit: str) -> Iterator[Advance]:
        yield lambda amount, note="": None


class TerminalProgress:
    """Bars with rate and time left; one line now and then where nobody watches (a log file)."""

    def say(self, line: str) -> None:
        print(line, flush=True)

    @contextmanager
    def bar(self, what: str, total: int | None, unit: str) -> Iterator[Advance]:
        if not sys.stderr.isatty():
            with print_progress_lines(what, total, unit) as advance:
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
            task = display.add_task(what, total=total, unit=unit, rate="", note="")

            def advance(amount: int, note: str = "") -> None:
                display.update(task, advance=amount, note=note)
                speed = display.tasks[task].speed
                display.update(task, rate=f"{speed:,.0f}/s" if speed else "")

            yield advance


@contextmanager
def print_progress_lines(what: str, total: int | None, unit: str) -> Iterator[Advance]:
    started = last = time.monotonic()
    done = 0

    def advance(amount: int, note: str = "") -> None:
        nonlocal done, last
        done += amount
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            print(f"  {format_progress(what, done, total, unit, now - started, note)}", file=sys.stderr, flush=True)

    yield advance


class StatusFileProgress:
    """Writes what a job of a sweep is doing to a small file, at most twice a second."""

    def __init__(self, path: Path, job: str) -> None:
        self.path, self.job = path, job

    def say(self, line: str) -> None:
        self.write("running", doing=line)

    def write(self, state: str, **details: object) -> None:
        with suppress(OSError):  # a full disk is the job's to report, not its status file's
            write_json(self.path, {"job": self.job, "state": state, **details})

    @contextmanager
    def bar(self, what: str, total: int | None, unit: str) -> Iterator[Advance]:
        started = time.monotonic()
        done, last = 0, 0.0

        def advance(amount: int, note: str = "") -> None:
            nonlocal done, last
            done += amount
            now = time.monotonic()
            if now - last >= SECONDS_BETWEEN_STATUS:
                last = now
                self.say(format_progress(what, done, total, unit, now - started, note))

        yield advance


def format_progress(what: str, done: int, total: int | None, unit: str, seconds: float, note: str) -> str:
    rate = done / seconds if seconds > 0 else 0.0
    share = f"{done / total:4.0%} of {total:,}" if total else f"{done:,}"
    left = f", {(total - done) / rate:,.0f} s left" if total and rate and done < total else ""
    return f"{what}: {share} {unit}, {rate:,.0f}/s{left}{', ' if note else ''}{note}"
