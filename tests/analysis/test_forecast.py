import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bands import CASES, coverage
from entigraph.analysis.document_bootstrap import QuestionBlock, Resampling
from entigraph.analysis.scaling.comparison import compare_augmenters
from entigraph.analysis.scaling.forecast import build_forecasts
from entigraph.analysis.scaling.study_tables import forecast_lines
from entigraph.storage.artifact import write_json
from tests.analysis.studies import QUESTIONS, make_run, make_study

FAST = Resampling(resamples=200)
BUDGETS = tuple(12_500 * 2**power for power in range(7))


def write_study(
    root: Path, accuracy: Callable[[int], float], augmenter: str = "entigraph", seeds: int = 2
) -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        make_run(root, augmenter, budget, seed, accuracy(budget), rng) for seed in range(seeds) for budget in BUDGETS
    ]


def test_bands_have_their_stated_coverage_in_simulation() -> None:
    """Between 85 and 95 of 100, give or take the noise of 150 studies (2.5 points)."""
    for name in ("2 seeds, 8 documents", "2 seeds, noisy runs"):
        curve, run = coverage(CASES[name], 150)
        assert all(0.82 <= share <= 0.97 for share in (*curve, *run)), (name, curve, run)


def test_bootstrap_resamples_whole_documents() -> None:
    """If all questions of a document are right or all are wrong, forty questions are worth no more than one."""
    documents = np.repeat(np.arange(50), 40)
    correct = (documents % 2 == 0).astype(float)[None]
    by_document = QuestionBlock(1, np.array([0]), correct, documents).deviations(2000).std()
    single = QuestionBlock(1, np.array([0]), correct, np.zeros(2000)).deviations(2000).std()
    assert by_document == pytest.approx(math.sqrt(0.25 / 50), rel=0.08)
    assert single == pytest.approx(math.sqrt(0.25 / 2000), rel=0.08)


def test_form_that_generated_the_runs_is_chosen(tmp_path: Path) -> None:
    (line,) = build_forecasts(write_study(tmp_path / "line", lambda n: -0.8 + 0.1 * math.log(n)), FAST)
    assert line["chosen"] == "log_linear"
    (flat,) = build_forecasts(write_study(tmp_path / "flat", lambda n: min(0.85, -2.3 + 0.26 * math.log(n))), FAST)
    assert flat["chosen"] in {"log_then_flat", "exponentials_1"}
    assert flat["curve"]["accuracy"][-1] < 0.95, "a ceiling in the data is forecast"
    with_aicc = [form for form in flat["forms"] if "aicc" in form]
    assert len(with_aicc) == 6 and flat["forms"][-1]["missing"] == "7 parameters need more than 7 budgets"


def test_past_forecasts_are_compared_with_later_measurements(tmp_path: Path) -> None:
    (forecast,) = build_forecasts(write_study(tmp_path, lambda n: -0.8 + 0.1 * math.log(n)), FAST)
    lines = [past for past in forecast["held_out"] if past["form"] == "log_linear"]
    assert [(past["fitted_to"], past["times"]) for past in lines] == [
        (25_000, 2), (25_000, 4), (50_000, 2), (50_000, 4), (100_000, 2), (100_000, 4), (200_000, 2), (200_000, 4),
        (400_000, 2),
    ]  # fmt: skip
    for past in lines:
        assert past["error"] == pytest.approx(past["predicted"] - past["measured"])
        assert past["runs"] == 2 and 0 <= past["inside"] <= 2
    assert sum(past["inside"] for past in lines) >= 14


def test_past_forecast_of_a_turning_curve_misses(tmp_path: Path) -> None:
    """Flat, then steep: the line fitted before the turn predicts too little, and its error states so."""
    (forecast,) = build_forecasts(write_study(tmp_path, lambda n: 0.3 if n < 200_000 else 0.9), FAST)
    missed = [past for past in forecast["held_out"] if past["fitted_to"] == 100_000 and past["form"] == "log_linear"]
    assert all(past["error"] < -0.3 and past["inside"] == 0 for past in missed) and len(missed) == 2


def priced(runs: list[Any], dollars: float) -> list[Any]:
    """Adds a synthesis whose manifest states the cost of a million tokens."""
    for run in runs:
        folder = run.root / "synthesis" / run.augmenter
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "manifest.json", {"counts": {"tokens": 1_000_000, "dollars": dollars}})
        run.entry["synthesis"] = f"synthesis/{run.augmenter}"
    return runs


def test_tokens_to_target_and_their_cost(tmp_path: Path) -> None:
    runs = priced(write_study(tmp_path, lambda n: -0.8 + 0.1 * math.log(n), seeds=3), 20.0)
    (forecast,) = build_forecasts(runs, Resampling(resamples=300), targets=[0.4, 0.99])
    near, far = forecast["targets"]
    assert near["tokens"] == pytest.approx(math.exp(12), rel=0.35)
    assert near["low"] < near["tokens"] < near["high"] and near["share_of_draws"] == 1
    assert near["dollars"] == [pytest.approx(near[key] * 20e-6) for key in ("tokens", "low", "high")]
    assert far["tokens"] is None and far["high"] is None and far["dollars"][0] is None, "beyond the forecast: no number"
    unpriced = write_study(tmp_path / "free", lambda n: -0.8 + 0.1 * math.log(n))
    assert build_forecasts(unpriced, FAST, targets=[0.5])[0]["targets"][0]["dollars"] is None, (
        "an unknown price is no price"
    )


