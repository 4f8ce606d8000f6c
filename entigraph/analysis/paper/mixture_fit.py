"""Refits the paper's three-exponential curve (Fig. 4), and fits the same forms to a study's runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.document_bootstrap import Vector
from entigraph.analysis.paper import published
from entigraph.analysis.paper.paper_curve import LINES, create_panels, draw_study_points, format_log_axis, study_note
from entigraph.analysis.scaling.curve_forms import CurveForm, Exponentials, LogLinear
from entigraph.analysis.study_runs import StudyRun, run_folders
from entigraph.errors import ConfigError
from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, BLUE, GRAY, Axes
from entigraph.storage.artifact import write_json

NOISY_FITS = 100
STUDY_FORMS: Sequence[CurveForm] = (LogLinear(), Exponentials(1), Exponentials(2), Exponentials(3))


@dataclass(frozen=True, kw_only=True)
class MixtureFit:
    """Our refit of the paper's Fig. 4 to `points` points on its curve; the study's runs are in a second panel."""

    name: ClassVar[str] = "mixture_fit"
    points: int = 12

    def __post_init__(self) -> None:
        if self.points < 8:
            raise ConfigError(f"analysis.points must be at least 8, for seven parameters, got {self.points}")

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return run_folders(context.runs)

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes mixture_fit.json, .png and .svg."""
        return write_mixture_fit(self.points, context.runs, out)


def write_mixture_fit(points: int, runs: Sequence[StudyRun], out: Path) -> list[str]:
    fitted_runs = [run for run in runs if run.augmenter == "entigraph"] or list(runs)
    tokens = np.geomspace(*published.FIT_RANGE, points)
    parameters = published.FIT_FORM.fit(tokens, published.fitted_accuracy(tokens)[None])[0]
    title = "A mixture of exponentials fitted to the curve (paper Fig. 4)"
    figure, paper_axes, study_axes = create_panels(fitted_runs, title)
    for axes in filter(None, (paper_axes, study_axes)):
        format_log_axis(axes)
    draw_published_fit(paper_axes, tokens, parameters)
    fits = fit_study(study_axes, fitted_runs) if study_axes is not None else []
    figures.save_figure(figure, out, "mixture_fit", study_note(fitted_runs))
    paper_parameters, names = published.fit_parameters(), published.FIT_FORM.parameter_names
    error = float(np.abs(parameters / paper_parameters - 1).max())
    low, high = plateau_interval(tokens, parameters)
    result = {
        "paper": dict(zip(names, paper_parameters.tolist(), strict=True)),
        "recovered": dict(zip(names, parameters.tolist(), strict=True)),
        "largest_relative_error": error,
        "plateau_of_noisy_points": [low, high],
        "study": fits,
    }
    write_json(out / "mixture_fit.json", result)
    return [
        f"the paper's parameters, from {points} points on its curve: largest relative error {error:.1e}",
        *(
            f"  {name:3}{paper:>18,.6g}{recovered:>18,.6g}"
            for name, paper, recovered in zip(names, paper_parameters, parameters, strict=True)
        ),
        f"if each point were measured on {published.QUESTIONS:,} questions, 90% of such fits would end between "
        f"{100 * low:.1f}% and {100 * high:.1f}%: the plateau is an extrapolation",
        *(f"this study: {describe_study_fit(fit)}" for fit in fits),
    ]


def draw_published_fit(axes: Axes, points: Vector, parameters: Vector) -> None:
    low, high = published.FIT_RANGE
    tokens = np.geomspace(low, 4 * high, 300)
    axes.plot(tokens, published.fitted_accuracy(tokens), color=BLUE, linewidth=3, alpha=0.35, label="the paper's fit")
    axes.plot(
        points, published.fitted_accuracy(points), color=BLUE, marker="o", markerfacecolor="white", linestyle="none",
        label=f"{len(points)} points on it",
    )  # fmt: skip
    axes.plot(
        tokens, published.FIT_FORM.predict(parameters[None], tokens)[0], color=BLACK, linestyle="--", linewidth=1.2,
        label="our fit to these points",
    )  # fmt: skip
    axes.axvline(high, color=GRAY, linestyle=":", linewidth=1)
    axes.annotate("455M: extrapolated beyond", (high, 0.40), (-4, 0), textcoords="offset points",
                  rotation=90, fontsize=7.5, color=GRAY, ha="right")  # fmt: skip
    axes.legend(frameon=False, fontsize=7.5, loc="upper left")
    axes.set_title(f"As published ({published.PAPER}, {published.FIT_SECTION})", fontsize=9)


def plateau_interval(tokens: Vector, parameters: Vector) -> tuple[float, float]:
    """Returns the middle 90% of plateaus fitted to points of the curve with the noise of the paper's questions."""
    accuracy = published.fitted_accuracy(tokens)
    stderr = np.sqrt(accuracy * (1 - accuracy) / published.QUESTIONS)
    noise = np.random.default_rng(0).normal(0, stderr, (NOISY_FITS, len(tokens)))
    fits = published.FIT_FORM.fit(tokens, accuracy + noise, parameters)
    low, high = np.nanquantile(fits[:, 0], (0.05, 0.95))
    return float(low), float(high)


def describe_study_fit(fit: Mapping[str, Any]) -> str:
    return f"{fit['form']}: {fit['missing']}" if "missing" in fit else f"{fit['form']}: error {fit['rms']:.4f}"


def fit_study(axes: Axes, runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Fits each form to the study's runs and draws it."""
    draw_study_points(axes, runs, connected=False)
    tokens = np.array([run.synthetic_tokens for run in runs], dtype=float)
    accuracy = np.array([run.score["accuracy"] for run in runs], dtype=float)
    budgets = len({run.budget for run in runs})
    grid: Vector = np.geomspace(tokens.min(), tokens.max(), 200)
    fits = []
    for form, line in zip(STUDY_FORMS, LINES, strict=True):
        fit, parameters = fit_form(form, tokens, accuracy, budgets)
        fits.append(fit)
        if parameters is not None:
            curve = form.predict(parameters[None], grid)[0]
            axes.plot(grid, curve, color=BLACK, linestyle=line, label=form.formula)
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=7.5, loc="upper left")
    axes.set_title("This study", fontsize=9)
    return fits


def fit_form(form: CurveForm, tokens: Vector, accuracy: Vector, budgets: int) -> tuple[dict[str, Any], Vector | None]:
    """Returns `missing`, the reason, if the form cannot be fitted; it needs more budgets than it has parameters."""
    if budgets <= len(form.parameter_names):
        return {
            "form": form.name,
            "missing": f"{len(form.parameter_names)} parameters need more than {budgets} budgets",
        }, None
    parameters = form.fit(tokens, accuracy[None])[0]
    if not np.isfinite(parameters).all():
        return {"form": form.name, "missing": "the fit did not converge"}, None
    error = accuracy - form.predict(parameters[None], tokens)[0]
    values = dict(zip(form.parameter_names, parameters.tolist(), strict=True))
    return {"form": form.name, "parameters": values, "rms": float(np.sqrt((error**2).mean()))}, parameters
