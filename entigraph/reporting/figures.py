"""How every figure looks: one palette, told apart by marker too, and PNG and SVG that are the same each time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

# Okabe and Ito's palette.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
BLACK, GRAY = "#000000", "#777777"
STYLES: Mapping[str, tuple[str, str]] = {
    "entigraph": (BLUE, "o"),
    "rephrase": (VERMILION, "s"),
    "raw": (GREEN, "^"),
}
COLORS, MARKERS = (PURPLE, ORANGE, SKY, BLUE, VERMILION, GREEN), ("D", "v", "P", "X", "*", "<", ">")
LABELS: Mapping[str, str] = {
    "entigraph": "EntiGraph",
    "rephrase": "Rephrase",
    "raw": "Raw (documents repeated)",
    "qa": "QA pairs",
}


def prepare() -> None:
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"})
    plt.rcParams["svg.hashsalt"] = "entigraph"


def save(figure: Figure, out: Path, name: str) -> list[Path]:
    files = [out / f"{name}.png", out / f"{name}.svg"]
    for file in files:
        figure.savefig(file, dpi=160, metadata={"Date": None} if file.suffix == ".svg" else None)
    plt.close(figure)
    return files


def style(name: str, number: int) -> tuple[str, str]:
    """Color and marker: 42 pairs beyond the known ones before any comes again."""
    return STYLES.get(name, (COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]))


def label(name: str) -> str:
    """Of a line of a curve: its augmenter, and what tells it from others of that augmenter."""
    augmenter, _, told = name.partition(" ")
    return f"{LABELS.get(augmenter, augmenter)} {told}".strip()


def token_ticks(axes: Axes, budgets: Sequence[float], most: int = 6) -> None:
    """A logarithmic axis with a tick at each budget where they are few."""
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    if len(budgets) <= most:
        axes.set_xticks(sorted(budgets))
    if len({*budgets}) == 1:
        axes.set_xlim(budgets[0] / 2, budgets[0] * 2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def apart(tokens: Sequence[float], number: int, lines: int, budgets: int) -> list[float]:
    """Lines of one point each would hide one another: they stand side by side around their budget."""
    alone = budgets == 1 and lines > 1
    return [each * 1.6 ** (2 * number / (lines - 1) - 1) for each in tokens] if alone else list(tokens)


def share_axis(axes: Axes, which: Literal["x", "y"] = "y") -> None:
    (axes.yaxis if which == "y" else axes.xaxis).set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis=which, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def short(tokens: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:g}{unit}"
    return f"{tokens:g}"
