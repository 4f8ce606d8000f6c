"""Recovery of a sweep whose worker processes die, for example because the system is out of memory.

A pool of processes that loses one ends all of them, and does not say which job was to blame. Every job that was running
is a suspect. The sweep starts again: finished jobs are skipped, and suspects run one at a time. A suspect that is
running when a process dies again is the culprit; it is reported as failed, and the others finish.

The parent writes what it knows to a file in the sweep's folder, and every job reads it before it begins.
"""

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from entigraph.runtime.progress import StatusFileProgress
from entigraph.storage import locks
from entigraph.storage.artifact import read_json, write_json

FILE = "sweep.json"
SECONDS_FOR_THE_POOL_TO_NOTICE = 5.0


def process_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass
class SweepState:
    """What the parent of a sweep passes to its jobs. A job is identified by its overrides, joined by spaces."""

    parent: str = field(default_factory=process_name)
    suspects: list[str] = field(default_factory=list)
    culprits: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, folder: Path) -> "SweepState":
        return cls(**read_json(folder / FILE))

    def save(self, folder: Path) -> None:
        write_json(folder / FILE, asdict(self))

    def record_crash(self, statuses: Sequence[Mapping[str, Any]]) -> bool:
        """Updates suspects and culprits from the jobs that were running when the pool broke.

        Returns whether another attempt makes sense: not if no job was running.
        """
        running = [" ".join(status["overrides"]) for status in statuses if status["state"] == "running"]
        self.culprits += [job for job in running if job in self.suspects]
        self.suspects = list(dict.fromkeys([*self.suspects, *running]))
        return bool(running)


def wait_for_turn(
    job: str, state: SweepState, folder: Path, status: StatusFileProgress
) -> AbstractContextManager[None]:  # fmt: skip
    """Returns a context in which no other suspect runs; one that does nothing for a job that is no suspect."""
    return run_alone(folder, status) if job in state.suspects else nullcontext()


@contextmanager
def run_alone(folder: Path, status: StatusFileProgress) -> Iterator[None]:
    status.write("waiting", doing="for its turn")
    with locks.lock(folder / "suspects", folder):
        # The previous holder may just have died. Then the pool ends this process too, and it must not look guilty.
        time.sleep(SECONDS_FOR_THE_POOL_TO_NOTICE)
        yield
