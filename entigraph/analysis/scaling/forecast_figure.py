"""The figure of curve.json's forecasts: each augmenter's chosen form with its bands, beyond the largest budget."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from entigraph.analysis.scaling.forecast import HORIZONS, form_by_name
from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, DISPLAY_NAMES, GRAY, Axes


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
    color, marker = figures.series_style(name, index)
    tokens, accuracy = np.array(curve["tokens"]), np.array(curve["accuracy"])
    band: dict[str, Any] = {"color": color, "linewidth": 0}
    axes.fill_between(tokens, curve["run_low"], curve["run_high"], alpha=0.12, label="another run", **band)
    axes.fill_between(tokens, curve["low"], curve["high"], alpha=0.28, label="the curve", **band)
    measured = tokens <= last
    axes.plot(tokens[measured], accuracy[measured], color=color, linewidth=1.4)
    axes.plot(
        tokens[~measured], accuracy[~measured], color=color, linewidth=1.4, linestyle="--", label="extrapolated"
    )  # fmt: skip
    axes.plot(
        [run["synthetic_tokens"] for run in runs],
        [run["accuracy"] for run in runs],
        color=color, marker=marker, markersize=4.5, markeredgecolor=BLACK, markeredgewidth=0.4, linestyle="none",
        label="runs", zorder=3,
    )  # fmt: skip
    axes.axvline(last, color=GRAY, linestyle=":", linewidth=1)
    budgets = {run["budget"] for run in runs}
    ahead = {factor * max(budgets) for factor in HORIZONS if factor * last <= tokens[-1] * 1.01}
    figures.format_token_axis(axes, sorted(budgets | ahead), max_ticks=8)
    axes.tick_params(labelsize=7.5)
    axes.set_xlabel("synthetic tokens")
    axes.set_title(f"{DISPLAY_NAMES.get(name, name)}\n{form_by_name(forecast['chosen']).formula}", fontsize=9)
    figures.format_percent_axis(axes)
    axes.set_ylim(0, 1)
