"""The tables of a study's report: its points, and its runs with links to their pages."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entigraph.analysis.study_runs import StudyRun
from entigraph.reporting.figures import abbreviate


@dataclass(frozen=True)
class TextTable:
    """Cells are text; a cell of a column that no row has is not in the table."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def drop_empty_columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> TextTable:
    used = [index for index in range(len(headings)) if any(row[index] for row in rows)]
    return TextTable([headings[index] for index in used], [[row[index] for index in used] for row in rows])


def tabulate_points(curve: Mapping[str, Any]) -> TextTable:
    """Returns a row for the base model, each baseline and each point of the curve."""
    points = curve["points"]
    groups = sorted({group for point in points for group in point["groups"]})
    groups = groups if len(groups) > 1 else []  # a single kind of question has the accuracy of all
    metrics = sorted({name for point in points for name in point["metrics"]})
    headings = [
        *("augmenter", "synthetic tokens", "accuracy", "± s.e.", "s.e. over"),
        *(group.replace("_", " ") for group in groups),
        *("background", *metrics, "seeds", "questions"),
    ]
    rows = [tabulate_point("base", curve["base"], groups, metrics, tokens="0")] if curve["base"] else []
    rows += [tabulate_point(model["name"], model, groups, metrics, tokens="") for model in curve["baselines"]]
    rows += [
        tabulate_point(point["augmenter"], point, groups, metrics, f"{point['synthetic_tokens']:,}") for point in points
    ]
    return drop_empty_columns(headings, rows)


def tabulate_point(
    name: str, point: Mapping[str, Any], groups: Sequence[str], metrics: Sequence[str], tokens: str
) -> list[str]:
    seeds = point.get("seeds")
    return [
        *(name, tokens, f"{point['accuracy']:.3f}", f"{point['stderr']:.3f}"),
        f"{seeds} seeds" if seeds and seeds > 1 else "documents",
        *(f"{point['groups'][group]:.3f}" if group in point["groups"] else "" for group in groups),
        f"{point['background']:.3f}" if point.get("background") is not None else "",
        *(f"{point['metrics'][metric]:.4f}" if metric in point.get("metrics", {}) else "" for metric in metrics),
        *(str(seeds or ""), f"{point['questions']:,}"),
    ]


def tabulate_scores(curve: Mapping[str, Any]) -> TextTable:
    """Returns a row for every number in scores.json, and a column for the base model and each point of the curve."""
    points = [*([{"augmenter": "base", **curve["base"]}] if curve["base"] else []), *curve["points"]]
    names = dict.fromkeys(name for point in points for name in point["scores"])
    headings = [f"{point['augmenter']} {abbreviate(point.get('synthetic_tokens', 0))}" for point in points]
    rows = [
        [name, *(f"{point['scores'][name]:,.6g}" if name in point["scores"] else "" for point in points)]
        for name in names
    ]
    return TextTable(["score", *headings], rows)


@dataclass(frozen=True)
class RunRow:
    """A run of the table of runs. `links` are (text, relative path) of its pages and folders."""

    cells: Sequence[str]
    links: Sequence[tuple[str, str]]


def tabulate_runs(runs: Sequence[StudyRun], study: Path) -> tuple[Sequence[str], list[RunRow]]:
    """Returns the headings and a row per run, with the settings in which the runs differ."""
    varying = sorted({key for run in runs for key in run.entry.get("varies", {})})
    headings = ["augmenter", "synthetic tokens", "seed", "accuracy", *varying]
    ordered = sorted(runs, key=lambda run: (run.augmenter, run.budget, run.seed))
    rows = [
        RunRow(
            [
                *(run.augmenter, f"{run.synthetic_tokens:,}", str(run.seed), f"{run.score['accuracy']:.3f}"),
                *(str(run.entry.get("varies", {}).get(key, "")) for key in varying),
            ],
            list_links(run, study),
        )
        for run in ordered
    ]
    return headings, rows


def list_links(run: StudyRun, study: Path) -> list[tuple[str, str]]:
    pages = {
        "answers": run.folder("evaluation") / "report.html",
        "texts": run.folder("synthesis") / "report.html",
        "model": run.folder("training") / "model",
    }
    return [(name, os.path.relpath(path, study)) for name, path in pages.items() if path.exists()]
