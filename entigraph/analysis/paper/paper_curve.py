"""The paper's curves, from the numbers that it publishes, with a study's own points if it has finished runs.

Levels are not comparable across the two panels of a figure: documents, questions, models and budgets differ.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.paper import published
from entigraph.analysis.study_runs import StudyRun, build_points, figure_footer, run_folders, summarize_base_model
from entigraph.errors import ConfigError
from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, Axes, Figure
from entigraph.storage.artifact import write_json

CAPTION_WIDTH = 74  # characters per panel
LEGEND_DISTANCE = 34  # points from the axes to a legend below its labels
LINES = ("--", "-.", (0, (1, 1)), (0, (4, 1, 1, 1)))
LEVEL_STYLES = {"GPT-4": (PURPLE, LINES[0]), "GPT-3.5": (ORANGE, LINES[1]), "Llama 3 8B": (BLACK, LINES[2])}


@dataclass(frozen=True, kw_only=True)
class PaperCurve:
    """One of the paper's figures of accuracy against tokens, by `name`: Figs. 2, 5, 6 and 8 (`published.CURVES`)."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in published.CURVES:
            raise ConfigError(f"analysis.name must be one of {', '.join(published.CURVES)}, got {self.name!r}")

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return run_folders(context.runs)

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes NAME.json, .png, .svg and .pdf."""
        return write_paper_curve(self.name, context.runs, out)


def write_paper_curve(name: str, runs: Sequence[StudyRun], out: Path) -> list[str]:
    curve = published.CURVES[name]
    figure, paper_axes, study_axes = create_panels(runs, curve.title, 4.2 if curve.fitted or runs else 2.0)
    draw_published(paper_axes, curve)
    if study_axes is not None:
        format_log_axis(study_axes)
        draw_study_points(study_axes, runs, connected=True)
        base = summarize_base_model(runs)
        if base:
            study_axes.axhline(base["accuracy"], color=BLACK, linestyle=LINES[2], linewidth=1.2, label="Base model")
        study_axes.set_ylim(0, 1)
        study_axes.set_title("This study", fontsize=8)
        add_legend_below(study_axes)
    figures.save_figure(
        figure, out, name, "\n".join(filter(None, (published_note(curve, bool(runs)), study_note(runs))))
    )
    study = [asdict(point) for point in build_points(runs)]
    write_json(out / f"{name}.json", {"paper": asdict(curve) | sample_fit(curve), "study": study})
    return [f"as published ({published.PAPER}):", *published_lines(curve)]


def create_panels(runs: Sequence[StudyRun], title: str, height: float = 4.2) -> tuple[Figure, Axes, Axes | None]:
    """Returns the paper's panel, and one for the study's runs if there are any; `height` is that of the figure."""
    count = 2 if runs else 1
    figure, (panels,) = figures.create_figure(1, count, figsize=(5.2 * count + 0.6, height))
    figure.suptitle(title, fontsize=10)
    return figure, panels[0], panels[1] if runs else None


def format_log_axis(axes: Axes) -> None:
    from matplotlib.ticker import NullFormatter

    axes.set_xscale("log")
    axes.set_xlabel("synthetic tokens")
    axes.set_ylabel("closed-book accuracy")
    axes.xaxis.set_minor_formatter(NullFormatter())
    figures.format_count_axis(axes)
    figures.format_percent_axis(axes)


def study_note(runs: Sequence[StudyRun]) -> str:
    footer = figure_footer(runs)
    return f"right: {footer}" if footer else ""


def sample_fit(curve: published.PublishedCurve) -> dict[str, Any]:
    tokens = np.geomspace(*curve.tokens, 200)
    fit = {"tokens": tokens.tolist(), "accuracy": published.fitted_accuracy(tokens).tolist()}
    return {"fit": fit} if curve.fitted else {}


def published_note(curve: published.PublishedCurve, with_study: bool) -> str:
    """Returns what the paper's figure shows in addition, as lines that fit below the figure."""
    width = CAPTION_WIDTH * (1 + with_study)
    return textwrap.fill(f"The paper also draws, without printing its numbers: {curve.only_drawn}.", width)


