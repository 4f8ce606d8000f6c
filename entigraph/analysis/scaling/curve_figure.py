"""The figures of curve.json: the measured curve by kind of question, and the forecasts beyond the largest budget."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from entigraph.analysis.scaling.forecast import HORIZONS, form_by_name
from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, DISPLAY_NAMES, GRAY, Axes

REFERENCE_COLOR, DASHES = "#555555", ("-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (7, 2)))
BASE_LABEL, CHANCE_LABEL = "Base model", "Chance"
MAX_INSIDE, MAX_LISTED = 8, 24  # series that the legend names inside the panel, and below it

POINT = ("synthetic_tokens", "accuracy", "stderr")

Curve = Mapping[str, Any]


def draw_curve(curve: Curve, out: Path, title: str) -> None:
    """Writes curve.png and curve.svg."""
    groups = sorted({group for point in curve["points"] for group in point["groups"]})
    groups = groups if len(groups) > 1 else []  # a single kind of question is the main panel
    panels = [*groups, *(["background"] if any(point["background"] is not None for point in curve["points"]) else [])]
    columns = ceil(len(panels) / 2)
    series = len(legend_order(curve))
    legend_height = 0.18 * series if MAX_INSIDE < series <= MAX_LISTED else 0.0
    figure = figures.load_pyplot().figure(figsize=(6.2 + 2.4 * columns, 4.8 + legend_height), layout="constrained")
    grid = figure.add_gridspec(2, 2 + columns, width_ratios=(1.15, 1.15, *[1] * columns))
    draw_main_panel(figure.add_subplot(grid[:, :2]), curve)
    for position, name in enumerate(panels):
        draw_small_panel(figure.add_subplot(grid[position // columns, 2 + position % columns]), curve, name)
    figure.suptitle(title, fontsize=10)
    figures.save_figure(figure, out, "curve", curve["footer"])


def draw_main_panel(axes: Axes, curve: Curve) -> None:
    for index, name in enumerate(legend_order(curve)):
        points = points_of_series(curve, name)
        fit = next((fit for fit in curve["fits"] if fit["augmenter"] == name and "r2" in fit), None)
        draw_fit(axes, fit, points, figures.series_style(name, index)[0])
        label = figures.display_name(name) + (describe_fit(fit) if fit else "")
        figures.plot_series(axes, name, index, points, *POINT, zorder=3, label=label)
    draw_reference_lines(axes, curve)
    axes.set_ylabel("closed-book accuracy")
    axes.set_xlabel("synthetic tokens")
    axes.set_title("All questions", fontsize=9)
    add_legend(axes, curve)
    format_axes(axes, curve)


def add_legend(axes: Axes, curve: Curve) -> None:
    """Lists augmenters, then reference lines; below the panel if there are many, references only if too many."""
    handles, labels = axes.get_legend_handles_labels()
    references = {BASE_LABEL, CHANCE_LABEL, *(model["name"] for model in curve.get("baselines", ()))}
    order = sorted(range(len(labels)), key=lambda index: labels[index] in references)
    series = len(legend_order(curve))
    if series > MAX_LISTED:
        order = [index for index in order if labels[index] in references]
        hint = f"{series} lines: analysis=grid shows them separately"
        axes.plot([], [], linestyle="none", label=hint)
        handles, labels, order = [*handles, axes.lines[-1]], [*labels, hint], [len(labels), *order]
    below = MAX_INSIDE < series <= MAX_LISTED
    axes.legend(
        [handles[index] for index in order],
        [labels[index] for index in order],
        frameon=False,
        fontsize=8,
        loc="upper center" if below else "upper left",
        bbox_to_anchor=(0.5, -0.12) if below else None,
    )


def describe_fit(fit: Mapping[str, Any]) -> str:
    return f": {100 * fit['gain_per_doubling']:+.1f} points per doubling, R² {fit['r2']:.2f}"


def draw_fit(axes: Axes, fit: Mapping[str, Any] | None, points: Sequence[Mapping[str, Any]], color: str) -> None:
    """Draws the fitted line with its band, or connects the points if there is no fit."""
    if fit is None:
        tokens, accuracy = [point["synthetic_tokens"] for point in points], [point["accuracy"] for point in points]
        axes.plot(tokens, accuracy, color=color, linewidth=1)
        return
    band, parameters = fit["band"], fit["parameters"]
    axes.fill_between(band["tokens"], band["low"], band["high"], color=color, alpha=0.15, linewidth=0)
    axes.plot(band["tokens"], parameters["a"] + parameters["b"] * np.log(band["tokens"]), color=color, linewidth=1.2)


def draw_small_panel(axes: Axes, curve: Curve, name: str) -> None:
    for index, augmenter in enumerate(legend_order(curve)):
        color, marker = figures.series_style(augmenter, index)
        points = points_of_series(curve, augmenter)
        values = [point["background"] if name == "background" else point["groups"].get(name) for point in points]
        tokens = [point["synthetic_tokens"] for point in points]
        axes.plot(tokens, values, color=color, marker=marker, markersize=4, linewidth=1)
    draw_reference_lines(axes, curve, name)
    kind = name.replace("_", " ").capitalize()
    axes.set_title("Background facts (forgetting)" if name == "background" else f"{kind} questions", fontsize=9)
    axes.tick_params(labelsize=7)
    format_axes(axes, curve)


def draw_reference_lines(axes: Axes, curve: Curve, name: str | None = None) -> None:
    """Draws chance, the other models and the base model: on all questions, or on those of one panel."""
    axes.axhline(curve["chance"], color=GRAY, linestyle=":", linewidth=1, label=CHANCE_LABEL, zorder=1)
    for index, model in enumerate(curve.get("baselines", ())):
        value = model["accuracy"] if name is None else model["groups"].get(name)
        if value is not None:
            style = DASHES[index % len(DASHES)]
            axes.axhline(value, color=REFERENCE_COLOR, linestyle=style, linewidth=1, label=model["name"], zorder=1)
    base = curve["base"]
    values = {None: base["accuracy"], "background": base["background"], **base["groups"]} if base else {}
    if values.get(name) is not None:
        axes.axhline(values[name], color=BLACK, linestyle="--", linewidth=1, label=BASE_LABEL, zorder=1)


def format_axes(axes: Axes, curve: Curve) -> None:
    figures.format_token_axis(axes, sorted({point["budget"] for point in curve["points"]}))
    figures.format_percent_axis(axes)
    axes.set_ylim(0, 1)


def points_of_series(curve: Curve, name: str) -> list[Mapping[str, Any]]:
    return [point for point in curve["points"] if point["augmenter"] == name]


def legend_order(curve: Curve) -> list[str]:
    """Returns the names of the series, the highest last point first."""
    last: dict[str, float] = {point["augmenter"]: point["accuracy"] for point in curve["points"]}
    return sorted(last, key=lambda name: -last[name])


def draw_forecasts(curve: Mapping[str, Any], out: Path) -> None:
    """Writes forecast.png and forecast.svg, one panel per forecast; nothing if there is no forecast."""
    forecasts = [forecast for forecast in curve["forecasts"] if "curve" in forecast]
    if not forecasts:
        return
    count = len(forecasts)
    figure, panels = figures.create_figure(1, count, figsize=(max(4.2, 3.5 * count), 3.6), sharey=True)
    for index, (axes, forecast) in enumerate(zip(panels[0], reversed(forecasts), strict=True)):
        runs = [run for run in curve["runs"] if run["augmenter"] == forecast["augmenter"]]
        draw_forecast_panel(axes, forecast, runs, index)
    panels[0, 0].set_ylabel("closed-book accuracy")
    panels[0, 0].legend(frameon=False, fontsize=8, loc="upper left")
    figure.suptitle(f"Forecasts, {100 * forecasts[0]['curve']['confidence']:.0f} % bands", fontsize=10)
    figures.save_figure(figure, out, "forecast", curve["footer"])


def draw_forecast_panel(axes: Axes, forecast: Mapping[str, Any], runs: list[Mapping[str, Any]], index: int) -> None:
    name, curve, last = forecast["augmenter"], forecast["curve"], forecast["tokens"][1]
    color, _ = figures.series_style(name, index)
    tokens, accuracy = np.array(curve["tokens"]), np.array(curve["accuracy"])
    band: dict[str, Any] = {"color": color, "linewidth": 0}
    axes.fill_between(tokens, curve["run_low"], curve["run_high"], alpha=0.12, label="another run", **band)
    axes.fill_between(tokens, curve["low"], curve["high"], alpha=0.28, label="the curve", **band)
    measured = tokens <= last
    axes.plot(tokens[measured], accuracy[measured], color=color, linewidth=1.4)
    axes.plot(
        tokens[~measured], accuracy[~measured], color=color, linewidth=1.4, linestyle="--", label="extrapolated"
    )  # fmt: skip
    edge: dict[str, Any] = {"markeredgecolor": BLACK, "markeredgewidth": 0.4}
    figures.plot_series(axes, name, index, runs, *POINT[:2], markersize=4.5, label="runs", zorder=3, **edge)
    axes.axvline(last, color=GRAY, linestyle=":", linewidth=1)
    budgets = {run["budget"] for run in runs}
    ahead = {factor * max(budgets) for factor in HORIZONS if factor * last <= tokens[-1] * 1.01}
    figures.format_token_axis(axes, sorted(budgets | ahead), max_ticks=8)
    axes.tick_params(labelsize=7.5)
    axes.set_xlabel("synthetic tokens")
    axes.set_title(f"{DISPLAY_NAMES.get(name, name)}\n{form_by_name(forecast['chosen']).formula}", fontsize=9)
    figures.format_percent_axis(axes)
    axes.set_ylim(0, 1)
