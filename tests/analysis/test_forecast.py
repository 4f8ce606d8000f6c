import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bands import CASES, coverage
from entigraph.analysis.scaling.bootstrap import Block
from entigraph.analysis.scaling.comparison import comparisons
from entigraph.analysis.scaling.forecast import forecasts
from entigraph.analysis.settings import ScalingCurve
from entigraph.storage.artifact import write_json
from tests.analysis.studies import QUESTIONS, a_run, a_study

FAST = ScalingCurve(resamples=200)
BUDGETS = tuple(12_500 * 2**power for power in range(7))


def study(root: Path, accuracy: Callable[[int], float], augmenter: str = "entigraph", seeds: int = 2) -> list[Any]:
    rng = np.random.default_rng(0)
    return [a_run(root, augmenter, budget, seed, accuracy(budget), rng) for seed in range(seeds) for budget in BUDGETS]


def test_bands_hold_what_they_say_in_simulation() -> None:
    """Between 85 and 95 of 100, give or take the noise of 150 studies (2.5 points)."""
    for name in ("2 seeds, 8 documents", "2 seeds, noisy runs"):
        curve, run = coverage(CASES[name], 150)
        assert all(0.82 <= share <= 0.97 for share in (*curve, *run)), (name, curve, run)


def test_documents_are_drawn_whole() -> None:
    """Where all questions of a document are right or all wrong, forty questions are worth no more than one."""
    documents = np.repeat(np.arange(50), 40)
    correct = (documents % 2 == 0).astype(float)[None]
    whole = Block(1, np.array([0]), correct, documents).deviations(2000).std()
    single = Block(1, np.array([0]), correct, np.zeros(2000)).deviations(2000).std()
    assert whole == pytest.approx(math.sqrt(0.25 / 50), rel=0.08)
    assert single == pytest.approx(math.sqrt(0.25 / 2000), rel=0.08)


def test_the_form_that_made_the_runs_is_chosen(tmp_path: Path) -> None:
    (line,) = forecasts(study(tmp_path / "line", lambda n: -0.8 + 0.1 * math.log(n)), FAST)
    assert line["chosen"] == "log_linear"
    (flat,) = forecasts(study(tmp_path / "flat", lambda n: min(0.85, -2.3 + 0.26 * math.log(n))), FAST)
    assert flat["chosen"] in {"log_then_flat", "exponentials_1"}
    assert flat["curve"]["accuracy"][-1] < 0.95, "a ceiling that was seen is foretold"
    with_aicc = [form for form in flat["forms"] if "aicc" in form]
    assert len(with_aicc) == 6 and flat["forms"][-1]["missing"] == "7 parameters need more than 7 budgets"


def test_forecasts_are_held_against_what_was_measured_later(tmp_path: Path) -> None:
    (found,) = forecasts(study(tmp_path, lambda n: -0.8 + 0.1 * math.log(n)), FAST)
    lines = [held for held in found["held_out"] if held["form"] == "log_linear"]
    assert [(held["fitted_to"], held["times"]) for held in lines] == [
        (25_000, 2), (25_000, 4), (50_000, 2), (50_000, 4), (100_000, 2), (100_000, 4), (200_000, 2), (200_000, 4),
        (400_000, 2),
    ]  # fmt: skip
    for held in lines:
        assert held["error"] == pytest.approx(held["predicted"] - held["measured"])
        assert held["runs"] == 2 and 0 <= held["inside"] <= 2
    assert sum(held["inside"] for held in lines) >= 14


def test_a_curve_that_turns_is_a_forecast_that_misses(tmp_path: Path) -> None:
    """Flat, then steep: the line fitted before the turn foretells too little, and the table says so."""
    (found,) = forecasts(study(tmp_path, lambda n: 0.3 if n < 200_000 else 0.9), FAST)
    missed = [held for held in found["held_out"] if held["fitted_to"] == 100_000 and held["form"] == "log_linear"]
    assert all(held["error"] < -0.3 and held["inside"] == 0 for held in missed) and len(missed) == 2


