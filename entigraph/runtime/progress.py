"""Progress of a stage: a bar on a terminal, a status file in a sweep (for the job table), or lines in a log.

The rate is measured over the last minutes, up to the last completed item, so that neither the loading of a model nor
the wait for a batch distorts it. There is none before the first item.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from entigraph.storage.artifact import write_json
from entigraph.text.normalization import normalize_text

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_STATUS = 0.5
SECONDS_OF_RATE = 120.0
MIN_SECONDS_BETWEEN_POINTS = 1.0


class Advance(Protocol):
    """Called with each completed amount, and an optional note to display (a loss, dollars).

    `resumed`: an earlier command completed it, so that it does not count in the rate.
    """

    def __call__(self, amount: int, note: str = "", *, resumed: bool = False) -> None: ...


class Progress(Protocol):
    def notify(self, line: str) -> None: ...

    def bar(self, label: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Advance]:
        """Shows what the body does. Without a unit, such as while a model is loaded, only the time is known."""


class Point(NamedTuple):
    seconds: float
    done: int


class Meter:
    """Counts what is done, and estimates the rate and the remaining time. `clock` returns seconds."""

    def __init__(
        self, label: str, total: int | None, unit: str, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self.label, self.total, self.unit, self.clock = label, total, unit, clock
        self.done, self.note, self.started = 0, "", clock()
        self.points = deque([Point(self.started, 0)])  # one per second; the last one is the last completed amount

    def advance(self, amount: int, note: str = "", *, resumed: bool = False) -> None:
        self.done, self.note = self.done + amount, note
        now, points = self.clock(), self.points
        if resumed:
            self.points = deque([Point(now, self.done)])
            return
        if len(points) > 1 and points[-1].seconds - points[-2].seconds < MIN_SECONDS_BETWEEN_POINTS:
            points.pop()
        points.append(Point(now, self.done))
        while len(points) > 2 and now - points[1].seconds > SECONDS_OF_RATE:
            points.popleft()

    @property
    def rate(self) -> float | None:
        """Returns the rate per second up to the last completed amount; None before the first."""
        first, last = self.points[0], self.points[-1]
        return (last.done - first.done) / max(last.seconds - first.seconds, 1e-6) if last.done > first.done else None

    @property
    def remaining_seconds(self) -> float | None:
        """Returns the time until the total; None if it or the rate is unknown. If the next amount is late, so is it."""
        first, last = self.points[0], self.points[-1]  # read once: another thread advances
        gained = last.done - first.done
        if self.total is None or not gained:
            return None
        left, now = max(0, self.total - last.done), self.clock()
        seconds = left * (last.seconds - first.seconds) / gained - (now - last.seconds)
        return seconds if seconds > 0 else left * (now - first.seconds) / gained

    def status(self) -> str:
        """Returns what is done, the rate and the remaining time."""
        elapsed = f"{format_seconds(self.clock() - self.started)} so far"
        if not self.unit:
            return elapsed
        share = f"{self.done / self.total:.0%} of {self.total:,}" if self.total else f"{self.done:,}"
        rate, remaining = self.rate, self.remaining_seconds
        parts = [f"{share} {self.unit}", format_rate(rate) if rate else elapsed]
        parts += [f"{format_seconds(remaining)} left"] if remaining else []
        return ", ".join([*parts, *filter(None, [self.note])])

    def line(self) -> str:
        return f"{self.label}: {self.status()}"


def format_seconds(seconds: float) -> str:
    """Returns a duration with one or two units, such as "45 s", "12 min" or "3 h 20 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def format_rate(rate: float) -> str:
    """Returns a rate per second, or per minute or hour if it is lower."""
    for unit, factor in (("s", 1), ("min", 60)):
        if rate * factor >= 1:
            return f"{rate * factor:,.{0 if rate * factor >= 10 else 1}f}/{unit}"
    return f"{rate * 3600:,.1f}/h"


@contextmanager
def in_thread(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Runs `work` in a thread while the body runs, at the end of which the event is set."""
    over = threading.Event()
    thread = threading.Thread(target=work, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def report_regularly(meter: Meter, write: Callable[[str], None], interval_s: float) -> AbstractContextManager[None]:
    """Writes the state of the meter once per interval, from a thread: the body may wait long for its first item."""

    def report(over: threading.Event) -> None:
        while not over.wait(interval_s):
            write(meter.line())

    return in_thread(report)


def advance_silently(amount: int, note: str = "", *, resumed: bool = False) -> None:
    pass


class SilentProgress:
    def notify(self, line: str) -> None:
        pass

    @contextmanager
    def bar(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        yield advance_silently


SILENT = SilentProgress()


class TerminalProgress:
    """Shows bars on a terminal, which disappear when they are complete; prints one line per minute otherwise."""

    def __init__(self) -> None:
        self.display: RichProgress | None = None  # of the bars that are open

    def notify(self, line: str) -> None:
        print(normalize_text(line), flush=True)  # without control characters of documents and endpoints

    @contextmanager
    def bar(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        meter = Meter(label, total, unit)
        if sys.stderr.isatty():
            with self.open_display() as display, show_bar(display, meter) as advance:
                yield advance
        else:
            with report_regularly(meter, print_line, SECONDS_BETWEEN_LINES):
                yield meter.advance

    @contextmanager
    def open_display(self) -> Iterator["RichProgress"]:
        """Yields the display, which nested bars share."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        if self.display is not None:
            yield self.display
            return
        columns = TextColumn("  {task.description:<12}"), BarColumn(), TextColumn("{task.fields[meter]}", markup=False)
        with Progress(*columns, console=Console(stderr=True), transient=True) as self.display:
            try:
                yield self.display
            finally:
                self.display = None


def print_line(line: str) -> None:
    print(
        f"  {normalize_text(line)}\n", end="", file=sys.stderr, flush=True
    )  # one write: other threads print lines too


class MeterText:
    """The text of a bar, which is formatted whenever the bar is drawn."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def __format__(self, spec: str) -> str:
        return normalize_text(self.meter.status())


@contextmanager
def show_bar(display: "RichProgress", meter: Meter) -> Iterator[Advance]:
    task = display.add_task(meter.label, total=meter.total, meter=MeterText(meter))

    def advance(amount: int, note: str = "", *, resumed: bool = False) -> None:
        meter.advance(amount, note, resumed=resumed)
        display.update(task, completed=meter.done)

    try:
        yield advance
    finally:
        display.remove_task(task)


class StatusFileProgress:
    """Writes the status of a job of the sweep named `sweep` to a file, at most twice per second."""

    def __init__(self, path: Path, job: str, overrides: Sequence[str], sweep: str = "") -> None:
        self.path, self.job, self.overrides, self.sweep = path, job, list(overrides), sweep
        self.lock = threading.Lock()

    def notify(self, line: str) -> None:
        self.write("running", doing=line)

    def write(self, state: str, **details: Any) -> None:
        with self.lock, suppress(OSError):  # the job itself reports a full disk
            status = {"job": self.job, "sweep": self.sweep, "overrides": self.overrides, "state": state}
            write_json(self.path, {**status, **details})

    @contextmanager
    def bar(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        meter = Meter(label, total, unit)
        with report_regularly(meter, self.notify, SECONDS_BETWEEN_STATUS):
            yield meter.advance
