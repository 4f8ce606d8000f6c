"""A real vLLM on a CPU, in the environment of `make vllm-env`: its location, its options, and a server."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PYTHON = Path(os.environ.get("VLLM_PYTHON", Path(__file__).parents[1] / ".venv-vllm" / "bin" / "python")).absolute()
needs_vllm = [
    pytest.mark.vllm,
    pytest.mark.skipif(not PYTHON.exists(), reason=f"no vLLM: {PYTHON} is not there; make vllm-env"),
]
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
MEMORY = 0.1  # on CPUs too, the fraction of memory that the engine may use
EAGER = {"enforce_eager": True}  # compiling would take longer than all answers of a test


@contextmanager
def serving(model: Path, log: Path, *arguments: str) -> Iterator[str]:
    """Yields the address of a vLLM server. It serves the model under its folder's name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"--model {model} --served-model-name {model.name} --host 127.0.0.1 --port {port} --dtype float32"
    options += f" --gpu-memory-utilization {MEMORY} --enforce-eager"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", *options.split(), *arguments],
            env={**os.environ, **CPU},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 300
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        ended = process.poll()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert ended is None, f"the server ended by itself: {log.read_text()[-3000:]}"


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