def test_target_below_the_smallest_budget_has_no_number(tmp_path: Path) -> None:
    (forecast,) = build_forecasts(write_study(tmp_path, lambda n: -0.3 + 0.1 * math.log(n)), FAST, targets=[0.5])
    (target,) = forecast["targets"]
    assert (target["tokens"], target["low"], target["high"], target["below"]) == (None, None, None, BUDGETS[0])


def test_backtests_count_each_forecast_of_a_run_once() -> None:
    entry = {"fitted_to": 100, "times": 2, "at": 200, "error": 0.1, "inside": 1, "runs": 2}
    held_out = [{**entry, "form": "log_linear", "inside": 0}, {**entry, "form": "log_then_flat"}]
    (line,) = forecast_lines({"augmenter": "raw", "held_out": held_out})
    assert "1 of 2 runs inside" in line and "log_then_flat" in line


def test_missing_forecast_states_its_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one = [make_run(tmp_path / "one", "raw", 1000, 0, 0.3, rng)]
    assert build_forecasts(one, FAST)[0]["missing"] == "budgets: 1; a line and a residual need three"
    same = [make_run(tmp_path / "same", "raw", budget, 0, 1.0, rng) for budget in (1000, 2000, 4000)]
    assert build_forecasts(same, FAST)[0]["missing"] == "every run has the same accuracy"
    (falling,) = build_forecasts(make_study(tmp_path / "falling", 2.0, -0.14), FAST, targets=[0.95])
    assert falling["targets"][0]["tokens"] is None and falling["curve"]["accuracy"][-1] < 0.2


def test_forecasts_are_deterministic(tmp_path: Path) -> None:
    runs = make_study(tmp_path, -1.0, 0.14)
    assert json.dumps(build_forecasts(runs, FAST)) == json.dumps(build_forecasts(runs, FAST))


def test_augmenters_are_compared_on_the_same_questions(tmp_path: Path) -> None:
    better = write_study(tmp_path, lambda n: -0.7 + 0.1 * math.log(n))
    worse = write_study(tmp_path, lambda n: -0.8 + 0.1 * math.log(n), "rephrase")
    comparisons = compare_augmenters([*better, *worse], build_forecasts([*better, *worse], FAST), FAST)
    assert [entry["at"] for entry in comparisons] == list(BUDGETS) and {entry["equal"] for entry in comparisons} == {
        "tokens"
    }
    assert all(
        (entry["one"], entry["other"], entry["questions"], entry["scatter"])
        == ("entigraph", "rephrase", QUESTIONS, "fit")
        for entry in comparisons
    )
    assert np.mean([entry["difference"] for entry in comparisons]) == pytest.approx(0.1, abs=0.03)
    past = [entry["interval"][0] <= 0.1 <= entry["interval"][1] for entry in comparisons]
    assert sum(past) >= 5 and all(
        entry["interval"][0] < entry["difference"] < entry["interval"][1] for entry in comparisons
    )


@pytest.mark.parametrize(("seeds", "scatter"), [(1, None), (3, "seeds")])
def test_without_curves_the_interval_contains_the_variance_over_seeds(
    seeds: int, scatter: str | None, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    accuracies = {"rephrase": [0.4, 0.6, 0.5], "entigraph": [0.7, 0.5, 0.6]}
    runs = [
        make_run(tmp_path, name, 1000, seed, accuracies[name][seed], rng)
        for name in accuracies
        for seed in range(seeds)
    ]
    (entry,) = compare_augmenters(runs, build_forecasts(runs, FAST), FAST)
    low, high = entry["interval"]
    assert entry["scatter"] == scatter and low < entry["difference"] < high
    assert (high - low > 0.4) == (seeds > 1), "the differences are +30, -10 and +10 points"


def test_expensive_augmenter_is_compared_at_fewer_tokens(tmp_path: Path) -> None:
    dear = priced(write_study(tmp_path, lambda n: -0.7 + 0.1 * math.log(n)), 50.0)
    cheap = priced(write_study(tmp_path, lambda n: -0.7 + 0.1 * math.log(n), "rephrase"), 10.0)
    comparisons = compare_augmenters([*dear, *cheap], build_forecasts([*dear, *cheap], FAST), FAST)
    (at_dollars,) = [entry for entry in comparisons if entry["equal"] == "dollars"]
    assert at_dollars["at"] == pytest.approx(800_000 * 10e-6)
    assert at_dollars["difference"] == pytest.approx(-0.1 * math.log(5), abs=0.05)
