"""Two nodes of one device each, on this machine: torchrun by itself, and srun by what it tells its tasks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from entigraph.training.launch import free_port
from tests.commands import run_command
from tests.conftest import TINY

SHARED = [*TINY, "trainer=fsdp", "trainer.accelerator=cpu", "data.batch_size=4"]
TWO_NODES = ["stage=training", "trainer.num_nodes=2", "trainer.devices=1"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outputs folder with the tokens to train on."""
    folder = tmp_path_factory.mktemp("tokens")
    for stage in ("corpus", "synthesis", "tokens"):
        result = run_command(*SHARED, *TWO_NODES, f"stage={stage}", cwd=folder)
        assert result.returncode == 0, result.stderr
    return folder / "outputs"


def torchrun(node: int, port: int) -> tuple[list[str], dict[str, str]]:
    where = ["--nnodes=2", "--nproc-per-node=1", f"--node-rank={node}", "--master-addr=127.0.0.1"]
    return ["-m", "torch.distributed.run", *where, f"--master-port={port}"], {}


def srun(node: int, port: int) -> tuple[list[str], dict[str, str]]:
    """The environment of a task, by SLURM's documentation of srun; there is no SLURM here."""
    variables = {"JOB_ID": port, "NTASKS": 2, "NTASKS_PER_NODE": 1, "JOB_NUM_NODES": 2, "STEP_NUM_TASKS": 2}
    task_variables = {"PROCID": node, "LOCALID": 0, "NODEID": node, "JOB_NAME": "cpt", "NODELIST": "localhost"}
    return [], {f"SLURM_{name}": str(value) for name, value in {**variables, **task_variables}.items()}


@pytest.mark.parametrize("launcher", [torchrun, srun])
def test_two_nodes_train_one_model(launcher, tokens: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(tokens, tmp_path / "outputs", symlinks=True)
    port, nodes = free_port(), []
    for node in range(2):
        command, variables = launcher(node, port)
        nodes.append(
            subprocess.Popen(
                [sys.executable, *command, "-m", "entigraph", *SHARED, *TWO_NODES],
                cwd=tmp_path,
                env={**os.environ, **variables},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    printed = [node.communicate(timeout=600)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], printed
    (training,) = (tmp_path / "outputs" / "training").iterdir()
    counts = json.loads((training / "manifest.json").read_text())["counts"]
    assert counts["devices"] == 2
    steps = [json.loads(line)["step"] for line in (training / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 6 and len(steps) == len({*steps}), "one rank writes for both"
    assert "steps of" not in printed[1], "and tells for both"
