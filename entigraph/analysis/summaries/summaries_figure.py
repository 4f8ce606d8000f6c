"""False claims against salient claims, both relative to the references (paper Fig. 3)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from entigraph.analysis.paper import published
from entigraph.reporting.figures import BLACK, GRAY, prepare, save, style

FILLED = ("full", "none", "left", "right")  # by prompt, in their order
MARKS = ("filled", "open", "left half", "right half")


def summaries_figure(result: Mapping[str, Any], out: Path) -> list[Path]:
    """A marker for each prompt, joined for each summarizer; what has no ratio is named below."""
    prepare()
    figure, axes = plt.subplots(figsize=(6.4, 5.0), layout="constrained")
    own = [row for row in result["rows"] if row["kind"] != "reference"]
    prompts = list(dict.fromkeys(row["prompt"] for row in own))
    names = list(dict.fromkeys(row["summarizer"] for row in own))
    for number, name in enumerate(names):
        members = [row for row in own if row["summarizer"] == name and is_drawn(row)]
        draw(axes, name, members, prompts, *look(members, number))
    axes.plot([1], [1], color=BLACK, marker="x", markersize=8, linestyle="none", label="the reference")
    frame(axes)
    axes.set_xlabel("salient claims relative to the reference")
    axes.set_ylabel("false claims relative to the reference")
    axes.margins(0.04)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=7.5)
    figure.supxlabel("\n".join(filter(None, notes(result, prompts))), fontsize=8, color=GRAY)
    return save(figure, out, "summaries")


def is_drawn(row: Mapping[str, Any]) -> bool:
    return all(row[standing]["relative"]["value"] is not None for standing in ("false", "salient"))


def look(members: list[Mapping[str, Any]], number: int) -> tuple[str, str]:
    kind = members[0]["kind"] if members else ""
    return (GRAY, "h") if kind == "base" else style(kind, number)


def draw(axes: Axes, name: str, rows: list[Mapping[str, Any]], prompts: list[str], color: str, marker: str) -> None:
    places = [tuple(row[standing]["relative"]["value"] for standing in ("salient", "false")) for row in rows]
    axes.plot([x for x, _ in places], [y for _, y in places], color=color, linewidth=0.8, alpha=0.6)
    for row, (x, y) in zip(rows, places, strict=True):
        fill = FILLED[prompts.index(row["prompt"]) % len(FILLED)]
        first = row is rows[0]
        axes.plot(
            [x], [y], color=color, marker=marker, fillstyle=fill, linestyle="none", zorder=3,
            label=name if first else None,
        )  # fmt: skip
        for standing, vertical in (("salient", False), ("false", True)):
            interval = row[standing]["relative"]["interval"]
            if interval and vertical:
                axes.plot([x, x], interval, color=color, linewidth=0.8)
            elif interval:
                axes.plot(interval, [y, y], color=color, linewidth=0.8)


def frame(axes: Axes) -> None:
    """Where the paper's figure ends: it prints no numbers of its nine points."""
    (left, right), (low, high) = published.CLAIMS_AXES["salient"], published.CLAIMS_AXES["false"]
    axes.plot([left, right, right, left, left], [high, high, low, low, high], color=GRAY, linestyle=":", linewidth=1)
    axes.annotate(
        f"the axes of the paper's figure ({published.CLAIMS_SECTION})", (right, high), (-3, -9),
        textcoords="offset points", fontsize=7, color=GRAY, ha="right",
    )  # fmt: skip


def notes(result: Mapping[str, Any], prompts: list[str]) -> list[str | None]:
    absent = [f"{row['summarizer']}, {row['prompt']}" for row in result["rows"] if not is_drawn(row)]
    marks = ", ".join(f"{prompt} ({fill})" for prompt, fill in zip(prompts, MARKS, strict=False))
    return [
        f"prompts: {marks}; {result['confidence']:.0%} intervals by document",
        f"judged by {result['judge']}",
        f"references by {result['references']['by']}",
        f"no ratio to draw: {'; '.join(absent)}" if absent else None,
        result["label"],
    ]
