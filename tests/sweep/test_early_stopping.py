"""Early stopping adds seeds until every point is precise enough."""

import json
from pathlib import Path

import numpy as np
import pytest

from entigraph.storage.artifact import write_json
from entigraph.sweep.early_stopping import RULE_FILE, interval_half_width, reason_to_skip
from entigraph.sweep.job_table import job_file
from tests.conftest import TINY, Command

REPLACED = ("logger=none", "evaluation.closed_book.limit=8", "trainer.max_steps=6")
SWEEP = ["run", "-m", *(override for override in TINY if override not in REPLACED), "logger=none", "augmenter=raw"]
SWEEP += ["trainer.max_steps=1", "evaluation.closed_book.limit=40"]


def test_seeds_are_added_until_intervals_are_narrow(command_here: Command, tmp_path: Path) -> None:
    sweep = [*SWEEP, "tokens.budget=1000", "seed=0,1,2,3", "sweep.stop_at_half_width=0.5"]
    planned = command_here(*(argument for argument in sweep if argument != "run"))
    assert "up to 4 seeds, until ±0.5: up to 4 jobs" in planned.stdout, planned.stdout + planned.stderr
    result = command_here(*sweep)
    assert result.returncode == 0, result.stderr
    assert "3 of 3 runs are complete" in result.stdout
    assert "stopped after 3 of 4 seeds: the widest 90% interval of a point is ±0." in result.stdout
    (file,) = (tmp_path / "outputs" / "studies").glob("*/curve.json")
    curve = json.loads(file.read_text())
    assert sorted(run["seed"] for run in curve["runs"]) == [0, 1, 2]
    assert any("Seeds were added until" in note for note in curve["notes"])
    width = interval_half_width([run["accuracy"] for run in curve["runs"]], 0.9)
    assert f"±{width:.3f}, no wider than ±0.5" in result.stdout
    rerun = command_here(*sweep)
    assert rerun.returncode == 0 and "nothing to do: all 3 runs are complete" in rerun.stdout, rerun.stdout
    never = command_here(*sweep[:-1], "sweep.stop_at_half_width=0.0001")
    assert never.returncode == 0 and "4 of 4 runs are complete, 3 of them already complete" in never.stdout


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=0,1,2", "sweep.stop_at_half_width=2"], "sweep.stop_at_half_width must be a share between 0 and 1"),
        (["tokens.budget=1,2", "sweep.stop_at_half_width=0.1"], "no seeds are swept; set seed=0,1,2,3,4"),
    ],
)
def test_stopping_rule_without_effect_is_an_error(overrides: list[str], message: str, command_here: Command) -> None:
    result = command_here(*SWEEP, *overrides)
    assert result.returncode == 1 and message in result.stderr and "Traceback" not in result.stderr, result.stderr


@pytest.mark.parametrize(("points", "least"), [(1, 0.83), (4, 0.88)])
def test_intervals_that_stop_a_sweep_cover_less_often_than_nominal(points: int, least: float) -> None:
    rng = np.random.default_rng(0)
    for target in (0.5, 1.0, 2.0):  # in standard deviations of a run
        held = []
        for _ in range(300):
            runs = rng.standard_normal((points, 10))
            for seeds in range(3, 11):
                widths = [interval_half_width(list(point[:seeds]), 0.9) for point in runs]
                if max(widths) <= target:
                    break
            held += [abs(point[:seeds].mean()) <= width for point, width in zip(runs, widths, strict=True)]
        assert least - 0.04 < np.mean(held) < 0.94


def test_two_equal_seeds_do_not_stop_a_sweep() -> None:
    assert interval_half_width([0.5, 0.5], 0.9) == float("inf") and interval_half_width([0.5, 0.5, 0.5], 0.9) == 0


def write_round(folder: Path, accuracies: list[list[float]], half_width: float) -> None:
    """Writes finished jobs, a list of accuracies per seed, and the rule that stops their sweep."""
    size = len(accuracies[0])
    write_json(folder / RULE_FILE, {"jobs": size, "seeds": 5, "half_width": half_width, "confidence": 0.9})
    for number, accuracy in enumerate(value for seed in accuracies for value in seed):
        write_json(job_file(folder, number), {"state": "done", "accuracy": accuracy})


def test_without_a_rule_no_job_is_skipped(tmp_path: Path) -> None:
    assert reason_to_skip(tmp_path, 7) is None


def test_job_is_skipped_once_every_point_is_precise(tmp_path: Path) -> None:
    write_round(tmp_path, [[0.5, 0.2], [0.5, 0.2], [0.51, 0.2]], half_width=0.05)
    assert reason_to_skip(tmp_path, 2) is None and reason_to_skip(tmp_path, 4) is None, "after one and two seeds"
    assert "stopped after 3 of 5 seeds" in str(reason_to_skip(tmp_path, 6))
    assert reason_to_skip(tmp_path, 6) == reason_to_skip(tmp_path, 7), "all jobs of a round have the same reason"


def test_sweep_continues_while_any_point_is_imprecise(tmp_path: Path) -> None:
    write_round(tmp_path, [[0.5, 0.2], [0.5, 0.6], [0.5, 0.9]], half_width=0.05)
    assert reason_to_skip(tmp_path, 6) is None


def test_later_rounds_repeat_the_reason(tmp_path: Path) -> None:
    write_round(tmp_path, [[0.5], [0.5], [0.5]], half_width=0.05)
    write_json(job_file(tmp_path, 3), {"state": "not needed", "reason": "precise"})
    assert reason_to_skip(tmp_path, 4) == "precise"
