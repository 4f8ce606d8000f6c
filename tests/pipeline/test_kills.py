"""A run that is killed many times, in every stage and at random times, ends like one that is not killed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from entigraph.llm.response_cache import ResponseCache, response_cache_path
from entigraph.storage.artifact import read_manifest
from tests.conftest import TINY
from tests.mock_llm_server import spawned
from tests.polling import wait_for

KILLS = {"corpus": 4, "tokenizer": 3, "synthesis": 10, "tokens": 4, "training": 6, "evaluation": 3}
CONCURRENCY = 8
SHORTEST_STAGE_S = 0.3  # the kill is at most this long after the beginning of a stage, or as long as the stage takes
OPTIONS = [
    *TINY,
    "llm=openai",
    "llm.model=mock-llm",
    f"llm.concurrency={CONCURRENCY}",
    "corpus.documents=2",
    "synthesis.token_budget=60000",
    "trainer.max_steps=60",
    "trainer.checkpoint_every_n_steps=5",
]


class KilledRun:
    """A run under a root. `seconds`: how long each stage took when it was not killed."""

    def __init__(self, root: Path, server: Any, seconds: dict[str, float], seed: int) -> None:
        self.root, self.server, self.seconds, self.random = root, server, seconds, random.Random(seed)
        self.cached: set[bytes] = set()
        self.kills = self.lost_in_flight = 0

    def kill_in(self, stage: str) -> None:
        """Kills the run at a random time after the stage begins; an artifact that is complete is built again."""
        for manifest in self.root.glob(f"{stage}/*/manifest.json"):
            shutil.rmtree(manifest.parent)
        before = self.leases(stage)
        process = start(self.root, self.server)
        wait_for(lambda: self.leases(stage) > before, process=process, timeout_s=600, interval_s=0.002)
        time.sleep(self.random.uniform(0, max(self.seconds[stage], SHORTEST_STAGE_S)))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            self.kills += 1
        process.wait()
        self.check_answers()

    def leases(self, stage: str) -> int:
        return sum(file.name.isdigit() for file in self.root.glob(f".locks/{stage}-*/*"))

    def check_answers(self) -> None:
        """Asserts that no cached answer was lost, and counts those that the server sent and the kill prevented."""
        wait_for(lambda: self.server.stats()["in_flight"] == 0)
        cached, before = answers_in(self.root), self.lost_in_flight
        assert cached >= self.cached
        self.cached, self.lost_in_flight = cached, self.server.stats()["ok"] - len(cached)
        assert 0 <= self.lost_in_flight - before <= CONCURRENCY


def start(root: Path, server: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "entigraph", "run", *OPTIONS, f"llm.base_url={server.base_url}", f"paths.root={root}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def complete(root: Path, server: Any) -> None:
    process = start(root, server)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed


def answers_in(root: Path) -> set[bytes]:
    return {answer.key for answer in ResponseCache(response_cache_path(root)).stored_answers(None)}


def manifests(root: Path) -> dict[str, dict[str, Any]]:
    return {stage: read_manifest(next(root.glob(f"{stage}/*/manifest.json")).parent) for stage in KILLS}


def checksums(root: Path) -> dict[str, str]:
    """Returns the checksums of texts, weights and answers."""
    return {
        f"{stage}/{file}": entry["sha256"]
        for stage, manifest in manifests(root).items()
        for file, entry in manifest["files"].items()
        if file.endswith((".parquet", ".bin", ".safetensors")) or file.startswith("answers-")
    }


@pytest.mark.slow
def test_killed_run_loses_and_repeats_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("KILL_SEED", random.randrange(10**6)))
    print(f"KILL_SEED={seed}")
    with spawned(latency_s=0.2, jitter_s=0.1, output_tokens=200) as other:
        complete(tmp_path / "unbroken", other)
    seconds = {stage: manifest["seconds"] for stage, manifest in manifests(tmp_path / "unbroken").items()}
    with spawned(latency_s=0.2, jitter_s=0.1, output_tokens=200) as server:
        run = KilledRun(tmp_path / "killed", server, seconds, seed)
        for stage, kills in KILLS.items():
            for _ in range(kills):
                run.kill_in(stage)
        complete(run.root, server)
        run.check_answers()
        duplicates = server.stats()["duplicates"]
    print(f"{run.kills} kills, {run.lost_in_flight} answers in flight lost, {duplicates} requests repeated")
    assert run.kills >= 0.8 * sum(KILLS.values())
    assert duplicates <= run.lost_in_flight
    assert checksums(run.root) == checksums(tmp_path / "unbroken") and len(checksums(run.root)) >= 4
