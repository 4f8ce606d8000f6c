"""Shares of subjective and of supported sentences with their intervals, the paper's below them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from entigraph.analysis.paper import published
from entigraph.reporting.figures import BLACK, GRAY, LABELS, prepare, save, style

TITLES = {"subjective": "subjective, of all judged", "supported": "supported, of the others"}


def factuality_figure(result: Mapping[str, Any], out: Path) -> list[Path]:
    """By the person where there is one, else by the first judge."""
    judge = result["judges"].get("person") or result["judges"]["judge"]
    rows = judge["rows"]
    names = list(dict.fromkeys(row["augmenter"] for row in rows))
    prepare()
    figure, panels = plt.subplots(1, 2, figsize=(9.0, 1.4 + 0.24 * len(rows)), sharey=True, layout="constrained")
    for axes, (measure, title) in zip(panels, TITLES.items(), strict=True):
        for place, row in enumerate(rows):
            color, marker = style(row["augmenter"], names.index(row["augmenter"]))
            interval(axes, place, row[measure], color, marker, row["by"] == "all")
        paper = published.FACTUALITY[measure]
        interval(axes, len(rows), {"value": paper.value, "interval": paper.interval}, BLACK, "x", True)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_title(title, fontsize=9)
    labels = [name_of(row) for row in rows]
    panels[0].set_yticks(range(len(rows) + 1), [*labels, f"paper ({published.FACTUALITY_SECTION})"])
    panels[0].invert_yaxis()
    note = f"judged by {judge['name']}; {result['confidence']:.0%} Wilson intervals"
    figure.supxlabel("\n".join(filter(None, (note, result["label"]))), fontsize=8, color=GRAY)
    return save(figure, out, "factuality")


def interval(axes: Axes, place: int, share: Mapping[str, Any], color: str, marker: str, whole: bool) -> None:
    if share["value"] is None:
        return
    low, high = share["interval"]
    axes.plot([low, high], [place, place], color=color, linewidth=1.6 if whole else 0.8)
    axes.plot([share["value"]], [place], color=color, marker=marker, markersize=6 if whole else 4)


def name_of(row: Mapping[str, Any]) -> str:
    if row["by"] == "all":
        return LABELS.get(row["augmenter"], row["augmenter"])
    return row["group"] if row["by"] == "kind" else f"{row['group']} entities"
