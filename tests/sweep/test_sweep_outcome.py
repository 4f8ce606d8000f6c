"""What a sweep makes of the status files of its jobs and of errors of sweepers."""

from io import StringIO
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from entigraph.storage.artifact import write_json
from entigraph.sweep.callback import STUDY_SWEEPER, StudyCallback
from entigraph.sweep.job_table import Sweep, job_file, render_table
from entigraph.sweep.multirun import is_explained_by_jobs, summarize, without_hydra


def sweep_of(folder: Path, *states: str) -> Sweep:
    for number, state in enumerate(states):
        status = {"job": f"job {number}", "overrides": [f"seed={number}"], "skipped": state == "done"}
        write_json(job_file(folder, number), {**status, "state": state})
    return Sweep(OmegaConf.create({}), [[f"seed={number}"] for number in range(len(states))], folder)


def test_callback_keeps_the_configured_sweeper() -> None:
    config = OmegaConf.create({"hydra": {"sweeper": {"_target_": "a.Sweeper", "n": 3}}})
    OmegaConf.set_struct(config, True)
    StudyCallback().on_multirun_start(config)
    assert config.hydra.sweeper._target_ == STUDY_SWEEPER and config.hydra.sweeper.sweeper.n == 3


def test_error_of_a_sweeper_counts_as_reported_if_a_job_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = sweep_of(tmp_path, "done", "done")
    assert not is_explained_by_jobs(ValueError("no result"), sweep)
    assert is_explained_by_jobs(type("FailedJobError", (Exception,), {})("a canceled job"), sweep)
    assert is_explained_by_jobs(ValueError("no result"), sweep_of(tmp_path, "done", "failed"))
    assert "ValueError: no result" in capsys.readouterr().err


def test_job_table_shows_markup_and_drops_control_characters(tmp_path: Path) -> None:
    statuses = [
        {
            "job": "evaluation=[closed_book]",
            "overrides": [],
            "state": "failed",
            "reason": "must end with [/INST]\x1b]0;x",
        },
        {"job": "evaluation=[open_book]", "overrides": [], "state": "running", "doing": "[/] [bold]"},
    ]
    for number, status in enumerate(statuses):
        write_json(job_file(tmp_path, number), status)
    console = Console(width=100, file=StringIO())
    console.print(render_table(Sweep(OmegaConf.create({"study": {"name": "[/x]"}}), None, tmp_path)))
    shown = console.file.getvalue()
    for text in (
        "[/x]: 0 of 2",
        "evaluation=[closed_book]",
        "evaluation=[open_book]",
        "with [/INST]]0;x",
        "[/] [bold]",
    ):
        assert text in shown


def test_summary_counts_runs_that_were_complete_before(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "done", "done", "failed")
    done = [status for status in sweep.statuses() if status["state"] == "done"]
    assert summarize(sweep, done, 3).startswith("2 of 3 runs are complete, 2 of them already complete (")
    assert summarize(sweep, done, 2).startswith("nothing to do: all 2 runs are complete")


def test_config_of_a_study_has_no_settings_of_hydra() -> None:
    config = OmegaConf.create({"hydra": {"job": 1}, "seed": 0})
    assert without_hydra(config) == {"seed": 0} and "hydra" in config
