import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from entigraph.storage.artifact import write_json
from entigraph.sweep.job_table import job_file
from entigraph.training.launch import free_port
from tests.chat.finished_runs import write_run
from tests.polling import wait_for

SWEEP = "2026-01-01_00-00-00_000000"


@pytest.fixture(scope="module")
def outputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs folder of a finished run, a study without a curve, and a running sweep."""
    root = tmp_path_factory.mktemp("ui") / "outputs"
    write_run(root, tiny_model)
    (root / "studies" / "lamps-00000005" / "runs").mkdir(parents=True)
    (root / ".sweeps" / SWEEP).mkdir(parents=True)
    write_job(root, "training:   2%")
    return root


def write_job(root: Path, doing: str) -> None:
    status = {"job": "lamps-seed0", "sweep": "lamps", "overrides": [], "state": "running", "doing": doing}
    write_json(job_file(root / ".sweeps" / SWEEP, 0), status)


@contextmanager
def served(root: Path) -> Iterator[str]:
    """The address of the app, in a separate process."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "entigraph", "ui", "--root", str(root), "--port", str(port), "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_for(lambda: process.poll() is not None or is_listening(port))
        assert process.poll() is None, process.stdout and process.stdout.read()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(600)


def is_listening(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0
