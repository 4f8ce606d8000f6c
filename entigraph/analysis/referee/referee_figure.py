"""The referee's figure: accuracy by tokens and by dollars, and the differences at the largest common budget."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, GRAY, Axes

SMALL_DOLLARS = 0.001  # below it, an axis has powers of ten


def draw_referee(result: Mapping[str, Any], out: Path) -> None:
    """Writes referee.png and referee.svg."""
    rows = [row for row in result["comparisons"] if row["equal"] == "tokens"]
    largest = max((row["at"] for row in rows), default=0)
    rows = [row for row in rows if row["at"] == largest]
    figure, axes = figures.create_figure(1, 3, figsize=(13, max(4.2, 1.2 + 0.18 * len(rows))))
    by_tokens, by_dollars, differences = axes[0]
    draw_points(by_tokens, result, "tokens")
    figures.format_token_axis(by_tokens, sorted({point["budget"] for point in result["points"]}))
    by_tokens.set_xlabel("synthetic tokens")
    by_tokens.set_ylabel(result["accuracy_label"])
    by_dollars.sharey(by_tokens)
    draw_points(by_dollars, result, "dollars")
    draw_front(by_dollars, result)
    format_dollar_axis(by_dollars)
    by_dollars.set_xlabel(f"dollars (prices of {result['prices']['date']})")
    figure.legend(
        *by_dollars.get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False, fontsize=8
    )
    draw_differences(differences, rows, largest)
    figures.save_figure(figure, out, "referee", result["footer"])


def draw_points(axes: Axes, result: Mapping[str, Any], cost: str) -> None:
    for index, name in enumerate(result["methods"]):
        points = [point for point in result["points"] if point["method"] == name and point[cost] > 0]
        color, marker = figures.series_style(name, index)
        errors = [
            [max(0.0, point["accuracy"] - point["interval"][0]) for point in points],
            [max(0.0, point["interval"][1] - point["accuracy"]) for point in points],
        ]
        axes.errorbar(
            [point[cost] for point in points], [point["accuracy"] for point in points], yerr=errors,
            color=color, marker=marker, linewidth=0.8, capsize=2, label=figures.display_name(name),
        )  # fmt: skip
    if result["base"]:
        axes.axhline(result["base"]["accuracy"], color=GRAY, linestyle="--", linewidth=0.8, label="Base model")
    if any(point[cost] > 0 for point in result["points"]):
        axes.set_xscale("log")
    figures.format_percent_axis(axes)


def format_dollar_axis(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"${value:,.12g}" if value >= SMALL_DOLLARS else f"${value:.0e}")
    )
    axes.xaxis.set_minor_locator(NullLocator())


def draw_front(axes: Axes, result: Mapping[str, Any]) -> None:
    front = [result["points"][index] for index in result["pareto"] if result["points"][index]["dollars"] > 0]
    axes.step(
        [point["dollars"] for point in front], [point["accuracy"] for point in front],
        where="post", color=BLACK, linewidth=1.2, alpha=0.5, label="Pareto front",
    )  # fmt: skip


def draw_differences(axes: Axes, rows: list[Mapping[str, Any]], at: float) -> None:
    for y, row in enumerate(rows):
        low, high = (100 * bound for bound in row["interval"])
        color = BLACK if row["significant"] else GRAY
        axes.plot([low, high], [y, y], color=color, linewidth=1.2)
        axes.plot([100 * row["difference"]], [y], color=color, marker="o" if row["significant"] else "|", markersize=5)
    axes.axvline(0, color=GRAY, linewidth=0.8)
    labels = [f"{figures.display_name(row['one'])} − {figures.display_name(row['other'])}" for row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=7)
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    figures.add_grid(axes, "x")
    axes.set_xlabel(f"difference in percentage points at\n{at:,.0f} tokens (black: significant)")
