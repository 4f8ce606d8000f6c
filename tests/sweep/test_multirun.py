"""Sweeps: a study is run, run again, run with a failing job, and killed at any point."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from entigraph.storage import locks
from entigraph.storage.artifact import read_manifest
from tests.commands import RunningCommand, run_command
from tests.conftest import Command, curve_of, study_of
from tests.polling import wait_for

SMOKE = ["run", "experiments=smoke", "logger=none"]
IN_TURN = [*SMOKE, "launcher=local"]  # needs no workers, which are slow to start


def manifests(outputs: Path) -> dict[Path, str]:
    stages = ("corpus", "tokenizer", "synthesis", "tokens", "training", "evaluation")
    return {file: file.read_text() for stage in stages for file in (outputs / stage).rglob("manifest.json")}


def test_sweep_writes_curve_and_prints_its_path(smoke: Path) -> None:
    printed = (smoke.parent / "printed.txt").read_text()
    assert "6 of 6 runs are complete (" in printed and str(study_of(smoke) / "curve.png") in printed
    assert len(manifests(smoke)) == 28, "each artifact once, whatever the number of jobs that share it"
    assert len(curve_of(smoke)["runs"]) == 6
    assert not list((smoke / ".sweeps").glob("*/job-*.json"))


def test_finished_sweep_has_nothing_to_do(smoke: Path, command_here: Command) -> None:
    before = manifests(smoke)
    manifest = (study_of(smoke) / "manifest.json").read_text()
    rerun = command_here("run", "experiments=smoke", f"paths.root={smoke}", "launcher=local")
    assert rerun.returncode == 0 and "nothing to do: all 6 runs are complete" in rerun.stdout, rerun.stderr
    assert manifests(smoke) == before and (study_of(smoke) / "manifest.json").read_text() == manifest


def test_sweep_plan_lists_each_folder_once(smoke: Path, command_here: Command) -> None:
    result = command_here("plan", "experiments=smoke", f"paths.root={smoke}")
    assert result.returncode == 0 and "28 folders" in result.stdout and "28 done" in result.stdout
    more = command_here("plan", "experiments=smoke", f"paths.root={smoke}", "sweep.token_budgets=[8000,4000,2000]")
    assert "9 jobs" in more.stdout and "28 done, 9 to do" in more.stdout
    assert re.search(r"training: 3 models to train, \d[\d,]+ tokens in total", more.stdout)
    assert re.search(r"time: about \d+\.\d\d h sequentially, .* device-hours\n", more.stdout)
    assert "B for the trained models" in more.stdout and "models to train" not in result.stdout
    other = command_here("plan", "experiments=smoke", f"paths.root={smoke}", "tokens.budget=8000,4000,2000")
    assert "9 jobs" in other.stdout
    assert "cost: none, no paid model is used" in result.stdout
    plan = command_here(
        "plan", "experiments=smoke", "llm=openai", "llm.model=gpt-4o-mini", "sweep.augmenters=[entigraph]"
    )
    assert plan.returncode == 0 and re.search(r"total: .* requests to send(.|\n)*\$\d+\.\d\d", plan.stdout), plan.stderr


def test_other_jobs_finish_if_one_fails(smoke: Path, command_here: Command, tmp_path: Path) -> None:
    outputs = untrained(smoke, tmp_path / "outputs")
    result = command_here(*IN_TURN, "tokens.budget=200,4000", "augmenter=raw,entigraph")
    assert result.returncode == 1
    assert (
        "failed: fictional-raw-200-seed0: tokens.budget: 200 tokens are fewer than the first text has" in result.stderr
    )
    assert "jobs failed; the same command tries those again" in result.stderr and "Traceback" not in result.stderr
    runs = curve_of(outputs)["runs"]
    assert [run["augmenter"] for run in runs if run["budget"] == 200] == ["entigraph"] and len(runs) == 7


def test_relative_root_is_resolved_from_working_directory(smoke: Path, command_here: Command, tmp_path: Path) -> None:
    outputs = untrained(smoke, tmp_path / "below" / "here", "raw-4000")
    one = ["paths.root=below/here", "sweep.augmenters=[raw]", "sweep.token_budgets=[4000]"]
    result = command_here(*IN_TURN, *one)
    assert result.returncode == 0, result.stderr
    assert checksums(outputs) == checksums(smoke) and [*tmp_path.iterdir()] == [tmp_path / "below"]
    rerun = command_here(*IN_TURN, *one)
    assert "nothing to do" in rerun.stdout, rerun.stderr


def test_stage_without_its_input_raises_one_error(command_here: Command) -> None:
    result = command_here("experiments=smoke", "logger=none", "stage=synthesis")
    assert result.returncode == 1 and result.stderr.count("error: ") == 1 == len(result.stderr.splitlines())
    assert "does not exist; run the stage that makes it" in result.stderr


def test_invalid_configuration_fails_before_first_job(command_here: Command, tmp_path: Path) -> None:
    result = command_here(*SMOKE, "optim.lr=-1")
    assert (
        result.returncode == 1
        and "optim.lr must be positive, got -1" in result.stderr
        and "Traceback" not in result.stderr
    )


def untrained(smoke: Path, root: Path, *runs: str) -> Path:
    """Returns a copy of the outputs without the models and scores of these runs."""
    shutil.copytree(smoke, root, symlinks=True)
    for run in runs:
        for stage in ("training", "evaluation"):
            for folder in root.glob(f"{stage}/fictional-{run}-*"):
                shutil.rmtree(folder)
    for manifest in root.glob("studies/*/manifest.json"):
        manifest.unlink()
    return root


def test_killed_sweep_resumes_without_repeating_finished_work(smoke: Path, tmp_path: Path) -> None:
    outputs = untrained(smoke, tmp_path / "outputs", "raw")
    sweep = [*SMOKE, "sweep.augmenters=[raw]"]
    finished = manifests(outputs)
    running = RunningCommand(*sweep, cwd=tmp_path, start_new_session=True)
    wait_for(lambda: len(manifests(outputs)) > len(finished), process=running, timeout_s=600)
    os.kill(running.pid, signal.SIGKILL)  # the parent alone: its workers must notice by themselves
    running.wait()
    wait_for_session_to_end(running.pid)
    before = manifests(outputs)
    result = run_command(*sweep, "launcher=local", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    after = manifests(outputs)
    assert {file: after[file] for file in before} == before, "what had finished was not made again"
    assert len(after) == 28 and len(before) > len(finished) and len(curve_of(outputs)["runs"]) == 6


def wait_for_session_to_end(session: int) -> None:
    """Workers of a killed sweep end by themselves."""

    def has_ended() -> bool:
        return not any(session == session_of(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())

    wait_for(has_ended, interval_s=0.2)


def session_of(process: int) -> int | None:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[3])


@pytest.mark.slow
def test_job_that_always_kills_its_worker_is_reported_alone(smoke: Path, tmp_path: Path) -> None:
    """As if the system killed the process that uses the most memory. A job that runs at the same time is retried."""
    outputs = untrained(smoke, tmp_path / "outputs", "entigraph")
    sweep = [*SMOKE, "sweep.augmenters=[entigraph]"]
    running = RunningCommand(*sweep, cwd=tmp_path)
    kills: list[int] = []

    def kill_trainings() -> bool:
        for worker in workers_of(running.pid):
            if holds_lease(worker, outputs, "training-fictional-entigraph-8000"):
                os.kill(worker, signal.SIGKILL)
                kills.append(worker)
        return running.poll() is not None

    wait_for(kill_trainings, timeout_s=600, interval_s=0.01)
    printed, errors = running.communicate(timeout=600)
    assert running.returncode == 1 and "Traceback" not in errors and len(kills) >= 2, errors
    assert "failed: fictional-entigraph-8000-seed0: its process died" in errors and errors.count("failed: ") == 1, (
        errors
    )
    assert len(curve_of(outputs)["runs"]) == 5
    rerun = run_command(*sweep, "launcher=local", cwd=tmp_path)
    assert rerun.returncode == 0 and len(curve_of(outputs)["runs"]) == 6, rerun.stderr


def test_sweep_over_another_key_analyzes_each_study(smoke: Path, command_here: Command, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(smoke, root)
    budgets = ["sweep.augmenters=[raw]", "sweep.token_budgets=[8000]"]
    result = command_here(*IN_TURN, f"paths.root={root}", *budgets, "data.replay_rate=0.1,0.3")
    assert result.returncode == 0, result.stderr
    assert "fictional-raw-8000-seed0 data.replay_rate=0.3: done" in result.stdout, (
        "jobs of the same name are distinguished"
    )
    curves = [json.loads(file.read_text()) for file in (root / "studies").glob("smoke-*/curve.json")]
    assert sorted(len(curve["runs"]) for curve in curves) == [1, 6]


def workers_of(parent: int) -> list[int]:
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(child) for child in children]


def holds_lease(process: int, outputs: Path, artifact: str) -> bool:
    """Returns whether the process builds an artifact whose stage and name start like this."""
    leases = [locks.read_current(folder)[1] for folder in (outputs / ".locks").glob(f"{artifact}*")]
    return any(locks.decode_lease(lease).get("pid") == process for lease in leases if not locks.has_ended(lease))


def test_adding_a_seed_keeps_finished_runs(smoke: Path, command_here: Command, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(smoke, root)
    before = manifests(root)
    one = ["sweep.seeds=[1]", "sweep.augmenters=[raw]", "sweep.token_budgets=[8000]"]
    result = command_here(*IN_TURN, f"paths.root={root}", *one)
    assert result.returncode == 0, result.stderr
    assert {file: text for file, text in manifests(root).items() if file in before} == before
    curve = json.loads((study_of(root) / "curve.json").read_text())
    assert sorted({run["seed"] for run in curve["runs"]}) == [0, 1] and len(curve["runs"]) == 7


def test_only_failed_job_is_retried(smoke: Path, command_here: Command, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(smoke, root, symlinks=True)
    jobs = [*IN_TURN, f"paths.root={root}", "sweep.augmenters=[raw]", "stage=tokens"]
    result = command_here(*jobs, "sweep.token_budgets=[8000,6000,200]")
    assert result.returncode == 1 and "2 of 3 runs are complete" in result.stdout, result.stdout
    assert result.stderr.count("failed: ") == 1 and "failed: fictional-raw-200-seed0" in result.stderr
    before = {file: file.stat().st_mtime_ns for file in manifests(root)}
    rerun = command_here(*jobs, "sweep.token_budgets=[8000,6000,200]")
    assert rerun.returncode == 1 and rerun.stderr == result.stderr
    assert {file: file.stat().st_mtime_ns for file in manifests(root)} == before
    more = command_here(*jobs, "sweep.token_budgets=[8000,3000]")
    assert more.returncode == 0, more.stderr
    assert len(manifests(root)) == len(before) + 1, "a new budget adds only its tokens"


def without(root: Path, stage: str) -> list[str]:
    """Deletes the raw augmenter's artifacts from a stage on. Returns the command that makes them again."""
    stages = ("corpus", "synthesis", "tokens", "training", "evaluation")
    for later in stages[stages.index(stage) :] if stage in stages else ():
        for folder in root.glob(f"{later}/fictional-*"):
            if later == "corpus" or "-raw" in folder.name:
                shutil.rmtree(folder)
    for manifest in root.glob("studies/*/manifest.json"):
        manifest.unlink()
    return [*SMOKE, f"paths.root={root}", "sweep.augmenters=[raw]"]


