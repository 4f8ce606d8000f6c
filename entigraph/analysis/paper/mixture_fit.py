"""The paper's Fig. 4: its three-exponential fit and ours on points of it; a study's own points beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from entigraph.analysis.paper import published
from entigraph.analysis.paper.paper_figures import LINES, own_points, panels
from entigraph.analysis.paper.paper_settings import MixtureFit
from entigraph.analysis.scaling.curve_forms import Exponentials, Form, LogLinear, Vector
from entigraph.analysis.study_runs import FinishedRun
from entigraph.reporting.figures import BLACK, BLUE, GRAY, save
from entigraph.storage.artifact import write_json

NOISY_FITS = 100
OURS: Sequence[Form] = (LogLinear(), Exponentials(1), Exponentials(2), Exponentials(3))


def mixture_fit(settings: MixtureFit, runs: Sequence[FinishedRun], out: Path) -> list[str]:
    """Fig. 4. Writes mixture_fit.json, .png and .svg; returns what to tell."""
    most = [run for run in runs if run.augmenter == "entigraph"] or list(runs)
    figure, paper, ours = panels(most, "A mixture of exponentials fitted to the curve (paper Fig. 4)")
    at = np.geomspace(*published.FIT_RANGE, settings.points)
    found = published.FIT_FORM.fit(at, published.fitted_accuracy(at)[None])[0]
    tokens = np.geomspace(published.FIT_RANGE[0], 4 * published.FIT_RANGE[1], 300)
    paper.plot(tokens, published.fitted_accuracy(tokens), color=BLUE, linewidth=3, alpha=0.35, label="the paper's fit")
    paper.plot(
        at, published.fitted_accuracy(at), color=BLUE, marker="o", markerfacecolor="white", linestyle="none",
        label=f"{settings.points} points on it",
    )  # fmt: skip
    paper.plot(
        tokens, published.FIT_FORM.predict(found[None], tokens)[0], color=BLACK, linestyle="--", linewidth=1.2,
        label="our fit to these points",
    )  # fmt: skip
    paper.axvline(published.FIT_RANGE[1], color=GRAY, linestyle=":", linewidth=1)
    paper.annotate("455M: extrapolated beyond", (published.FIT_RANGE[1], 0.40), (-4, 0), textcoords="offset points",
                   rotation=90, fontsize=7.5, color=GRAY, ha="right")  # fmt: skip
    paper.legend(frameon=False, fontsize=7.5, loc="upper left")
    paper.set_title(f"As published ({published.PAPER}, {published.FIT_SECTION})", fontsize=9)
    fits = own_fits(ours, most) if ours is not None else []
    save(figure, out, "mixture_fit")
    error = float(np.abs(found / published.fit_parameters() - 1).max())
    low, high = plateaus(at, found)
    names = published.FIT_FORM.names
    write_json(
        out / "mixture_fit.json",
        {
            "paper": dict(zip(names, published.fit_parameters().tolist(), strict=True)),
            "recovered": dict(zip(names, found.tolist(), strict=True)),
            "largest_relative_error": error,
            "plateau_of_noisy_points": [low, high],
            "study": fits,
        },
    )
    return [
        f"the paper's parameters, from {settings.points} points on its curve: largest relative error {error:.1e}",
        *(
            f"  {name:3}{published.fit_parameters()[number]:>18,.6g}{value:>18,.6g}"
            for number, (name, value) in enumerate(zip(names, found, strict=True))
        ),
        f"were each point measured on {published.QUESTIONS:,} questions, 90 % of such fits would end between "
        f"{100 * low:.1f} % and {100 * high:.1f} %: the plateau is an extrapolation",
        *(f"this study: {told(one)}" for one in fits),
    ]


def plateaus(tokens: Vector, parameters: Vector) -> tuple[float, float]:
    """The middle 90 % of the plateau, fitted to points of the curve with the noise of the paper's questions."""
    accuracy = published.fitted_accuracy(tokens)
    error = np.sqrt(accuracy * (1 - accuracy) / published.QUESTIONS)
    noise = np.random.default_rng(0).normal(0, error, (NOISY_FITS, len(tokens)))
    fits = published.FIT_FORM.fit(tokens, accuracy + noise, parameters)
    low, high = np.nanquantile(fits[:, 0], (0.05, 0.95))
    return float(low), float(high)


def told(one: dict[str, Any]) -> str:
    return f"{one['form']}: {one['missing']}" if "missing" in one else f"{one['form']}: error {one['rms']:.4f}"


def own_fits(axes: Axes, runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """A mixture needs more budgets than it has parameters; those that do not get them are named in the summary."""
    own_points(axes, runs, joined=False)
    tokens = np.array([run.synthetic_tokens for run in runs], dtype=float)
    accuracy = np.array([run.score["accuracy"] for run in runs], dtype=float)
    budgets = len({run.budget for run in runs})
    grid: Vector = np.geomspace(tokens.min(), tokens.max(), 200)
    fits = []
    for form, line in zip(OURS, LINES, strict=True):
        one, parameters = own_fit(form, tokens, accuracy, budgets)
        fits.append(one)
        if parameters is not None:
            axes.plot(grid, form.predict(parameters[None], grid)[0], color=BLACK, linestyle=line, label=form.formula)
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=7.5, loc="upper left")
    axes.set_title("This study", fontsize=9)
    return fits


def own_fit(form: Form, tokens: Vector, accuracy: Vector, budgets: int) -> tuple[dict[str, Any], Vector | None]:
    if budgets <= len(form.names):
        return {"form": form.name, "missing": f"{len(form.names)} parameters need more than {budgets} budgets"}, None
    parameters = form.fit(tokens, accuracy[None])[0]
    if not np.isfinite(parameters).all():
        return {"form": form.name, "missing": "the fit did not converge"}, None
    error = accuracy - form.predict(parameters[None], tokens)[0]
    values = dict(zip(form.names, parameters.tolist(), strict=True))
    return {"form": form.name, "parameters": values, "rms": float(np.sqrt((error**2).mean()))}, parameters
