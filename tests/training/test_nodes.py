"""Two nodes of one device each, on this machine: torchrun, and srun simulated through its environment variables."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from entigraph.training.launch import free_port
from tests.commands import RunningCommand, run_command
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


def torchrun(node: int, port: int, cwd: Path) -> RunningCommand:
    where = ["--nnodes=2", "--nproc-per-node=1", f"--node-rank={node}", "--master-addr=127.0.0.1"]
    command = [*where, f"--master-port={port}", "-m", "entigraph", *SHARED, *TWO_NODES]
    return RunningCommand(*command, cwd=cwd, module="torch.distributed.run")


def srun(node: int, port: int, cwd: Path) -> RunningCommand:
    """The environment of a task, by SLURM's documentation of srun; there is no SLURM here."""
    variables = {"JOB_ID": port, "NTASKS": 2, "NTASKS_PER_NODE": 1, "JOB_NUM_NODES": 2, "STEP_NUM_TASKS": 2}
    task_variables = {"PROCID": node, "LOCALID": 0, "NODEID": node, "JOB_NAME": "cpt", "NODELIST": "localhost"}
    environment = {f"SLURM_{name}": str(value) for name, value in {**variables, **task_variables}.items()}
    return RunningCommand(*SHARED, *TWO_NODES, cwd=cwd, environment=environment)


@pytest.mark.parametrize("launcher", [pytest.param(torchrun, marks=pytest.mark.slow), srun])
def test_two_nodes_train_one_model(launcher: Callable[..., RunningCommand], tokens: Path, tmp_path: Path) -> None:
    shutil.copytree(tokens, tmp_path / "outputs", symlinks=True)
    port = free_port()
    nodes = [launcher(node, port, tmp_path) for node in range(2)]
    printed = ["".join(node.communicate(timeout=600)) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], printed
    (training,) = (tmp_path / "outputs" / "training").iterdir()
    counts = json.loads((training / "manifest.json").read_text())["counts"]
    assert counts["devices"] == 2
    steps = [json.loads(line)["step"] for line in (training / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 6 and len(steps) == len({*steps}), "one rank writes for both"
    assert "steps of" not in printed[1], "only rank 0 prints progress"
