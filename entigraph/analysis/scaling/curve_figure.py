"""The figures of curve.json: the measured curve by kind of question, and the forecasts beyond the largest budget."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from entigraph.analysis.scaling.forecast import HORIZONS, form_by_name
from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, GRAY, Axes, Figure

REFERENCE_COLOR, DASHES = "#555555", ("-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (7, 2)))
BASE_LABEL, CHANCE_LABEL = "Base model", "Chance"
MAX_LISTED = 24  # series that the legend names

POINT = ("synthetic_tokens", "accuracy", "stderr")

Curve = Mapping[str, Any]


def draw_curve(curve: Curve, out: Path, title: str) -> None:
    """Writes curve.png and curve.svg."""
    groups = sorted({group for point in curve["points"] for group in point["groups"]})
    groups = groups if len(groups) > 1 else []  # a single kind of question is the main panel
    panels = [*groups, *(["background"] if any(point["background"] is not None for point in curve["points"]) else [])]
    columns = ceil(len(panels) / 2)
    figure = figures.load_pyplot().figure(figsize=(6.2 + 2.4 * columns, 4.8), layout="constrained")
    grid = figure.add_gridspec(2, 2 + columns, width_ratios=(1.15, 1.15, *[1] * columns))
    main = figure.add_subplot(grid[:, :2])
    draw_main_panel(main, curve)
    for position, name in enumerate(panels):
        draw_small_panel(figure.add_subplot(grid[position // columns, 2 + position % columns]), curve, name)
    add_legend(figure, main, curve, title)
    figures.save_figure(figure, out, "curve", curve["footer"])


def draw_main_panel(axes: Axes, curve: Curve) -> None:
    for name in legend_order(curve):
        index, points = style_index(curve, name), points_of_series(curve, name)
        fit = next((fit for fit in curve["fits"] if fit["augmenter"] == name and "r2" in fit), None)
        draw_fit(axes, fit, points, figures.series_style(name, index)[0])
        label = figures.display_name(name) + (describe_fit(fit) if fit else "")
        figures.plot_series(axes, name, index, points, *POINT, zorder=3, label=label)
    draw_reference_lines(axes, curve)
    axes.set_ylabel(curve["accuracy_label"])
    axes.set_xlabel("synthetic tokens")
    axes.set_title("All questions", fontsize=9)
    format_axes(axes, curve)


def add_legend(figure: Figure, main: Axes, curve: Curve, title: str) -> None:
    """Lists augmenters, then reference lines, above the panels; references only if there are too many series."""
    series = len(legend_order(curve))
    handles, names = main.get_legend_handles_labels()
    entries = dict(zip(names, handles, strict=True))
    references = {BASE_LABEL, CHANCE_LABEL, *(model["name"] for model in curve.get("baselines", ()))}
    labels = sorted(entries, key=lambda label: label in references)
    if series > MAX_LISTED:
        hint = f"{series} lines: analysis=grid shows them separately"
        entries[hint] = main.plot([], [], linestyle="none")[0]
        labels = [hint, *(label for label in labels if label in references)]
    width = max(map(len, labels)) / figures.NOTE_CHARACTERS + 0.5  # inches, with the line in front
    columns = max(1, int(figure.get_figwidth() / width))
    figure.set_figheight(figure.get_figheight() + 0.18 * ceil(len(labels) / columns))
    figure.legend(
        [entries[label] for label in labels],
        labels,
        loc="outside upper center",
        ncols=columns,
        title=title,
        title_fontsize=10,
        frameon=False,
        fontsize=8,
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
    for augmenter in legend_order(curve):
        color, marker = figures.series_style(augmenter, style_index(curve, augmenter))
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
    chance = curve["chance_by_group"].get(name, curve["chance"])
    axes.axhline(chance, color=GRAY, linestyle=":", linewidth=1, label=CHANCE_LABEL, zorder=1)
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
    axes.set_ylim(0, accuracy_limit(curve))


def accuracy_limit(curve: Curve) -> float:
    """Returns the upper end of the axis: 1, or less if every accuracy is below one half, as for short answers."""
    entries = [*curve["points"], *curve.get("baselines", ()), *([curve["base"]] if curve["base"] else [])]
    values = [
        curve["chance"],
        *(value for entry in entries for value in (entry["accuracy"], *entry["groups"].values())),
    ]
    values += [entry["background"] for entry in entries if entry.get("background") is not None]
    return 1 if max(values) > 0.5 else ceil(12 * max(values) + 0.5) / 10


def points_of_series(curve: Curve, name: str) -> list[Mapping[str, Any]]:
    return [point for point in curve["points"] if point["augmenter"] == name]


def style_index(curve: Curve, name: str) -> int:
    """Returns the index that gives a series the same color and marker in all figures of its study."""
    return sorted({point["augmenter"] for point in curve["points"]}).index(name)


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
    for axes, forecast in zip(panels[0], reversed(forecasts), strict=True):
        runs = [run for run in curve["runs"] if run["augmenter"] == forecast["augmenter"]]
        draw_forecast_panel(axes, forecast, runs, style_index(curve, forecast["augmenter"]))
    panels[0, 0].set_ylabel(curve["accuracy_label"])
    panels[0, 0].legend(frameon=False, fontsize=8, loc="upper left")
    figure.suptitle(f"Forecasts, {100 * forecasts[0]['curve']['confidence']:.0f}% bands", fontsize=10)
    figures.save_figure(figure, out, "forecast", curve["footer"])


def draw_forecast_panel(axes: Axes, forecast: Mapping[str, Any], runs: list[Mapping[str, Any]], index: int) -> None:
    name, curve, last = forecast["augmenter"], forecast["curve"], forecast["tokens"][1]
    color, _ = figures.series_style(name, index)
    tokens, accuracy = np.array(curve["tokens"]), np.array(curve["accuracy"])
    band: dict[str, Any] = {"color": color, "linewidth": 0}
    axes.fill_between(tokens, curve["run_low"], curve["run_high"], alpha=0.12, label="band of a new run", **band)
    axes.fill_between(tokens, curve["low"], curve["high"], alpha=0.28, label="band of the curve", **band)
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
    axes.set_title(f"{figures.display_name(name)}\n{form_by_name(forecast['chosen']).formula}", fontsize=9)
    figures.format_percent_axis(axes)
    axes.set_ylim(0, 1)
