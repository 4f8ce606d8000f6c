"""Cluster launchers, through submitit's local executor: same results, and no lost work if a job is preempted."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from hydra import compose

from entigraph.config.composition import hydra_initialized
from entigraph.pipeline.registration import register_config
from entigraph.runtime.processes import Preempted, save_before_requeue
from entigraph.storage import locks
from entigraph.storage.artifact import artifact_folder
from tests.commands import RunningCommand
from tests.conftest import Command
from tests.polling import wait_for

ONE = ["run", "experiments=smoke", "logger=none", "launcher=submitit_local", "sweep.augmenters=[raw]"]


def weights(outputs: Path, name: str) -> str:
    (manifest,) = outputs.glob(f"training/{name}-*/manifest.json")
    return str(json.loads(manifest.read_text())["files"]["model/model.safetensors"]["sha256"])


def test_submitit_jobs_train_the_same_model(smoke: Path, command: Command, tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    shutil.copytree(smoke, root)
    for folder in [*root.glob("training/fictional-raw-4000-*"), *root.glob("evaluation/fictional-raw-4000-*")]:
        shutil.rmtree(folder)
    process = command(*ONE, "sweep.token_budgets=[4000]")
    assert process.returncode == 0 and "1 of 1 runs are complete (" in process.stdout, process.stdout + process.stderr
    name = "fictional-raw-4000-seed0"
    assert weights(root, name) == weights(smoke, name)


@pytest.mark.slow
def test_preempted_job_saves_and_is_requeued(smoke: Path, tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    shutil.copytree(smoke, root)
    long = ["sweep.token_budgets=[4000]", "trainer.max_steps=400", "trainer.checkpoint_every_n_steps=100000"]
    sweep = RunningCommand(*ONE, *long, cwd=tmp_path)
    (metrics, *_) = wait_for(
        lambda: [file for file in root.glob("training/*/metrics.jsonl") if not is_complete(file)], process=sweep
    )
    worker = holder(locks.lease_folder(artifact_folder(metrics.parent), root))
    os.kill(worker, signal.SIGUSR2)
    (saved,) = wait_for(lambda: list(metrics.parent.glob("checkpoints/step-*")), process=sweep)
    assert 0 < int(saved.name.removeprefix("step-")) < 400
    printed, errors = sweep.communicate(timeout=600)
    assert sweep.returncode == 0 and "1 of 1 runs are complete" in printed, errors
    assert not (Path("/proc") / str(worker)).exists(), "the job was started again in another process"
    finished = artifact_folder(metrics.parent) / metrics.name
    assert [json.loads(line)["step"] for line in finished.read_text().splitlines()][-1] == 400


def test_job_without_checkpoint_is_requeued_at_once() -> None:
    """A training job is requeued only after it has saved."""
    came: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append("bypassed"))
    queue = signal.signal(signal.SIGUSR2, lambda *_: came.append("queued"))
    try:
        with save_before_requeue():
            os.kill(os.getpid(), signal.SIGUSR2)
        assert came[0] == "queued"
        came.clear()
        with pytest.raises(Preempted), save_before_requeue():
            signal.signal(signal.SIGTERM, lambda *_: came.append("saved"))
            os.kill(os.getpid(), signal.SIGUSR2)
            raise Preempted
        assert came == ["saved", "queued"]
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGUSR2, queue)


def test_slurm_without_sbatch_raises_one_error(command_here: Command) -> None:
    if shutil.which("sbatch"):
        pytest.skip("this machine has Slurm")
    process = command_here("run", "experiments=smoke", "launcher=slurm")
    assert process.returncode == 1 and "sbatch not found" in process.stderr and "Traceback" not in process.stderr
    assert command_here("plan", "experiments=smoke", "launcher=slurm").returncode == 0


@pytest.mark.parametrize(("trainer", "gpus"), [("cpu", None), ("gpu", 1), ("fsdp", 8)])
def test_slurm_requests_the_gpus_of_the_trainer(trainer: str, gpus: int | None) -> None:
    register_config()
    with hydra_initialized():
        config = compose("config", ["launcher=slurm", f"trainer={trainer}"], return_hydra_config=True)
        assert config.hydra.launcher.gpus_per_node == gpus


def is_complete(file: Path) -> bool:
    return (file.parent / "manifest.json").exists()


def holder(leases: Path) -> int:
    """Returns the process that holds a lease."""
    _, content = locks.read_current(leases)
    return int(locks.decode_lease(content)["pid"])
