"""Seeds that are added until the points are known narrowly enough."""

import json
from pathlib import Path

import numpy as np
import pytest

from entigraph.sweep.early_stopping import half_width
from tests.conftest import TINY, Command

OWN = ("logger=none", "evaluation.closed_book.limit=8", "trainer.max_steps=6")
SWEEP = ["run", "-m", *(one for one in TINY if one not in OWN), "logger=none", "augmenter=raw"]
SWEEP += ["trainer.max_steps=1", "evaluation.closed_book.limit=40"]


def test_seeds_are_added_until_the_intervals_are_narrow(command: Command, tmp_path: Path) -> None:
    sweep = [*SWEEP, "tokens.budget=1000,1500", "seed=0,1,2,3", "sweep.stop_at_half_width=0.5"]
    planned = command(*(one for one in sweep if one != "run"))
    assert "up to 4 seeds, until ±0.5: up to 8 jobs" in planned.stdout, planned.stdout + planned.stderr
    done = command(*sweep)
    assert done.returncode == 0, done.stderr
    assert "6 of 6 runs are complete" in done.stdout
    assert "stopped after 3 of 4 seeds: the widest 90% interval of a point is ±0." in done.stdout
    (file,) = (tmp_path / "outputs" / "studies").glob("*/curve.json")
    curve = json.loads(file.read_text())
    assert sorted(run["seed"] for run in curve["runs"]) == [0, 0, 1, 1, 2, 2]
    assert any("Seeds were added until" in note for note in curve["notes"])
    widest = max(
        half_width([run["accuracy"] for run in curve["runs"] if run["budget"] == at], 0.9) for at in (1000, 1500)
    )
    assert f"±{widest:.3f}, no wider than ±0.5" in done.stdout
    again = command(*sweep)
    assert again.returncode == 0 and "nothing to do: all 6 runs are complete" in again.stdout, again.stdout
    never = command(*sweep[:-1], "sweep.stop_at_half_width=0.0001")
    assert never.returncode == 0 and "8 of 8 runs are complete, 6 of them from before" in never.stdout


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["seed=0,1,2", "sweep.stop_at_half_width=2"], "sweep.stop_at_half_width: 2 found, a share between 0 and 1"),
        (["tokens.budget=1,2", "sweep.stop_at_half_width=0.1"], "none are swept; give seed=0,1,2,3,4"),
    ],
)
def test_a_rule_that_can_stop_nothing_is_refused(given: list[str], told: str, command: Command) -> None:
    done = command(*SWEEP, *given)
    assert done.returncode == 1 and told in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(("points", "least"), [(1, 0.83), (4, 0.88)])
def test_an_interval_that_ended_a_sweep_holds_a_little_less_often_than_it_says(points: int, least: float) -> None:
    rng = np.random.default_rng(0)
    for target in (0.5, 1.0, 2.0):  # of the standard deviation of a run
        held = []
        for _ in range(300):
            runs = rng.standard_normal((points, 10))
            for seeds in range(3, 11):
                widths = [half_width(list(point[:seeds]), 0.9) for point in runs]
                if max(widths) <= target:
                    break
            held += [abs(point[:seeds].mean()) <= width for point, width in zip(runs, widths, strict=True)]
        assert least - 0.04 < np.mean(held) < 0.94


def test_two_seeds_that_agree_end_nothing() -> None:
    assert half_width([0.5, 0.5], 0.9) == float("inf") and half_width([0.5, 0.5, 0.5], 0.9) == 0
