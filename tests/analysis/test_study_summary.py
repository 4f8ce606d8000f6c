"""The first lines of a study's report, and its tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entigraph.analysis.scaling.study_summary import summarize_study
from entigraph.analysis.scaling.study_tables import tabulate_points, tabulate_runs
from entigraph.analysis.study_runs import StudyRun
from entigraph.reporting.disclaimers import PIPELINE_CHECK
from entigraph.reporting.figures import create_figure, save_figure
from tests.analysis.studies import make_run


def compare(low: float, high: float, at: int = 50_000, one: str = "entigraph", other: str = "raw") -> dict[str, Any]:
    return {"one": one, "other": other, "equal": "tokens", "at": at, "difference": (low + high) / 2,
            "interval": [low, high]}  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> list[StudyRun]:
    rng = np.random.default_rng(0)
    return [make_run(tmp_path, "entigraph", budget, 0, 0.5, rng) for budget in (25_000, 50_000)]


def compare_base(low: float, high: float) -> dict[str, Any]:
    return {**compare(low, high, one="entigraph, 50,000 tokens, seed 0", other="base"), "best_of": [2, 1]}


def test_summary_lists_differences_at_the_largest_budget(runs: list[StudyRun]) -> None:
    curve = {"comparisons": [compare(-0.1, 0.2, at=25_000), compare(0.05, 0.15)]}
    summary = summarize_study(runs, curve, [compare_base(-0.02, 0.1)], 0.9)
    assert summary["Significant"] == (
        "entigraph vs. raw at 50k tokens: +10.0 points (+5.0 to +15.0) (90% intervals, not corrected for their number)."
    )
    assert summary["Not significant"] == ("entigraph, 50,000 tokens, seed 0 (best of 2 runs) vs. the base model.")
    assert "entigraph at 25k, 50k tokens, 2 runs with 1 seed." in summary["Question"]
    assert list(summary) == ["Question", "Model", "Texts", "Significant", "Not significant"]


def test_difference_of_single_runs_is_not_significant(runs: list[StudyRun]) -> None:
    """With one seed and no fitted curve, the variance between runs is unknown."""
    single = {**compare(0.05, 0.15), "scatter": None}
    summary = summarize_study(runs, {"comparisons": [single]}, [], 0.9)
    assert summary["Significant"] == "nothing." and summary["Not significant"].endswith("at 50k tokens (one seed).")


def test_study_at_chance_says_so(runs: list[StudyRun]) -> None:
    for run in runs:
        run.score.update(accuracy=0.53, stderr=0.02, chance=0.5)
    summary = summarize_study(runs, {"comparisons": [compare(-0.1, 0.1)]}, [], 0.9)
    assert summary["Significant"] == "nothing."
    assert summary["Not significant"].startswith("all accuracies are within noise of chance; ")


def test_study_without_comparisons_states_the_reason(runs: list[StudyRun]) -> None:
    assert "one augmenter" in summarize_study(runs, {"comparisons": []}, [], 0.9)["Significant"]
    for run in runs:
        run.entry["label"] = PIPELINE_CHECK
    assert "the offline writer only rearranges" in summarize_study(runs, {"comparisons": []}, [], 0.9)["Significant"]


def point(**values: Any) -> dict[str, Any]:
    empty = {"background": None, "metrics": {}, "groups": {"g": 0.5}, "augmenter": "raw", "synthetic_tokens": 9}
    return {**empty, "accuracy": 0.5, "stderr": 0.01, "seeds": 1, "questions": 60, **values}


def test_table_states_what_errors_are_over_and_drops_empty_columns() -> None:
    curve = {"base": None, "baselines": [], "points": [point(), point(seeds=2, metrics={"task/f1": 0.25})]}
    table = tabulate_points(curve)
    assert "background" not in table.headings and "g" not in table.headings
    column = table.headings.index("s.e. over")
    assert [row[column] for row in table.rows] == ["documents", "2 seeds"]
    assert [row[table.headings.index("task/f1")] for row in table.rows] == ["", "0.2500"]


def test_runs_link_to_the_pages_that_exist(runs: list[StudyRun], tmp_path: Path) -> None:
    for run in runs:
        run.entry["synthesis"] = "synthesis/none"
        run.entry["varies"] = {"optim.lr": run.budget}
    (runs[0].folder("evaluation") / "report.html").touch()
    headings, rows = tabulate_runs(runs, tmp_path / "studies" / "s-00000000")
    assert headings[-1] == "optim.lr" and [row.cells[-1] for row in rows] == ["25000", "50000"]
    assert [row.links for row in rows] == [[("answers", "../../evaluation/entigraph-25000-0/report.html")], []]


def test_figures_are_also_written_for_print_and_are_reproducible(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        figure, _axes = create_figure()
        save_figure(figure, tmp_path, "f", "a note")
        contents.append([(tmp_path / f"f.{suffix}").read_bytes() for suffix in ("png", "svg", "pdf")])
    assert contents[0] == contents[1] and contents[0][2].startswith(b"%PDF")


def test_long_note_is_wrapped_to_the_figure(tmp_path: Path) -> None:
    figure, _axes = create_figure(figsize=(4, 3))
    save_figure(figure, tmp_path, "f", f"a label\n{'up to 4 of 6 files were skipped; ' * 6}")
    note = figure.get_supxlabel()
    assert note.startswith("a label\nup to 4") and max(map(len, note.splitlines())) < 70