def priced(runs: list[Any], dollars: float) -> list[Any]:
    """With a synthesis whose manifest says what a million tokens cost."""
    for run in runs:
        folder = run.root / "synthesis" / run.augmenter
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "manifest.json", {"counts": {"tokens": 1_000_000, "dollars": dollars}})
        run.member["synthesis"] = f"synthesis/{run.augmenter}"
    return runs


def test_tokens_to_a_target_and_their_cost(tmp_path: Path) -> None:
    runs = priced(study(tmp_path, lambda n: -0.8 + 0.1 * math.log(n), seeds=3), 20.0)
    (found,) = forecasts(runs, ScalingCurve(resamples=300, targets=[0.4, 0.99]))
    near, far = found["targets"]
    assert near["tokens"] == pytest.approx(math.exp(12), rel=0.35)
    assert near["low"] < near["tokens"] < near["high"] and near["share_of_draws"] == 1
    assert near["dollars"] == [pytest.approx(near[key] * 20e-6) for key in ("tokens", "low", "high")]
    assert far["tokens"] is None and far["high"] is None and far["dollars"][0] is None, "beyond the forecast: no number"
    unpriced = study(tmp_path / "free", lambda n: -0.8 + 0.1 * math.log(n))
    assert forecasts(unpriced, FAST)[0]["targets"][0]["dollars"] is None, "an unknown price is no price"


def test_what_cannot_be_foretold_says_why(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one = [a_run(tmp_path / "one", "raw", 1000, 0, 0.3, rng)]
    assert forecasts(one, FAST)[0]["missing"] == "budgets: 1; a line and a residual need three"
    same = [a_run(tmp_path / "same", "raw", budget, 0, 1.0, rng) for budget in (1000, 2000, 4000)]
    assert forecasts(same, FAST)[0]["missing"] == "every run has the same accuracy"
    (falling,) = forecasts(a_study(tmp_path / "falling", 2.0, -0.14), ScalingCurve(resamples=200, targets=[0.95]))
    assert falling["targets"][0]["tokens"] is None and falling["curve"]["accuracy"][-1] < 0.2


def test_the_same_study_gives_the_same_numbers(tmp_path: Path) -> None:
    runs = a_study(tmp_path, -1.0, 0.14)
    assert json.dumps(forecasts(runs, FAST)) == json.dumps(forecasts(runs, FAST))


def test_augmenters_are_compared_question_by_question(tmp_path: Path) -> None:
    better = study(tmp_path, lambda n: -0.7 + 0.1 * math.log(n))
    worse = study(tmp_path, lambda n: -0.8 + 0.1 * math.log(n), "rephrase")
    found = comparisons([*better, *worse], forecasts([*better, *worse], FAST), FAST)
    assert [one["at"] for one in found] == list(BUDGETS) and {one["equal"] for one in found} == {"tokens"}
    assert all(
        (one["one"], one["other"], one["questions"]) == ("entigraph", "rephrase", 2 * QUESTIONS) for one in found
    )
    assert np.mean([one["difference"] for one in found]) == pytest.approx(0.1, abs=0.03)
    held = [one["interval"][0] <= 0.1 <= one["interval"][1] for one in found]
    assert sum(held) >= 5 and all(one["interval"][0] < one["difference"] < one["interval"][1] for one in found)


def test_an_augmenter_five_times_as_dear_is_compared_at_a_fifth_of_its_tokens(tmp_path: Path) -> None:
    dear = priced(study(tmp_path, lambda n: -0.7 + 0.1 * math.log(n)), 50.0)
    cheap = priced(study(tmp_path, lambda n: -0.7 + 0.1 * math.log(n), "rephrase"), 10.0)
    found = comparisons([*dear, *cheap], forecasts([*dear, *cheap], FAST), FAST)
    (at_dollars,) = [one for one in found if one["equal"] == "dollars"]
    assert at_dollars["at"] == pytest.approx(800_000 * 10e-6)
    assert at_dollars["difference"] == pytest.approx(-0.1 * math.log(5), abs=0.05)
