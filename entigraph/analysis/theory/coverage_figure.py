"""The curve that coverage predicts, laid over the measured one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from entigraph.analysis.theory.coverage import MEASURES
from entigraph.reporting.figures import (
    BLACK,
    GRAY,
    LABELS,
    ORANGE,
    PURPLE,
    SKY,
    prepare,
    save,
    share_axis,
    style,
    token_ticks,
)

LINES = {"predicted": (ORANGE, "-", 4.0), "asked": (SKY, "-", 2.0), "stated": (PURPLE, "--", 1.0)}


def coverage_figure(result: Mapping[str, Any], out: Path) -> list[Path]:
    prepare()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.8, 4.2), layout="constrained")
    names = list(dict.fromkeys(row["augmenter"] for row in result["rows"]))
    asked = [
        name for name in names if any(row["asked"] is not None for row in result["rows"] if row["augmenter"] == name)
    ]
    for name in asked[:1]:
        over_the_curve(left, result, name)
    for number, name in enumerate(names):
        own = [row for row in result["rows"] if row["augmenter"] == name]
        color, marker = style(name, number)
        right.plot(
            [row["stated"] for row in own],
            [row["accuracy"] for row in own],
            color=color,
            marker=marker,
            linestyle="none",
            label=LABELS.get(name, name),
        )
    right.set_xlabel("share of entity pairs mentioned together")
    right.set_title("Accuracy against coverage", fontsize=9)
    right.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes in (left, right):
        if result["base"] is not None:
            axes.axhline(result["base"], color=BLACK, linestyle="--", linewidth=1, label="Base model", zorder=1)
        share_axis(axes)
        axes.set_ylim(0, 1)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    left.set_ylabel("closed-book accuracy")
    if result["label"]:
        figure.supxlabel(result["label"], fontsize=8, color=GRAY)
    return save(figure, out, "coverage")


def over_the_curve(axes: Axes, result: Mapping[str, Any], name: str) -> None:
    own = [row for row in result["rows"] if row["augmenter"] == name]
    budgets = sorted({row["budget"] for row in own})
    tokens = [np.mean([row["synthetic_tokens"] for row in own if row["budget"] == budget]) for budget in budgets]
    color, marker = style(name, 0)
    axes.plot(
        [row["synthetic_tokens"] for row in own],
        [row["accuracy"] for row in own],
        color=color,
        marker=marker,
        linestyle="none",
        label=f"{LABELS.get(name, name)}, measured",
        zorder=3,
    )
    for one in result["maps"]:
        if one["augmenter"] != name or one["measure"] not in LINES:
            continue
        share = np.array([np.mean([row[one["measure"]] for row in own if row["budget"] == at]) for at in budgets])
        line_color, line, width = LINES[one["measure"]]
        axes.plot(
            tokens,
            one["intercept"] + one["slope"] * share,
            color=line_color,
            linestyle=line,
            linewidth=width,
            label=f"from {MEASURES[one['measure']]}, R² {one['r2']:.2f}",
        )
        if one["measure"] == "predicted" and result["base"] is not None:
            axes.plot(
                tokens,
                result["base"] + (1 - result["base"]) * share,
                color=line_color,
                linestyle=":",
                label="the same with nothing fitted: base at no pair, 1 at all",
            )
    token_ticks(axes, sorted({row["budget"] for row in own}))
    axes.set_xlabel("synthetic tokens")
    axes.set_title("What coverage predicts (two numbers fitted for each line)", fontsize=9)
