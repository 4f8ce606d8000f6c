"""Every augmenter's chosen form with its bands, beyond the largest budget that was measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from entigraph.analysis.scaling.curve_forms import FORMS
from entigraph.reporting.figures import BLACK, GRAY, LABELS, prepare, save, share_axis, style, token_ticks

BY_NAME = {form.name: form for form in FORMS}


def forecast_figure(curve: Mapping[str, Any], out: Path) -> list[Path]:
    """Draws curve.json's forecasts, one panel each; nothing where there is none."""
    foretold = [one for one in curve["forecasts"] if "curve" in one]
    if not foretold:
        return []
    prepare()
    width = max(4.2, 3.5 * len(foretold))
    figure, panels = plt.subplots(
        1, len(foretold), figsize=(width, 3.6), layout="constrained", sharey=True, squeeze=False
    )
    for number, (axes, one) in enumerate(zip(panels[0], reversed(foretold), strict=True)):
        forecast_panel(axes, one, curve, number)
    panels[0, 0].set_ylabel("closed-book accuracy")
    figure.suptitle(f"Forecasts, {100 * foretold[0]['curve']['confidence']:.0f} % bands", fontsize=10)
    if curve["label"]:
        figure.supxlabel(curve["label"], fontsize=8, color=GRAY)
    return save(figure, out, "forecast")


def forecast_panel(axes: Axes, one: Mapping[str, Any], curve: Mapping[str, Any], number: int) -> None:
    name, drawn, last = one["augmenter"], one["curve"], one["tokens"][1]
    color, marker = style(name, number)
    tokens = np.array(drawn["tokens"])
    axes.fill_between(
        tokens, drawn["run_low"], drawn["run_high"], color=color, alpha=0.12, linewidth=0, label="another run"
    )
    axes.fill_between(tokens, drawn["low"], drawn["high"], color=color, alpha=0.28, linewidth=0, label="the curve")
    measured = tokens <= last
    axes.plot(tokens[measured], np.array(drawn["accuracy"])[measured], color=color, linewidth=1.4)
    axes.plot(
        tokens[~measured],
        np.array(drawn["accuracy"])[~measured],
        color=color,
        linewidth=1.4,
        linestyle="--",
        label="extrapolated",
    )
    runs = [run for run in curve["runs"] if run["augmenter"] == name]
    axes.plot(
        [run["synthetic_tokens"] for run in runs],
        [run["accuracy"] for run in runs],
        color=color,
        marker=marker,
        markersize=4.5,
        markeredgecolor=BLACK,
        markeredgewidth=0.4,
        linestyle="none",
        label="runs",
        zorder=3,
    )
    axes.axvline(last, color=GRAY, linestyle=":", linewidth=1)
    budgets = {run["budget"] for run in runs}
    ahead = {times * max(budgets) for times in (2, 4) if times * last <= tokens[-1] * 1.01}
    token_ticks(axes, sorted(budgets | ahead), most=8)
    axes.tick_params(labelsize=7.5)
    axes.set_xlabel("synthetic tokens")
    axes.set_title(f"{LABELS.get(name, name)}\n{BY_NAME[one['chosen']].formula}", fontsize=9)
    share_axis(axes)
    axes.set_ylim(0, 1)
    if number == 0:
        axes.legend(frameon=False, fontsize=8, loc="upper left")
