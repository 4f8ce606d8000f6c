"""Ranks of distributed training, worker processes that exit with their parent, and preemption."""

import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

INTERRUPTED, TERMINATED = 130, 143
TORCHRUN_LAUNCH = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
SRUN_LAUNCH = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")


@dataclass(frozen=True)
class ProcessGroup:
    """This process's rank and world size: rank 0 of 1 unless torchrun or srun started the process.

    `launch` identifies what started the processes, equally in all of them.
    """

    rank: int = 0
    ranks: int = 1
    launcher: str = ""
    launch: str = ""


def process_group(environment: Mapping[str, str] = os.environ) -> ProcessGroup:
    """Returns the rank that torchrun or srun assigned. A batch script itself is not a task of srun."""
    for launcher, rank, local, ranks, launch in (
        ("torchrun", "RANK", "LOCAL_RANK", "WORLD_SIZE", TORCHRUN_LAUNCH),
        ("srun", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", SRUN_LAUNCH),
    ):
        if all(name in environment for name in (rank, local, ranks)) and int(environment[ranks]) > 1:
            names = re.sub(r"[^\w.-]", "_", "-".join(environment.get(name, "") for name in launch))
            return ProcessGroup(int(environment[rank]), int(environment[ranks]), launcher, names)
    return ProcessGroup()


def stop_with_parent() -> None:
    """Makes this process exit when its parent is killed, so that no orphaned worker keeps training."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(INTERRUPTED)

    if all(thread.name != watch.__qualname__ for thread in threading.enumerate()):
        threading.Thread(target=watch, name=watch.__qualname__, daemon=True).start()


class Preempted(SystemExit):
    """Raised after SIGTERM once the checkpoint is saved. The same command resumes the run."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


@contextmanager
def save_before_requeue() -> Iterator[None]:
    """Saves a checkpoint before submitit requeues the job.

    submitit requeues on SIGUSR2, which Slurm sends before the time limit. Here SIGUSR2 first sends SIGTERM to a
    training in progress, which saves a checkpoint and raises Preempted; then the job is requeued.
    """
    requeue, default_handler = signal.getsignal(signal.SIGUSR2), signal.getsignal(signal.SIGTERM)
    if not callable(requeue):
        yield
        return
    warned = threading.Event()

    def on_warning(number: int, frame: Any) -> None:
        if signal.getsignal(signal.SIGTERM) == default_handler:  # no training is in progress
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
