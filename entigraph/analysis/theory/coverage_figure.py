"""Draws the curves that coverage predicts, and accuracy against coverage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, DISPLAY_NAMES, ORANGE, PURPLE, SKY, Axes

MEASURES = {
    "predicted": "toy model on the source graph",
    "requested": "pairs requested in prompts",
    "stated": "pairs mentioned together",
}
LINE_STYLES = {"predicted": (ORANGE, "-", 4.0), "requested": (SKY, "-", 2.0), "stated": (PURPLE, "--", 1.0)}


def draw_coverage(result: Mapping[str, Any], out: Path) -> None:
    """Draws the curves that coverage predicts with the measured one, and accuracy against coverage."""
    figure, ((left, right),) = figures.create_figure(1, 2, figsize=(9.8, 4.2))
    names = list(dict.fromkeys(row["augmenter"] for row in result["rows"]))
    with_requests = [row["augmenter"] for row in result["rows"] if row["requested"] is not None]
    if with_requests:
        draw_predictions(left, result, with_requests[0])
    for index, name in enumerate(names):
        series = [row for row in result["rows"] if row["augmenter"] == name]
        color, marker = figures.series_style(name, index)
        right.plot(
            [row["stated"] for row in series],
            [row["accuracy"] for row in series],
            color=color, marker=marker, linestyle="none", label=DISPLAY_NAMES.get(name, name),
        )  # fmt: skip
    right.set_xlabel("share of entity pairs mentioned together")
    right.set_title("Accuracy against coverage", fontsize=9)
    figures.format_percent_axis(right, "x", grid=False)
    for axes in (left, right):
        if result["base"] is not None:
            axes.axhline(result["base"], color=BLACK, linestyle="--", linewidth=1, label="Base model", zorder=1)
        figures.format_percent_axis(axes)
        axes.set_ylim(0, 1)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    left.set_ylabel("closed-book accuracy")
    figures.save_figure(figure, out, "coverage", result["label"])


def draw_predictions(axes: Axes, result: Mapping[str, Any], name: str) -> None:
    series = [row for row in result["rows"] if row["augmenter"] == name]
    budgets = sorted({row["budget"] for row in series})
    tokens = [np.mean([row["synthetic_tokens"] for row in series if row["budget"] == budget]) for budget in budgets]
    color, marker = figures.series_style(name, 0)
    axes.plot(
        [row["synthetic_tokens"] for row in series],
        [row["accuracy"] for row in series],
        color=color, marker=marker, linestyle="none", label=f"{DISPLAY_NAMES.get(name, name)}, measured", zorder=3,
    )  # fmt: skip
    for fit in result["maps"]:
        if fit["augmenter"] != name or fit["measure"] not in LINE_STYLES:
            continue
        measure, base = fit["measure"], result["base"]
        share = np.array([np.mean([row[measure] for row in series if row["budget"] == budget]) for budget in budgets])
        color, line, width = LINE_STYLES[measure]
        axes.plot(
            tokens, fit["intercept"] + fit["slope"] * share, color=color, linestyle=line, linewidth=width,
            label=f"from {MEASURES[measure]}, R² {fit['r2']:.2f}",
        )  # fmt: skip
        if measure == "predicted" and base is not None:
            axes.plot(
                tokens, base + (1 - base) * share, color=color, linestyle=":",
                label="the same without fitting: base for no pairs, 1 for all",
            )  # fmt: skip
    figures.format_token_axis(axes, budgets)
    axes.set_xlabel("synthetic tokens")
    axes.set_title("What coverage predicts (two numbers fitted for each line)", fontsize=9)
