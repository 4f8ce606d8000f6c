"""The paper's curves from what it publishes of them, with a study's own runs beside them where there are some.

Levels are not compared across the two panels of a figure: other documents, questions, models and budgets.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from entigraph.analysis.paper import published
from entigraph.analysis.study_runs import FinishedRun, base, label_of, points
from entigraph.reporting.figures import (
    BLACK,
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PURPLE,
    apart,
    label,
    prepare,
    save,
    share_axis,
    short,
    style,
    token_ticks,
)
from entigraph.storage.artifact import write_json
from entigraph.storage.schemas import CurvePoint

LINES = ("--", "-.", (0, (1, 1)), (0, (4, 1, 1, 1)))
LEVEL_STYLES = {"GPT-4": (PURPLE, LINES[0]), "GPT-3.5": (ORANGE, LINES[1]), "Llama 3 8B": (BLACK, LINES[2])}


def panels(runs: Sequence[FinishedRun], title: str) -> tuple[Figure, Axes, Axes | None]:
    """The paper's panel, and one for our runs where there are some."""
    prepare()
    count = 2 if runs else 1
    figure, drawn = plt.subplots(1, count, figsize=(5.2 * count + 0.6, 4.2), layout="constrained", squeeze=False)
    figure.suptitle(title, fontsize=10)
    drawn[0, 0].set_ylabel("closed-book accuracy")
    if label_of(runs):
        figure.supxlabel(f"right: {label_of(runs)}", fontsize=8, color=GRAY)
    for axes in drawn[0]:
        axes.set_xscale("log")
        axes.set_xlabel("synthetic tokens")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        share_axis(axes)
    return figure, drawn[0, 0], drawn[0, 1] if runs else None


def paper_curve(name: str, runs: Sequence[FinishedRun], out: Path) -> list[str]:
    """Figs. 2, 5, 6 and 8, by their names in `published.CURVES`: .json, .png and .svg; returns what to tell."""
    known = published.CURVES[name]
    figure, paper, ours = panels(runs, known.title)
    as_published(paper, known)
    if ours is not None:
        own_points(ours, runs, joined=True)
        found = base(runs)
        if found:
            ours.axhline(found["accuracy"], color=BLACK, linestyle=LINES[2], linewidth=1.2, label="Base model")
        ours.set_ylim(0, 1)
        ours.set_title("This study", fontsize=8)
        legend(ours)
    save(figure, out, name)
    write_json(
        out / f"{name}.json",
        {"paper": asdict(known) | curve_of(known), "study": [asdict(point) for point in points(runs)]},
    )
    return [f"as published ({published.PAPER}):", *printed(known)]


def curve_of(known: published.Curve) -> dict[str, Any]:
    tokens = np.geomspace(*known.tokens, 200)
    found = {"tokens": tokens.tolist(), "accuracy": published.fitted_accuracy(tokens).tolist()}
    return {"fit": found} if known.fitted else {}


def as_published(axes: Axes, known: published.Curve) -> None:
    if known.fitted:
        tokens = np.geomspace(*known.tokens, 200)
        fit = f"EntiGraph, fit of {published.FIT_SECTION}"
        axes.plot(tokens, published.fitted_accuracy(tokens), color=BLUE, label=fit)
    for number, point in enumerate(known.points):
        color, marker = style(point.augmenter, number)
        name = f"{point.name}{': more than this' if point.above else ''} ({point.section})"
        axes.errorbar(
            [point.tokens], [point.accuracy], yerr=0.012 if point.above else None, lolims=point.above,
            color=color, marker="_" if point.above else marker, linestyle="none", label=name, zorder=3,
        )  # fmt: skip
    for level in known.levels:
        name = f"{level.name} ({level.section})"
        color, line = LEVEL_STYLES.get(level.name, (GREEN, LINES[-1]))
        axes.axhline(level.accuracy, linestyle=line, color=color, linewidth=1.2, label=name, zorder=1)
    axes.set_xlim(known.tokens[0] / 1.15, known.tokens[1] * 1.3)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if known.tokens[1] < 10 * known.tokens[0] else (1,)))
    axes.set_ylim(*known.accuracies)
    unprinted = f"drawn there, printed nowhere as numbers: {known.only_drawn}"
    axes.set_title(f"As published ({published.PAPER})\n{unprinted}", fontsize=8)
    legend(axes)


def legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1)


def printed(known: published.Curve) -> list[str]:
    values = [(level.name, level.accuracy, level.section, "") for level in known.levels]
    values += [(point.name, point.accuracy, point.section, ">" * point.above) for point in known.points]
    wide = max(len(name) for name, *_ in values)
    return [
        *(f"  {name:{wide}} {sign:>1}{accuracy:.4f}  {section}" for name, accuracy, section, sign in values),
        f"  only drawn there, printed nowhere as numbers: {known.only_drawn}",
    ]


def own_points(axes: Axes, runs: Sequence[FinishedRun], joined: bool) -> None:
    found = points(runs)
    names, budgets = list(dict.fromkeys(point.augmenter for point in found)), {point.budget for point in found}
    for number, name in enumerate(names):
        own: list[CurvePoint] = [point for point in found if point.augmenter == name]
        color, marker = style(name, number)
        axes.errorbar(
            apart([point.synthetic_tokens for point in own], number, len(names), len(budgets)),
            [point.accuracy for point in own],
            yerr=[point.stderr for point in own],
            color=color,
            marker=marker,
            linestyle="-" if joined else "none",
            linewidth=1,
            capsize=3,
            zorder=3,
            label=label(name),
        )
    token_ticks(axes, sorted(budgets))
