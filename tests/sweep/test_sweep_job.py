"""One job of a sweep: its outcome is a status file and a value for the sweeper, also when it fails."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from entigraph.config.schema import Stage
from entigraph.corpus.readers.fictional_corpora import FictionalCorpus
from entigraph.pipeline import execution
from entigraph.pipeline.loading import load_run
from entigraph.runtime.progress import SilentProgress
from entigraph.storage.artifact import write_json
from entigraph.sweep.early_stopping import RULE_FILE
from entigraph.sweep.job_table import job_file
from entigraph.sweep.recovery import SweepState
from entigraph.sweep.sweep_job import is_sweep_job, run_sweep_job
from tests.conftest import TINY
from tests.pipeline.finished_stages import finish

Job = Callable[..., DictConfig]


@dataclass(frozen=True, kw_only=True)
class BrokenReader(FictionalCorpus):
    """A component with a bug."""

    version: ClassVar[str] = "1"

    def read(self) -> Any:
        raise ZeroDivisionError("a bug")


@pytest.fixture
def job(hydra_app: None, tmp_path: Path) -> Iterator[Job]:
    """Returns the config of a job as a launcher composes it, and makes Hydra's settings those of the job."""

    def make(*overrides: str, number: int = 0, mode: RunMode = RunMode.MULTIRUN) -> DictConfig:
        given = [*TINY, f"paths.root={tmp_path / 'outputs'}", *overrides]
        config = compose("config", [*given, f"hydra.sweep.dir={tmp_path}"], return_hydra_config=True)
        with open_dict(config):
            config.hydra.mode = mode
            config.hydra.job.num = number
            config.hydra.overrides.task = given
        HydraConfig.instance().set_config(config)
        return without_hydra(config)

    SweepState().save(tmp_path)
    before = HydraConfig.instance().cfg
    yield make
    HydraConfig.instance().cfg = before


def without_hydra(config: DictConfig) -> DictConfig:
    plain = config.copy()
    with open_dict(plain):
        plain.pop("hydra")
    return plain


def status_of(folder: Path, number: int = 0) -> dict[str, Any]:
    return dict(json.loads(job_file(folder, number).read_text()))


def test_only_jobs_of_a_sweep_are_sweep_jobs(job: Job) -> None:
    job()
    assert is_sweep_job()
    job(mode=RunMode.RUN)
    assert not is_sweep_job()


def test_stage_is_run_once_and_skipped_when_complete(job: Job, tmp_path: Path) -> None:
    config = job("stage=corpus")
    assert run_sweep_job(config) is None, "a stage before the evaluation has no accuracy"
    status = status_of(tmp_path)
    assert (status["state"], status["skipped"]) == ("done", False) and "stage=corpus" in status["overrides"]
    assert status["job"] == load_run(config).readable_name and load_run(config).artifacts.corpus.complete
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "outputs" / "corpus").rglob("*")}
    run_sweep_job(config)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "outputs" / "corpus").rglob("*")} == before


def test_sweeper_receives_the_accuracy_of_a_finished_run(job: Job, tmp_path: Path) -> None:
    config = job()
    run = load_run(config)
    execution.run_stage(run, Stage.corpus, SilentProgress())
    finish(run, "tokenizer", "synthesis", "tokens", "training", synthetic_tokens=3000)
    finish(run, "evaluation", closed_book={"accuracy": 0.625, "chance": 0.5})
    accuracy = run_sweep_job(config)
    status = status_of(tmp_path)
    assert status["state"] == "done" and status["skipped"], status
    assert accuracy == status["accuracy"] == 0.625
    assert status["synthetic_tokens"] == 3000 and list((Path(status["study"]) / "runs").glob("*.json"))


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("optim.lr=-1", "optim.lr must be positive, got -1"),
        ("stage=tokens", "run the stage that makes it"),
        ("corpus._target_=tests.sweep.test_sweep_job.BrokenReader", "unexpected ZeroDivisionError: a bug"),
    ],
)
def test_failure_is_a_status_and_no_exception(
    override: str, reason: str, job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sweep_job(job(override, *(["stage=corpus"] if "corpus." in override else []))) is None
    status = status_of(tmp_path)
    assert status["state"] == "failed" and reason in status["reason"]
    assert ("Traceback" in capsys.readouterr().err) == ("unexpected" in reason), "only a bug prints a traceback"


def test_job_that_killed_its_process_twice_is_not_run_again(job: Job, tmp_path: Path) -> None:
    config = job("stage=corpus")
    SweepState(culprits=[" ".join(HydraConfig.get().overrides.task)]).save(tmp_path)
    assert run_sweep_job(config) is None
    assert status_of(tmp_path)["reason"].startswith("its process died")
    assert not load_run(config).artifacts.corpus.complete


def test_job_of_a_round_that_is_not_needed_is_skipped(job: Job, tmp_path: Path) -> None:
    write_json(tmp_path / RULE_FILE, {"jobs": 1, "seeds": 5, "half_width": 0.05, "confidence": 0.9})
    for number in range(3):
        write_json(job_file(tmp_path, number), {"state": "done", "accuracy": 0.5})
    assert run_sweep_job(job("seed=3", number=3)) is None
    status = status_of(tmp_path, 3)
    assert status["state"] == "not needed" and "stopped after 3 of 5 seeds" in status["reason"]
    assert not (tmp_path / "outputs").exists()


def test_interrupt_is_no_result_of_a_job(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(run: Any, stage: Stage, progress: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(execution, "run_stage", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_sweep_job(job("stage=corpus"))
    assert status_of(tmp_path)["state"] == "running", "the sweep reports it as not finished"
