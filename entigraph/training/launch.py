"""The parent of a training run on several devices: one process a device, watched until all are done.

The processes see what torchrun would tell them. What rank 0 measures is read from metrics.jsonl; what it counted, or
an error in our own words, from a small file each.
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
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from entigraph.errors import ArtifactError, ConfigError, DataError, EntigraphError
from entigraph.runtime.processes import INTERRUPTED, TERMINATED, Preempted
from entigraph.runtime.progress import Advance, Progress
from entigraph.storage.artifact import CHECKPOINTS
from entigraph.storage.token_shards import TokenStore
from entigraph.training.training_job import TrainingJob, build_schedule

JOB, COUNTS, ERROR, METRICS = "job.json", "counts.json", "error.json", "metrics.jsonl"
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_END = 10.0


def launch(job: TrainingJob, progress: Progress, record: Callable[[dict[str, float]], None]) -> dict[str, Any]:
    """Train in a process tree of its own; returns what rank 0 counted. Raises what a rank raised."""
    folder = job.out / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    for old in (*folder.glob(f"*{ERROR}"), folder / COUNTS):
        old.unlink(missing_ok=True)
    job.write(folder / JOB)
    plan = build_schedule(job, TokenStore(job.tokens), TokenStore(job.replay) if job.replay else None)
    progress.say(f"           {plan.told()}")
    progress.say(f"           {job.trainer.ranks} processes, one a device")
    with (
        progress.bar("training", plan.samples * plan.context_length, "tokens") as advance,
        processes(job, folder / JOB) as ranks,
        forwarded(ranks) as asked_to_stop,
    ):
        failed = follow(Lines(job.out / METRICS, record, advance), ranks)
    if failed:
        explain(failed, folder, asked_to_stop)
    return cast("dict[str, Any]", json.loads((folder / COUNTS).read_text(encoding="utf-8")))


@contextmanager
def processes(job: TrainingJob, file: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Whatever happens here, none is left when this ends; and each ends by itself when this process is killed."""
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(job.trainer.ranks),
        "LOCAL_WORLD_SIZE": str(job.trainer.ranks),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": job.out.name,  # by this Lightning knows processes that others started
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
    }
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(job.trainer.ranks):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            command = [sys.executable, "-m", "entigraph.training.worker", str(file)]
            started.append(subprocess.Popen(command, env={**os.environ, **shared, **own}))
        yield started
    finally:
        end(started)


def end(ranks: list["subprocess.Popen[bytes]"]) -> None:
    for process in ranks:
        if process.poll() is None:
            process.kill()
    for process in ranks:
        process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def forwarded(ranks: list["subprocess.Popen[bytes]"]) -> Iterator[threading.Event]:
    """SIGTERM goes to the ranks, which save and leave; set once it came."""
    came = threading.Event()

    def forward(*args: Any) -> None:
        came.set()
        for process in ranks:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = signal.signal(signal.SIGTERM, forward)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def follow(lines: "Lines", ranks: list["subprocess.Popen[bytes]"]) -> dict[int, int]:
    """Until all are done; one that failed ends the others, which would wait for it for ever.

    Returns the statuses of the ranks that failed first.
    """
    while going_well(ranks):
        lines.look()
        time.sleep(SECONDS_BETWEEN_LOOKS)
    lines.look()
    failed = {rank: status for rank, process in enumerate(ranks) if (status := process.poll())}
    last = time.monotonic() + SECONDS_TO_END
    while failed and time.monotonic() < last and any(process.poll() is None for process in ranks):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if failed:
        end(ranks)
    return failed


def going_well(ranks: list["subprocess.Popen[bytes]"]) -> bool:
    states = [process.poll() for process in ranks]
    return None in states and not any(states)


class Lines:
    """Hands on each new line of metrics.jsonl once; a run that continues begins by shortening it."""

    def __init__(self, file: Path, record: Callable[[dict[str, float]], None], advance: Advance) -> None:
        self.file, self.record, self.advance = file, record, advance
        self.step = self.tokens = 0

    def look(self) -> None:
        text = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
        for line in text.splitlines(keepends=True):
            values = json.loads(line) if line.endswith("\n") else {"step": 0}
            if values["step"] > self.step:
                self.advance(values["tokens_seen"] - self.tokens)
                self.step, self.tokens = values["step"], values["tokens_seen"]
                self.record(values)


def explain(failed: Mapping[int, int], folder: Path, asked_to_stop: threading.Event) -> None:
    """Raise what the end of the ranks means."""
    from entigraph.training.model_checks import NonFiniteLossError

    if asked_to_stop.is_set() and TERMINATED in failed.values():
        raise Preempted
    for file in sorted(folder.glob(f"*{ERROR}")):
        told = json.loads(file.read_text(encoding="utf-8"))
        kinds = {kind.__name__: kind for kind in (ArtifactError, ConfigError, DataError, NonFiniteLossError)}
        raise kinds.get(told["kind"], EntigraphError)(told["message"])
    rank, status = min(failed.items(), key=lambda found: found[1])  # a signal is negative, and what follows it is not
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    raise ArtifactError(
        f"training: the process of rank {rank} {how} (out of memory?); see the output above. The same command "
        "continues from the newest checkpoint"
    )
