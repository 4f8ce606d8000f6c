"""Launches a training run on several devices: starts one process per device and waits until all are done.

The processes get the environment variables of torchrun. The parent reads rank 0's metrics from metrics.jsonl, and its
counts and the error messages of ranks from JSON files.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom
from typing import Any, cast

from entigraph.config.resolvers import cores
from entigraph.errors import ArtifactError, ConfigError, DataError, EntigraphError
from entigraph.runtime.processes import INTERRUPTED, TERMINATED, Preempted
from entigraph.runtime.progress import Advance, Progress, SilentProgress
from entigraph.storage.artifact import CHECKPOINTS, read_json
from entigraph.storage.token_shards import TokenStore
from entigraph.training.data_schedule import REPLAY, SYNTHETIC
from entigraph.training.model_checks import NonFiniteLossError
from entigraph.training.training_job import TrainingJob

JOB, COUNTS, ERROR, METRICS = "job.json", "counts.json", "error.json", "metrics.jsonl"
POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0


def launch(job: TrainingJob, progress: Progress, record: Callable[[dict[str, float]], None]) -> dict[str, Any]:
    """Trains in child processes. Returns the counts of rank 0, or raises the error of a rank."""
    folder = job.out / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    for file in (*folder.glob(f"*{ERROR}"), folder / COUNTS):
        file.unlink(missing_ok=True)
    job.write(folder / JOB)
    tokens = {SYNTHETIC: len(TokenStore(job.tokens)), REPLAY: len(TokenStore(job.replay)) if job.replay else 0}
    schedule = job.data.schedule(tokens, job.seed, job.trainer.max_epochs, job.trainer.max_steps)
    progress.notify(f"           {schedule.summary_line()}")
    progress.notify(f"           {job.trainer.world_size} processes, one per device")
    bars = SilentProgress() if job.trainer.shows_lightning_bar else progress
    with (
        bars.bar("training", schedule.samples * schedule.context_length, "tokens") as advance,
        start_ranks(job, folder / JOB) as ranks,
        forward_sigterm(ranks) as stop_requested,
    ):
        failed = wait_for_ranks(MetricsReader(job.out / METRICS, record, advance), ranks)
    if failed:
        raise_failure(failed, folder, stop_requested)
    return cast("dict[str, Any]", read_json(folder / COUNTS))


@contextmanager
def start_ranks(job: TrainingJob, file: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Yields the child processes, and kills those still running on exit. They also exit if this process is killed."""
    shared = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores() // job.trainer.world_size))),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(job.trainer.world_size),
        "LOCAL_WORLD_SIZE": str(job.trainer.world_size),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": job.out.name,  # tells Lightning that another launcher started the processes
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
    }
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(job.trainer.world_size):
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            command = [sys.executable, "-m", "entigraph.training.worker", str(file)]
            started.append(subprocess.Popen(command, env={**os.environ, **shared, **ranks}))
        yield started
    finally:
        kill_ranks(started)


def kill_ranks(ranks: list["subprocess.Popen[bytes]"]) -> None:
    for process in ranks:
        if process.poll() is None:
            process.kill()
    for process in ranks:
        process.wait()


def free_port() -> int:
    """Returns a port that no outgoing connection of another process can take before a rank listens on it.

    The kernel gives those connections ports from 32768 on.
    """
    while True:
        port = SystemRandom().randrange(20_000, 32_768)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def forward_sigterm(ranks: list["subprocess.Popen[bytes]"]) -> Iterator[threading.Event]:
    """Forwards SIGTERM to the ranks, which save and exit. Yields an event that is set once SIGTERM is received."""
    received = threading.Event()

    def forward(*args: Any) -> None:
        received.set()
        for process in ranks:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    previous = signal.signal(signal.SIGTERM, forward)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, previous)


def wait_for_ranks(metrics: "MetricsReader", ranks: list["subprocess.Popen[bytes]"]) -> dict[int, int]:
    """Waits until all ranks are done, or kills the others if one fails, because they would wait for it forever.

    Returns the exit statuses of the ranks that failed first.
    """
    while all_running_or_done(ranks):
        metrics.read_new()
        time.sleep(POLL_SECONDS)
    metrics.read_new()
    failed = {rank: status for rank, process in enumerate(ranks) if (status := process.poll())}
    deadline = time.monotonic() + GRACE_SECONDS
    while failed and time.monotonic() < deadline and any(process.poll() is None for process in ranks):
        time.sleep(POLL_SECONDS)
    if failed:
        kill_ranks(ranks)
    return failed


def all_running_or_done(ranks: list["subprocess.Popen[bytes]"]) -> bool:
    """Returns whether a rank is still running and none has failed."""
    states = [process.poll() for process in ranks]
    return None in states and not any(states)


class MetricsReader:
    """Reads each new line of metrics.jsonl once, although a resumed run truncates the file first."""

    def __init__(self, file: Path, record: Callable[[dict[str, float]], None], advance: Advance) -> None:
        self.file, self.record, self.advance = file, record, advance
        self.tokens = 0
        self.last = (0, False)  # step of the last line, and whether it has the validation loss
        self.reads_earlier_run = True  # until the first line is read

    def read_new(self) -> None:
        text = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
        for line in text.splitlines(keepends=True):
            values = json.loads(line) if line.endswith("\n") else {"step": 0}
            position = (values["step"], "val_loss" in values)
            if position > self.last:
                self.advance(values["tokens_seen"] - self.tokens, resumed=self.reads_earlier_run)
                self.last, self.tokens = position, values["tokens_seen"]
                self.record(values)
        self.reads_earlier_run = False


def raise_failure(failed: Mapping[int, int], folder: Path, stop_requested: threading.Event) -> None:
    """Raises the error that the exit statuses and error files of the ranks indicate."""
    if stop_requested.is_set() and TERMINATED in failed.values():
        raise Preempted
    for file in sorted(folder.glob(f"*{ERROR}")):
        error = read_json(file)
        kinds = {kind.__name__: kind for kind in (ArtifactError, ConfigError, DataError, NonFiniteLossError)}
        raise kinds.get(error["kind"], EntigraphError)(error["message"])
    rank, status = min(failed.items(), key=lambda item: item[1])
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    reason = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
    causes: Mapping[int, str] = {  # NCCL aborts a process that waited too long for another
        signal.SIGABRT: " (another rank did not answer within trainer.timeout_s?)",
        signal.SIGKILL: " (out of memory?)",
    }
    output = "its traceback" if status > 0 else "the output"
    raise ArtifactError(
        f"training: the process of rank {rank} {reason}{causes.get(-status, '')}; see {output} above. The same command "
        "continues from the latest checkpoint"
    )
