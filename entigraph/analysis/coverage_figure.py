"""The curve that coverage predicts, laid over the measured one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from entigraph.analysis.coverage import MEASURES
from entigraph.analysis.style import BLACK, GREY, LABELS, ORANGE, PURPLE, SKY, prepare, save, short, style

LINES = {"predicted": (ORANGE, "-"), "asked": (SKY, "--"), "stated": (PURPLE, "-.")}


def coverage_figure(result: Mapping[str, Any], out: Path) -> list[Path]:
    prepare()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.8, 4.2), layout="constrained")
    names = list(dict.fromkeys(row["augmenter"] for row in result["rows"]))
    asked = [name for name in names if any(row["asked"] is not None for row in result["rows"] if row["augmenter"] == name)]
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
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_ylim(0, 1)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    left.set_ylabel("closed-book accuracy")
    if result["label"]:
        figure.supxlabel(result["label"].split(":")[0], fontsize=8, color=GREY)
    return save(figure, out, "coverage")


def over_the_curve(axes: Axes, result: Mapping[str, Any], name: str) -> None:
    own = [row for row in result["rows"] if row["augmenter"] == name]
    tokens = sorted({row["synthetic_tokens"] for row in own})
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
        share = [np.mean([row[one["measure"]] for row in own if row["synthetic_tokens"] == at]) for at in tokens]
        line_color, line = LINES[one["measure"]]
        axes.plot(
            tokens,
            one["intercept"] + one["slope"] * np.array(share),
            color=line_color,
            linestyle=line,
            linewidth=1.4,
            label=f"from {MEASURES[one['measure']]}, R² {one['r2']:.2f}",
        )
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    if len(tokens) <= 8:
        axes.set_xticks([round(at, -int(np.floor(np.log10(at))) + 1) for at in tokens])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.set_xlabel("synthetic tokens")
    axes.set_title("What coverage predicts (two numbers fitted a line)", fontsize=9)
