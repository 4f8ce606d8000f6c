"""Grids of settings, and the curve of a study with many series."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entigraph.analysis.scaling.curve_figure import draw_curve
from entigraph.analysis.scaling.grid import draw_grid
from entigraph.analysis.scaling.scaling_curve import ScalingCurve, build_curve
from entigraph.analysis.study_runs import StudyRun, finished_runs
from entigraph.errors import DataError
from tests.analysis.studies import make_context, make_run, study_folder


def read_rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def write_grid(root: Path, settings: list[dict[str, Any]], accuracies: list[float]) -> list[StudyRun]:
    """Writes one run for each of the settings."""
    rng = np.random.default_rng(0)
    for number, (varies, accuracy) in enumerate(zip(settings, accuracies, strict=True)):
        run = make_run(root, "entigraph", 1000 + number, 0, accuracy, rng)
        file = study_folder(root) / "runs" / f"{run.name}.json"
        file.write_text(json.dumps({**run.entry, "budget": 1000, "varies": varies}))
    return finished_runs(study_folder(root), root)[0]


def test_grid_draws_settings_and_names_the_best(tmp_path: Path) -> None:
    cells = [(k, size, order) for k in (1, 2, 16) for size in (256, 1024) for order in ("best_first", "best_last")]
    runs = write_grid(
        tmp_path / "root",
        [{"tasks": {"t": {"k": k, "order": order}}, "retriever": {"characters": size}} for k, size, order in cells],
        [0.9 if position == (16, 256, "best_last") else 0.3 for position in cells],
    )
    lines = draw_grid(runs, tmp_path)
    assert lines[-1].startswith("highest accuracy: 0.") and "k=16" in lines[-1] and "characters=256" in lines[-1]
    assert "order=best_last" in lines[-1]
    rows = read_rows(tmp_path / "grid.csv")
    assert len(rows) == len(cells) and [row["k"] for row in rows[::4]] == ["1", "2", "16"], "in the order of numbers"
    svg = (tmp_path / "grid.svg").read_text()
    assert "characters = 256" not in svg or "order = best_first" not in svg, "two settings are axis and lines"


def test_study_without_a_grid_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "root", "entigraph", 1000, 0, 0.5, np.random.default_rng(0))
    with pytest.raises(DataError, match="no two finished runs that differ in a setting"):
        draw_grid([run], tmp_path)


@pytest.mark.parametrize(("lines", "listed"), [(3, True), (12, True), (30, False)])
def test_legend_of_many_lines_points_to_the_grid(lines: int, listed: bool, tmp_path: Path) -> None:
    runs = write_grid(tmp_path / "root", [{"rate": number} for number in range(lines)], [0.5] * lines)
    curve = build_curve(make_context(tmp_path / "root", runs=runs), ScalingCurve(resamples=2))
    draw_curve(curve, tmp_path, "title")
    svg = (tmp_path / "curve.svg").read_text()
    assert ("EntiGraph rate=2" in svg) is listed and ("30 lines: analysis=grid" in svg) is not listed
