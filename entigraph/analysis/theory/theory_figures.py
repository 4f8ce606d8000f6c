"""Figures of the toy model: the paper's Fig. 9, and graphs of other shapes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from entigraph.reporting.figures import (
    BLACK,
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    prepare,
    save,
    share_axis,
    short,
)

TITLES = {
    "linear": "Linear: p + C m t",
    "logarithmic": "Logarithmic (log t axis)",
    "plateau": "Plateau",
}
FAMILY_STYLES = {
    "independent": (BLACK, "-"),
    "sparser": (SKY, "--"),
    "denser": (BLUE, "-."),
    "clustered": (VERMILION, "-"),
    "hierarchical": (GREEN, "--"),
    "hubs": (PURPLE, "-."),
}


def toy_model_figure(result: Mapping[str, Any], out: Path) -> list[Path]:
    """Fig. 9: accuracy against rounds in its three phases."""
    prepare()
    figure, panels = plt.subplots(1, 3, figsize=(10.4, 3.7), layout="constrained")
    for axes, (name, panel) in zip(panels, result["panels"].items(), strict=True):
        toy_model_panel(axes, panel)
        axes.set_title(TITLES[name], fontsize=9)
        axes.set_xlabel("rounds t" + (" (logarithmic)" if name == "logarithmic" else ""))
        if name == "logarithmic":
            axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    panels[0].set_ylabel("accuracy: share of ordered pairs known")
    panels[2].set_ylim(0.75 * result["limit"], min(1.0, 1.12 * result["limit"]))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    figure.suptitle(
        f"Toy model (paper Fig. 9): {result['vertices']} entities, p = "
        f"{result['mean_degree'] / result['vertices']:g}, mean of {result['graphs']} graphs",
        fontsize=10,
    )
    return save(figure, out, "toy_model")


def toy_model_panel(axes: Axes, panel: Mapping[str, Any]) -> None:
    axes.fill_between(
        panel["rounds"], panel["low"], panel["high"], color=GRAY, alpha=0.18, linewidth=0, label="bounds, finite V"
    )
    axes.plot(panel["rounds"], panel["exact"], color=BLUE, linewidth=1.8, label="exact")
    axes.plot(
        panel["rounds"],
        panel["branching"],
        color=VERMILION,
        linestyle="--",
        linewidth=1.2,
        label="branching, as printed",
    )
    axes.plot(
        panel["rounds"], panel["corrected"], color=GREEN, linestyle=":", linewidth=1.6, label="branching, corrected"
    )
    axes.errorbar(
        panel["simulated_at"],
        panel["simulated"],
        yerr=[3 * error for error in panel["simulated_error"]],
        color=BLACK,
        marker="o",
        markersize=3.5,
        markerfacecolor="white",
        linestyle="none",
        capsize=2,
        label="simulated, ± 3 s.e.",
        zorder=4,
    )
    share_axis(axes)


def graph_families_figure(result: Mapping[str, Any], out: Path) -> list[Path]:
    """The coverage study: how the shape of the graph moves the curve, and the distribution behind it."""
    prepare()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.9), layout="constrained")
    for family in result["families"]:
        color, line = FAMILY_STYLES.get(family["family"], (ORANGE, "-"))
        left.plot(
            family["rounds"], family["accuracy"], color=color, linestyle=line, linewidth=1.4, label=family["family"]
        )
        right.plot(family["sizes"], family["share_at_least"], color=color, linestyle=line, linewidth=1.4)
    left.set_xscale("log")
    left.set_xlabel("rounds t / V(V-1)")
    left.set_ylabel("accuracy: share of ordered pairs known")
    share_axis(left)
    left.set_title("Exact accuracy", fontsize=9)
    left.legend(frameon=False, fontsize=8)
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_ylim(1e-6, 1.5)
    right.set_xlabel("k: vertices in the subtree that teaches a pair")
    right.set_ylabel("share of learnable pairs with at least k")
    right.set_title("The distribution µ(k) behind it", fontsize=9)
    right.grid(axis="y", color="#dddddd", linewidth=0.6)
    figure.suptitle(
        f"Toy model on other graphs: {result['vertices']} entities, {result['mean_degree']:g} relations each "
        "(sparser: half, denser: twice)",
        fontsize=10,
    )
    return save(figure, out, "graph_families")
