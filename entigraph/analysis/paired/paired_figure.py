"""By kind of question, the share that one evaluation gained on another and the share that it lost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

from entigraph.reporting.figures import BLACK, BLUE, GRAY, VERMILION, prepare, save

ALL = "all questions"


def paired_figure(pair: Mapping[str, Any], out: Path) -> list[Path]:
    prepare()
    whole = {name: pair[name] for name in ("questions", "gained", "lost")}
    kinds = {name.replace("_", " "): own for name, own in pair["groups"].items()} if len(pair["groups"]) > 1 else {}
    rows = {ALL: whole, **kinds}
    figure, axes = plt.subplots(figsize=(7.2, 1.5 + 0.36 * len(rows)), layout="constrained")
    for place, own in enumerate(rows.values()):
        gained, lost = (own[name] / own["questions"] for name in ("gained", "lost"))
        axes.barh(place, gained, color=BLUE, height=0.62, label="gained" if not place else None)
        axes.barh(place, -lost, color=VERMILION, height=0.62, label="lost" if not place else None)
        axes.plot([gained - lost], [place], color=BLACK, marker="D", markersize=4, linestyle="none")
    axes.plot([], [], color=BLACK, marker="D", markersize=4, linestyle="none", label="difference")
    axes.axvline(0, color=GRAY, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{name} ({own['questions']:,})" for name, own in rows.items()])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):.0%}"))
    axes.set_xlabel("share of the questions")
    axes.set_title(f"{pair['one']}\nminus {pair['other']}, {pair['task'].replace('_', ' ')}", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    if pair["label"]:
        figure.supxlabel(pair["label"], fontsize=8, color=GRAY)
    return save(figure, out, "paired")
