"""Waiting for another process, with a deadline."""

import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tests.commands import ForkedProcess

Value = TypeVar("Value")


def wait_for(
    condition: Callable[[], Value],
    *,
    timeout_s: float = 300.0,
    interval_s: float = 0.02,
    process: "subprocess.Popen[Any] | ForkedProcess | None" = None,
) -> Value:
    """Returns the first true value of the condition.

    Fails after `timeout_s`, or as soon as the process that should bring the condition about has ended.
    """
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if process is not None and process.poll() is not None and not condition():
            raise AssertionError(f"the process ended with status {process.returncode} while the test waited for it")
        if time.monotonic() > deadline:
            raise AssertionError(f"not true after {timeout_s:g} s")
        time.sleep(interval_s)
    return value
