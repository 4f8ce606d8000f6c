"""Accuracy over a grid of settings: a study whose runs differ in several of them, as small panels and as a table."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from entigraph.analysis.paper.tables import write_table
from entigraph.analysis.scaling.series import telling, varied
from entigraph.analysis.study_runs import FinishedRun, base, label_of, point
from entigraph.errors import DataError
from entigraph.reporting.figures import BLACK, LABELS, prepare, save, share_axis, short, style
from entigraph.storage.artifact import write_json

Place = tuple[Any, ...]
Value = Mapping[str, Any]


def grid(runs: Sequence[FinishedRun], out: Path) -> list[str]:
    """Writes grid.json, .csv, .md, .png and .svg; returns what to tell. Raises DataError where nothing varies.

    The setting with the most values is the x axis, the next one the lines, the next one the columns of panels, all
    others together the rows.
    """
    keys, cells = measured(runs)
    names = [key.rsplit(".", 1)[-1] for key in keys]
    draw(names, cells, label_of(runs), out)
    rows = [(*map(str, place), *cell.values()) for place, cell in cells.items()]
    told = [{**dict(zip(keys, place, strict=True)), **cell} for place, cell in cells.items()]
    write_json(out / "grid.json", {"settings": keys, "cells": told})
    table = write_table(out, "grid", {**dict.fromkeys(names, ""), **COLUMNS}, rows)
    best = max(cells, key=lambda place: cells[place]["accuracy"])
    where = ", ".join(f"{name}={value}" for name, value in zip(names, best, strict=True))
    return [*table, f"highest accuracy: {cells[best]['accuracy']:.4f} at {where}"]


COLUMNS = {"accuracy": ".4f", "± s.e.": ".4f", "background": ".4f", "base": ".4f", "seeds": ",", "questions": ","}


def measured(runs: Sequence[FinishedRun]) -> tuple[list[str], dict[Place, Value]]:
    """The settings that vary, the most varied first, and for each combination of them what was measured."""
    own = [settings_of(run) for run in runs]
    keys = ["augmenter", "budget", *telling([varied(run.member) for run in runs])]
    values = {key: len({repr(found.get(key)) for found in own}) for key in keys}
    keys = sorted((key for key in keys if values[key] > 1), key=lambda key: -values[key])
    if not keys:
        raise DataError(
            "analysis=grid: the study has no two finished runs that differ in a setting; "
            "sweep one and name it in study_varies, as experiments/ablations/replay_epochs_fictional.yaml does"
        )
    by_place: defaultdict[Place, list[FinishedRun]] = defaultdict(list)
    for run, found in zip(runs, own, strict=True):
        by_place[tuple(found.get(key) for key in keys)].append(run)
    return keys, {place: cell(by_place[place]) for place in sorted(by_place, key=lambda place: [*map(ordered, place)])}


def settings_of(run: FinishedRun) -> dict[str, Any]:
    return {**varied(run.member), "augmenter": run.augmenter.partition(" ")[0], "budget": run.budget}


def ordered(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, then names."""
    number = isinstance(value, int | float)
    return (not number, float(value) if number else 0.0, str(value))


def cell(runs: Sequence[FinishedRun]) -> Value:
    found, start = point(runs), base(runs)
    return {
        "accuracy": found.accuracy,
        "± s.e.": found.stderr,
        "background": found.background,
        "base": start["accuracy"] if start else None,
        "seeds": found.seeds,
        "questions": found.questions,
    }


def draw(names: Sequence[str], cells: Mapping[Place, Value], note: str, out: Path) -> None:
    prepare()
    values = [sorted({place[index] for place in cells}, key=ordered) for index in range(len(names))]
    columns = [*product(*values[2:3])]  # one empty place where only two settings vary
    forgetting = len({found["background"] for found in cells.values()}) > 1  # where only the questions vary it does not
    rows = [*product(["accuracy", "background"] if forgetting else ["accuracy"], product(*values[3:]))]
    figure, panels = plt.subplots(
        len(rows), len(columns), figsize=(1.6 + 3.2 * len(columns), 0.9 + 2.3 * len(rows)),
        sharex=True, sharey="row", squeeze=False, layout="constrained",
    )  # fmt: skip
    for (row, (measure, others)), (column, value) in product(enumerate(rows), enumerate(columns)):
        axes, here = panels[row, column], (*value, *others)
        panel(axes, {place: found for place, found in cells.items() if place[2:] == here}, values, measure)
        told = [f"{name} = {shown(each)}" for name, each in zip(names[2:], here, strict=True)]
        axes.set_title(", ".join(told), fontsize=8)
    for axes, (measure, _) in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel("accuracy" if measure == "accuracy" else "background facts kept")
    for axes in panels[-1]:
        axes.set_xlabel(names[0])
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, title="".join(names[1:2]), loc="outside lower center", ncols=2 * len(columns),
                  frameon=False, fontsize=8, title_fontsize=8)  # fmt: skip
    figure.suptitle("\n".join(filter(None, (f"By {', '.join(names)}", note))), fontsize=9)
    save(figure, out, "grid")


def panel(axes: Axes, cells: Mapping[Place, Value], values: Sequence[Sequence[Any]], measure: str) -> None:
    """One line for each value of the second setting; places on the x axis are evenly spaced."""
    for number, line in enumerate(product(*values[1:2])):
        own = {place[0]: found for place, found in cells.items() if place[1:2] == line}
        color, marker = style("".join(map(str, line)), number)
        axes.errorbar(
            [values[0].index(value) for value in own],
            [found[measure] for found in own.values()],
            yerr=[found["± s.e."] for found in own.values()] if measure == "accuracy" else None,
            color=color, marker=marker, markersize=5, linewidth=1.2, capsize=2, label="".join(map(shown, line)),
        )  # fmt: skip
    starts = [found["base"] for found in cells.values() if found["base"] is not None]
    if measure == "accuracy" and starts:
        name = "base model" if len({*starts}) == 1 else "base model, mean of the panel"
        axes.axhline(mean(starts), color=BLACK, linestyle="--", linewidth=1, label=name)
    axes.set_xticks(range(len(values[0])), [shown(value) for value in values[0]])
    share_axis(axes)


def shown(value: Any) -> str:
    """A number of tokens in short; a model's name without its folder."""
    if isinstance(value, int) and value >= 1000:
        return short(value)
    return LABELS.get(str(value), str(value)).rsplit("/", 1)[-1]