def checksums(root: Path) -> dict[str, object]:
    """Returns the checksums of a study's weights and answers."""
    folders = [file.parent for stage in ("training", "evaluation") for file in root.glob(f"{stage}/*/manifest.json")]
    pattern = re.compile(r"model\.safetensors|answers-.*\.jsonl")
    files = [(folder.name, read_manifest(folder)["files"]) for folder in folders]
    return {
        f"{name}/{file}": entry["sha256"] for name, own in files for file, entry in own.items() if pattern.search(file)
    }


def test_concurrent_sweeps_share_work(smoke: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(smoke, root, symlinks=True)
    command = without(root, "tokens")
    both = [RunningCommand(*command, "launcher=local", cwd=tmp_path) for _ in range(2)]
    for sweep in both:
        printed, errors = sweep.communicate(timeout=600)
        assert sweep.returncode == 0 and "2 of 2 runs are complete" in printed, errors
    assert checksums(root) == checksums(smoke) and len(manifests(root)) == 28


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["corpus", "synthesis", "tokens", "training", "evaluation", "analysis"])
def test_sweep_killed_in_any_stage_resumes(stage: str, smoke: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(smoke, root, symlinks=True)
    command = without(root, stage)
    begun = {"corpus": "corpus/fictional-*", "analysis": ".locks/studies-*"}.get(stage, f"{stage}/fictional-raw-*")
    for leases in root.glob(".locks/studies-*"):
        shutil.rmtree(leases)
    before = {*root.glob(begun)}
    running = RunningCommand(*command, cwd=tmp_path, start_new_session=True)
    wait_for(lambda: {*root.glob(begun)} != before, process=running, timeout_s=600, interval_s=0.002)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    wait_for_session_to_end(running.pid)
    result = run_command(*command, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert checksums(root) == checksums(smoke) and len(curve_of(root)["runs"]) == 6
