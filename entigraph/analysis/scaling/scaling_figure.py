"""The curve as a picture: all questions, each kind of question, and what was forgotten. PNG and SVG."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from entigraph.reporting.figures import BLACK, GRAY, apart, label, prepare, save, share_axis, style, token_ticks

BASE, CHANCE = BLACK, GRAY
OTHER_MODELS, DASHES = "#555555", ("-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (7, 2)))
BASE_LABEL, CHANCE_LABEL = "Base model", "Chance"
MOST_INSIDE, MOST_LISTED = 8, 24  # lines that the legend names inside the panel, and below it


def scaling_curve(curve: Mapping[str, Any], out: Path, title: str) -> list[Path]:
    """Draws curve.json's content; returns the files."""
    prepare()
    groups = sorted({group for point in curve["points"] for group in point["groups"]})
    groups = groups if len(groups) > 1 else []  # one kind of question is what the main panel shows
    panels = [*groups, *(["background"] if any(point["background"] is not None for point in curve["points"]) else [])]
    columns = max(1, ceil(len(panels) / 2))
    lines = len(augmenters(curve))
    below = 0.18 * lines if MOST_INSIDE < lines <= MOST_LISTED else 0.0
    figure = plt.figure(figsize=(6.2 + 2.4 * columns, 4.8 + below), layout="constrained")
    grid = figure.add_gridspec(2, 2 + columns, width_ratios=(1.15, 1.15, *[1] * columns))
    main_panel(figure.add_subplot(grid[:, :2]), curve)
    for position, name in enumerate(panels):
        axes = figure.add_subplot(grid[position // columns, 2 + position % columns])
        small_panel(axes, curve, name)
    figure.suptitle(title, fontsize=10)
    if curve["label"]:
        figure.supxlabel(curve["label"], fontsize=8, color=CHANCE)
    return save(figure, out, "curve")


def main_panel(axes: Axes, curve: Mapping[str, Any]) -> None:
    names, budgets = augmenters(curve), budgets_of(curve)
    for number, name in enumerate(names):
        color, marker = style(name, number)
        own = [point for point in curve["points"] if point["augmenter"] == name]
        fit = next((fit for fit in curve["fits"] if fit["augmenter"] == name and "r2" in fit), None)
        draw_fit(axes, fit, own, color)
        axes.errorbar(
            apart([point["synthetic_tokens"] for point in own], number, len(names), len(budgets)),
            [point["accuracy"] for point in own],
            yerr=[point["stderr"] for point in own],
            color=color,
            marker=marker,
            linestyle="none",
            capsize=3,
            label=label(name) + (fit_label(fit) if fit else ""),
            zorder=3,
        )
    reference_lines(axes, curve)
    axes.set_ylabel("closed-book accuracy")
    axes.set_xlabel("synthetic tokens")
    axes.set_title("All questions", fontsize=9)
    legend(axes, curve)
    token_axis(axes, curve)


def legend(axes: Axes, curve: Mapping[str, Any]) -> None:
    """The augmenters first, the lines of reference behind them; below the panel where they are many, else left out."""
    handles, labels = axes.get_legend_handles_labels()
    references = {BASE_LABEL, CHANCE_LABEL, *(other["name"] for other in curve.get("baselines", ()))}
    order = sorted(range(len(labels)), key=lambda index: labels[index] in references)
    lines = len(augmenters(curve))
    if lines > MOST_LISTED:
        order = [index for index in order if labels[index] in references]
        axes.plot([], [], linestyle="none", label=(told := f"{lines} lines: analysis=grid tells them apart"))
        handles, labels, order = [*handles, axes.lines[-1]], [*labels, told], [len(labels), *order]
    below = MOST_INSIDE < lines <= MOST_LISTED
    axes.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        frameon=False,
        fontsize=8,
        loc="upper center" if below else "upper left",
        bbox_to_anchor=(0.5, -0.12) if below else None,
    )


def fit_label(fit: Mapping[str, Any]) -> str:
    return f": {100 * fit['gain_per_doubling']:+.1f} points a doubling, R² {fit['r2']:.2f}"


def draw_fit(axes: Axes, fit: Mapping[str, Any] | None, own: Sequence[Mapping[str, Any]], color: str) -> None:
    """The fitted line with its band; the points joined where there is no fit."""
    if fit is None:
        tokens, accuracy = [point["synthetic_tokens"] for point in own], [point["accuracy"] for point in own]
        axes.plot(tokens, accuracy, color=color, linewidth=1)
        return
    band, parameters = fit["band"], fit["parameters"]
    axes.fill_between(band["tokens"], band["low"], band["high"], color=color, alpha=0.15, linewidth=0)
    axes.plot(band["tokens"], parameters["a"] + parameters["b"] * np.log(band["tokens"]), color=color, linewidth=1.2)


def small_panel(axes: Axes, curve: Mapping[str, Any], name: str) -> None:
    names, budgets = augmenters(curve), budgets_of(curve)
    for number, augmenter in enumerate(names):
        color, marker = style(augmenter, number)
        own = [point for point in curve["points"] if point["augmenter"] == augmenter]
        values = [point["background"] if name == "background" else point["groups"].get(name) for point in own]
        tokens = apart([point["synthetic_tokens"] for point in own], number, len(names), len(budgets))
        axes.plot(tokens, values, color=color, marker=marker, markersize=4, linewidth=1)
    reference_lines(axes, curve, name)
    axes.set_title(
        "Background facts (forgetting)" if name == "background" else f"{name.replace('_', ' ').capitalize()} questions",
        fontsize=9,
    )
    axes.tick_params(labelsize=7)
    token_axis(axes, curve)


def reference_lines(axes: Axes, curve: Mapping[str, Any], name: str | None = None) -> None:
    axes.axhline(curve["chance"], color=CHANCE, linestyle=":", linewidth=1, label=CHANCE_LABEL, zorder=1)
    for number, other in enumerate(curve.get("baselines", ())):
        value = other["accuracy"] if name is None else other["groups"].get(name)
        if value is not None:
            dashes = DASHES[number % len(DASHES)]
            axes.axhline(value, color=OTHER_MODELS, linestyle=dashes, linewidth=1, label=other["name"], zorder=1)
    base = curve["base"]
    if base is None:
        return
    values = {None: base["accuracy"], "background": base["background"], **base["groups"]}
    if values.get(name) is not None:
        axes.axhline(values[name], color=BASE, linestyle="--", linewidth=1, label=BASE_LABEL, zorder=1)


def token_axis(axes: Axes, curve: Mapping[str, Any]) -> None:
    token_ticks(axes, budgets_of(curve))
    share_axis(axes)
    axes.set_ylim(0, 1)


def budgets_of(curve: Mapping[str, Any]) -> list[int]:
    return sorted({point["budget"] for point in curve["points"]})


def augmenters(curve: Mapping[str, Any]) -> list[str]:
    """In the order of the legend: the highest last point first."""
    last: dict[str, float] = {point["augmenter"]: point["accuracy"] for point in curve["points"]}
    return sorted(last, key=lambda name: -last[name])
