"""Processes that belong together: the ranks of one training run, and a worker and who waits for it."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

INTERRUPTED, TERMINATED = 130, 143


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those of its run: rank 0 of 1 unless torchrun or srun started it."""

    rank: int = 0
    local_rank: int = 0
    ranks: int = 1
    launcher: str = ""


def process_group(environment: Mapping[str, str] = os.environ) -> ProcessGroup:
    """What torchrun, or srun as one of several tasks, says; a batch script itself is no task."""
    for launcher, rank, local, ranks in (
        ("torchrun", "RANK", "LOCAL_RANK", "WORLD_SIZE"),
        ("srun", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS"),
    ):
        if all(name in environment for name in (rank, local, ranks)) and int(environment[ranks]) > 1:
            return ProcessGroup(int(environment[rank]), int(environment[local]), int(environment[ranks]), launcher)
    return ProcessGroup()


def stop_with_parent() -> None:
    """A worker whose parent was killed stops too, rather than train on for nobody."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(INTERRUPTED)

    if all(thread.name != watch.__qualname__ for thread in threading.enumerate()):
        threading.Thread(target=watch, name=watch.__qualname__, daemon=True).start()


class Preempted(SystemExit):
    """SIGTERM came, everything is saved: the same command continues."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


@contextmanager
def save_before_requeue() -> Iterator[None]:
    """Around the work of a cluster's job, which submitit queues again when SIGUSR2 says that its time is nearly up.

    Training that is under way gets SIGTERM first, so that it saves, and only then the job leaves.
    """
    requeue, idle = signal.getsignal(signal.SIGUSR2), signal.getsignal(signal.SIGTERM)
    if not callable(requeue):
        yield
        return
    warned = threading.Event()

    def on_warning(number: int, frame: Any) -> None:
        if signal.getsignal(signal.SIGTERM) == idle:  # nobody would save
            requeue(number, frame)
        warned.set()
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGUSR2, on_warning)
    try:
        yield
    except Preempted:
        if warned.is_set():
            requeue(signal.SIGUSR2, None)
        raise
    finally:
        signal.signal(signal.SIGUSR2, requeue)