def draw_published(axes: Axes, curve: published.PublishedCurve) -> None:
    draw_published_curve(axes, curve) if curve.fitted else draw_published_values(axes, curve)
    axes.set_title(f"As published ({published.PAPER})", fontsize=8)


def draw_published_values(axes: Axes, curve: published.PublishedCurve) -> None:
    """Draws single numbers as a row each: on the axes of a curve, they would leave most of the figure empty."""
    values: list[published.PublishedLevel | published.PublishedPoint] = [*curve.levels, *curve.points]
    for row, value in enumerate(values):
        color = LEVEL_STYLES.get(value.name, (BLUE, ""))[0]
        axes.plot([value.accuracy], [row], color=color, marker="o", linestyle="none")
        axes.annotate(f"{value.accuracy:.1%}", (value.accuracy, row), (6, 0), textcoords="offset points",
                      va="center", fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(values)), [f"{value.name} ({value.section})" for value in values], fontsize=8)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlim(*curve.accuracies)
    axes.set_xlabel("closed-book accuracy")
    figures.format_percent_axis(axes, "x")


def draw_published_curve(axes: Axes, curve: published.PublishedCurve) -> None:
    from matplotlib.ticker import LogLocator

    format_log_axis(axes)
    tokens = np.geomspace(*curve.tokens, 200)
    label = f"EntiGraph, fit of {published.FIT_SECTION}"
    axes.plot(tokens, published.fitted_accuracy(tokens), color=BLUE, label=label)
    for index, point in enumerate(curve.points):
        color, marker = figures.series_style(point.augmenter, index)
        label = f"{point.name}{': more than this' if point.above else ''} ({point.section})"
        axes.errorbar(
            [point.tokens], [point.accuracy], yerr=0.012 if point.above else None, lolims=point.above,
            color=color, marker="_" if point.above else marker, linestyle="none", label=label, zorder=3,
        )  # fmt: skip
    for level in curve.levels:
        color, line = LEVEL_STYLES.get(level.name, (GREEN, LINES[-1]))
        label = f"{level.name} ({level.section})"
        axes.axhline(level.accuracy, linestyle=line, color=color, linewidth=1.2, label=label, zorder=1)
    axes.set_xlim(curve.tokens[0] / 1.15, curve.tokens[1] * 1.3)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if curve.tokens[1] < 10 * curve.tokens[0] else (1,)))
    axes.set_ylim(*curve.accuracies)
    add_legend_below(axes)


def add_legend_below(axes: Axes) -> None:
    from matplotlib.transforms import ScaledTranslation

    below = axes.transAxes + ScaledTranslation(0, -LEGEND_DISTANCE / 72, axes.figure.dpi_scale_trans)
    axes.legend(frameon=False, fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below, ncols=1)


def published_lines(curve: published.PublishedCurve) -> list[str]:
    values = [(level.name, level.accuracy, level.section, "") for level in curve.levels]
    values += [(point.name, point.accuracy, point.section, ">" * point.above) for point in curve.points]
    width = max(len(name) for name, *_ in values)
    return [
        *(f"  {name:{width}} {sign:>1}{accuracy:.4f}  {section}" for name, accuracy, section, sign in values),
        f"  only drawn, without numbers: {curve.only_drawn}",
    ]


def draw_study_points(axes: Axes, runs: Sequence[StudyRun], connected: bool) -> None:
    points = build_points(runs)
    names, budgets = list(dict.fromkeys(point.augmenter for point in points)), {point.budget for point in points}
    for index, name in enumerate(names):
        series = [asdict(point) for point in points if point.augmenter == name]
        style = {"linestyle": "-" if connected else "none", "linewidth": 1, "zorder": 3}
        figures.plot_series(axes, name, index, series, "synthetic_tokens", "accuracy", "stderr", **style)
    figures.format_token_axis(axes, sorted(budgets))
