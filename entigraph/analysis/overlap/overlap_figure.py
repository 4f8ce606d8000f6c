"""N-gram overlap by length, this corpus beside the paper's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from entigraph.analysis.overlap.overlap import ALL_KINDS
from entigraph.analysis.paper import published
from entigraph.reporting.figures import GRAY, LABELS, prepare, save, share_axis, style


def overlap_figure(result: Mapping[str, Any], out: Path) -> list[Path]:
    prepare()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.8), layout="constrained")
    names = list(dict.fromkeys(row["augmenter"] for row in result["rows"]))
    for row in result["rows"]:
        whole = row["kind"] == ALL_KINDS
        color, marker = style(row["augmenter"], names.index(row["augmenter"]))
        left.plot(
            range(len(result["sizes"])),
            [row["overlap"][str(size)] for size in result["sizes"]],
            color=color,
            marker=marker if whole else None,
            linewidth=1.6 if whole else 0.7,
            linestyle="-" if whole else ":",
            label=LABELS.get(row["augmenter"], row["augmenter"]) if whole else None,
        )
    left.plot([], [], color=GRAY, linewidth=0.7, linestyle=":", label="one kind of text")
    finish(left, result["sizes"], "These corpora")
    left.set_ylabel("tokens that begin an n-gram of the source")
    for number, (name, shares) in enumerate(published.OVERLAP.items()):
        color, marker = style(name, number)
        right.plot(range(len(shares)), list(shares.values()), color=color, marker=marker, label=LABELS.get(name, name))
    finish(right, list(next(iter(published.OVERLAP.values()))), f"The paper's ({published.OVERLAP_SECTION})")
    if result["label"]:
        figure.supxlabel(result["label"], fontsize=8, color=GRAY)
    return save(figure, out, "overlap")


def finish(axes: Axes, sizes: list[int], title: str) -> None:
    axes.set_xticks(range(len(sizes)), [f"n = {size}" for size in sizes])
    axes.set_title(title, fontsize=9)
    axes.set_ylim(bottom=0)
    share_axis(axes)
    axes.legend(frameon=False, fontsize=8)
