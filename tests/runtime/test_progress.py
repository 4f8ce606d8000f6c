"""Bars on a terminal, lines in a pipe, and the rate and remaining time that both state."""

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from entigraph.runtime.progress import Meter, StatusFileProgress, format_rate, format_seconds
from tests.polling import wait_for

# Advances once, waits for a line on its standard input, and ends. Lines are printed often, so that the test is fast.
PROGRAM = """
import sys
from entigraph.runtime import progress
progress.SECONDS_BETWEEN_LINES = 0.05
shown = progress.TerminalProgress()
with shown.bar("evaluation", 8, "questions") as advance, shown.bar("preparing model"):
    advance(2, resumed=True)
    advance(1, "$0.10")
    sys.stdin.readline()
shown.notify("done")
"""


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_rate_begins_with_the_first_item(clock: Clock) -> None:
    meter = Meter("evaluation", 100, "questions", clock)
    clock.seconds = 50.0
    assert meter.line() == "evaluation: 0% of 100 questions, 50 s so far"
    meter.advance(20)
    assert meter.line() == "evaluation: 20% of 100 questions, 24/min, 3 min left"


def test_resumed_items_do_not_count_in_the_rate(clock: Clock) -> None:
    meter = Meter("evaluation", 100, "questions", clock)
    clock.seconds = 30.0  # while the model is loaded
    meter.advance(60, resumed=True)
    assert meter.rate is None and meter.remaining_seconds is None
    clock.seconds = 40.0
    meter.advance(20)
    assert meter.status() == "80% of 100 questions, 2.0/s, 10 s left"


def test_items_of_a_batch_arrive_together(clock: Clock) -> None:
    """The rate is that between batches, and the remaining time decreases until the next one, which may be late."""
    meter = Meter("evaluation", 300, "questions", clock)
    for batch in (1, 2):
        for question in range(100):
            clock.seconds = 100.0 * batch + question / 1000
            meter.advance(1)
    assert meter.remaining_seconds == pytest.approx(100, abs=1)
    clock.seconds = 250.0
    assert meter.remaining_seconds == pytest.approx(50, abs=1)
    clock.seconds = 340.0
    assert (meter.remaining_seconds or 0) > 100


def test_rate_is_that_of_the_last_minutes(clock: Clock) -> None:
    """Cached answers arrive at once, new ones slowly."""
    meter = Meter("texts", 10_000, "texts", clock)
    for _ in range(9_000):
        clock.seconds += 0.001
        meter.advance(1)
    for _ in range(200):
        clock.seconds += 1.0
        meter.advance(1)
    assert meter.rate == pytest.approx(1.0, abs=0.02)
    assert meter.remaining_seconds == pytest.approx(800, rel=0.02)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99, "99 s"), (114, "2 min"), (12_000, "3 h 20 min"), (400_000, "4 d 15 h")],
)
def test_durations_have_readable_units(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(("rate", "text"), [(12_345, "12,345/s"), (1.5, "1.5/s"), (0.25, "15/min"), (0.001, "3.6/h")])
def test_low_rates_are_per_minute_or_hour(rate: float, text: str) -> None:
    assert format_rate(rate) == text


def test_lines_are_printed_to_a_pipe_even_before_the_first_item() -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdin and program.stdout and program.stderr
    labels: set[str] = set()
    while labels != {"  evaluation", "  preparing model"}:
        labels.add(program.stderr.readline().split(":")[0])  # an empty text when the program ends
        assert labels <= {"  evaluation", "  preparing model"}
    program.stdin.write("\n")
    output, errors = program.communicate()
    assert output == "done\n"
    assert "\x1b" not in errors and "\r" not in errors, "neither bars nor colors"


def test_bars_are_drawn_on_a_terminal() -> None:
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=child, stderr=child, env=environment
    )
    os.close(child)
    assert program.stdin
    output = ""
    while not ("38% of 8 questions" in output and "$0.10" in output and "preparing model" in output):
        assert select.select([parent], [], [], 60)[0], f"no output for 60 s after {output!r}"
        output += os.read(parent, 4096).decode(errors="replace")  # fails when the program ends
    program.stdin.write(b"\n")
    program.stdin.close()
    assert program.wait(60) == 0
    os.close(parent)


def test_status_of_a_sweep_job_is_written_to_its_file(tmp_path: Path) -> None:
    file = tmp_path / "job-0000.json"
    progress = StatusFileProgress(file, "raw", ["augmenter=raw"])
    with progress.bar("texts", 10, "texts") as advance:
        advance(5)
        wait_for(file.exists)
        status = json.loads(file.read_text())
    assert status["state"] == "running" and status["doing"].startswith("texts: 50% of 10 texts, ")
