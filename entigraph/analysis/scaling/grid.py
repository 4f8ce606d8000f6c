"""Accuracy over a grid of settings, for a study whose runs differ in several of them: small panels and a table."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.series import distinguishing_keys, varied_settings
from entigraph.analysis.study_runs import StudyRun, build_point, figure_footer, run_folders, summarize_base_model
from entigraph.errors import DataError
from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, DISPLAY_NAMES, Axes
from entigraph.reporting.tables import write_table
from entigraph.storage.artifact import write_json

Position = tuple[Any, ...]  # values of the varying settings
Cell = Mapping[str, Any]
COLUMNS = {"accuracy": ".4f", "± s.e.": ".4f", "background": ".4f", "base": ".4f", "seeds": ",", "questions": ","}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Accuracy over the settings in which a study's runs differ.

    The setting with the most values is the x axis, the next one the lines, the next one the columns of panels, all
    others together the rows.
    """

    name: ClassVar[str] = "grid"

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return run_folders(context.required_runs)

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes grid.json, .csv, .md, .png and .svg. Raises DataError if no setting varies."""
        return draw_grid(context.runs, out)


def draw_grid(runs: Sequence[StudyRun], out: Path) -> list[str]:
    keys, cells = build_cells(runs)
    names = [key.rsplit(".", 1)[-1] for key in keys]
    draw_panels(names, cells, figure_footer(runs), out)
    entries = [{**dict(zip(keys, position, strict=True)), **cell} for position, cell in cells.items()]
    write_json(out / "grid.json", {"settings": keys, "cells": entries})
    rows = [(*map(str, position), *cell.values()) for position, cell in cells.items()]
    table = write_table(out, "grid", {**dict.fromkeys(names, ""), **COLUMNS}, rows)
    best = max(cells, key=lambda position: cells[position]["accuracy"])
    settings = ", ".join(f"{name}={value}" for name, value in zip(names, best, strict=True))
    return [*table, f"highest accuracy: {cells[best]['accuracy']:.4f} at {settings}"]


def build_cells(runs: Sequence[StudyRun]) -> tuple[list[str], dict[Position, Cell]]:
    """Returns the settings that vary, those with the most values first, and the measurements at each combination."""
    settings = [grid_settings(run) for run in runs]
    keys = ["augmenter", "budget", *distinguishing_keys([varied_settings(run.entry) for run in runs])]
    counts = {key: len({repr(values.get(key)) for values in settings}) for key in keys}
    keys = sorted((key for key in keys if counts[key] > 1), key=lambda key: -counts[key])
    if not keys:
        raise DataError(
            "analysis=grid: the study has no two finished runs that differ in a setting; "
            "sweep one and name it in study.allow_varying, as experiments/ablations/replay_epochs_fictional.yaml does"
        )
    by_position: defaultdict[Position, list[StudyRun]] = defaultdict(list)
    for run, values in zip(runs, settings, strict=True):
        by_position[tuple(values.get(key) for key in keys)].append(run)
    positions = sorted(by_position, key=lambda position: [*map(numbers_first, position)])
    return keys, {position: build_cell(by_position[position]) for position in positions}


def grid_settings(run: StudyRun) -> dict[str, Any]:
    return {**varied_settings(run.entry), "augmenter": run.augmenter.partition(" ")[0], "budget": run.budget}


def numbers_first(value: Any) -> tuple[bool, float, str]:
    """A sort key: numbers by size, then names."""
    is_number = isinstance(value, int | float)
    return (not is_number, float(value) if is_number else 0.0, str(value))


def build_cell(runs: Sequence[StudyRun]) -> Cell:
    point, base = build_point(runs), summarize_base_model(runs)
    return {
        "accuracy": point.accuracy,
        "± s.e.": point.stderr,
        "background": point.background,
        "base": base["accuracy"] if base else None,
        "seeds": point.seeds,
        "questions": point.questions,
    }


def draw_panels(names: Sequence[str], cells: Mapping[Position, Cell], note: str, out: Path) -> None:
    values = [sorted({position[index] for position in cells}, key=numbers_first) for index in range(len(names))]
    columns = [*product(*values[2:3])]  # one empty tuple if only two settings vary
    has_forgetting = len({cell["background"] for cell in cells.values()}) > 1  # constant if only the questions vary
    rows = [*product(["accuracy", "background"] if has_forgetting else ["accuracy"], product(*values[3:]))]
    size = (1.6 + 3.2 * len(columns), 0.9 + 2.3 * len(rows))
    figure, panels = figures.create_figure(len(rows), len(columns), figsize=size, sharex=True, sharey="row")
    for (row, (measure, others)), (column, value) in product(enumerate(rows), enumerate(columns)):
        axes, fixed = panels[row, column], (*value, *others)
        draw_panel(axes, {position: cell for position, cell in cells.items() if position[2:] == fixed}, values, measure)
        title = [f"{name} = {format_value(value)}" for name, value in zip(names[2:], fixed, strict=True)]
        axes.set_title(", ".join(title), fontsize=8)
    for axes, (measure, _) in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel("accuracy" if measure == "accuracy" else "background facts kept")
    for axes in panels[-1]:
        axes.set_xlabel(names[0])
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, title="".join(names[1:2]), loc="outside lower center", ncols=2 * len(columns),
                  frameon=False, fontsize=8, title_fontsize=8)  # fmt: skip
    figure.suptitle("\n".join(filter(None, (f"By {', '.join(names)}", note))), fontsize=9)
    figures.save_figure(figure, out, "grid")


def draw_panel(axes: Axes, cells: Mapping[Position, Cell], values: Sequence[Sequence[Any]], measure: str) -> None:
    """Draws one line per value of the second setting; the values of the first are evenly spaced on the x axis."""
    for index, line in enumerate(product(*values[1:2])):
        line_cells = {position[0]: cell for position, cell in cells.items() if position[1:2] == line}
        color, marker = figures.series_style("".join(map(str, line)), index)
        axes.errorbar(
            [values[0].index(value) for value in line_cells],
            [cell[measure] for cell in line_cells.values()],
            yerr=[cell["± s.e."] for cell in line_cells.values()] if measure == "accuracy" else None,
            color=color, marker=marker, markersize=5, linewidth=1.2, capsize=2, label="".join(map(format_value, line)),
        )  # fmt: skip
    base = [cell["base"] for cell in cells.values() if cell["base"] is not None]
    if measure == "accuracy" and base:
        label = "base model" if len({*base}) == 1 else "base model, mean of the panel"
        axes.axhline(mean(base), color=BLACK, linestyle="--", linewidth=1, label=label)
    axes.set_xticks(range(len(values[0])), [format_value(value) for value in values[0]])
    figures.format_percent_axis(axes)


def format_value(value: Any) -> str:
    """Abbreviates token counts and drops the folder of a model's name."""
    if isinstance(value, int) and value >= 1000:
        return figures.abbreviate(value)
    return DISPLAY_NAMES.get(str(value), str(value)).rsplit("/", 1)[-1]
