"""Fits a line to each augmenter, chooses its curve form, backtests it on smaller budgets, and forecasts larger ones."""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from entigraph.analysis.document_bootstrap import Resampling, Vector
from entigraph.analysis.scaling.bootstrap import FittedCurve, RunArrays, fit_curve, load_arrays
from entigraph.analysis.scaling.curve_forms import FORMS, CurveForm, LogLinear, corrected_aic
from entigraph.analysis.study_runs import StudyRun, by_augmenter

HORIZONS = (2, 4)  # a forecast fitted to budgets up to n is compared with the measurements at 2n and 4n
SAME_BUDGET = 0.05  # budgets within this relative difference of 2n count as 2n
MAX_REFITS = 300  # resamples of a form that needs an optimizer
GRID_POINTS = 120
FORMULA = "a + b*ln(synthetic_tokens)"


def build_forecasts(
    runs: Sequence[StudyRun], resampling: Resampling, horizon: float = 4.0, targets: Sequence[float] = ()
) -> list[dict[str, Any]]:
    """Returns one forecast per augmenter, over all its runs, or `missing`: the reason why there is none.

    The curve is extrapolated to `horizon` times the largest budget; `targets` are accuracies whose tokens are stated.
    """
    forecasts = []
    for augmenter, series in by_augmenter(runs).items():
        data, price = load_arrays(series), mean_dollars_per_token(series)
        reason = reason_for_no_fit(data)
        forecast: dict[str, Any] = (
            {"missing": reason} if reason else build_forecast(augmenter, data, resampling, horizon, targets)
        )
        for target in forecast.get("targets", ()):
            target["dollars"] = target_cost(target, price)
        forecasts.append({"augmenter": augmenter, "dollars_per_token": price, **forecast})
    return forecasts


def fit_augmenters(
    runs: Sequence[StudyRun], resampling: Resampling, from_tokens: int | None = None, to_tokens: int | None = None
) -> list[dict[str, Any]]:
    """Returns the fit of `FORMULA` per augmenter, to its runs with a budget in the range (None: open), or `missing`."""
    fits = []
    for augmenter, series in by_augmenter(runs).items():
        data = load_arrays([run for run in series if (from_tokens or 0) <= run.budget <= (to_tokens or run.budget)])
        reason = reason_for_no_fit(data, " in the stated range")
        fit = {"missing": reason} if reason else fit_line(augmenter, data, resampling)
        fits.append({"augmenter": augmenter, "form": FORMULA, **fit})
    return fits


def fit_line(augmenter: str, data: RunArrays, resampling: Resampling) -> dict[str, Any]:
    """Fits least squares to single runs, not to means; R² likewise."""
    curve = fit_resampled(augmenter, LogLinear(), data, resampling)
    a, b = curve.parameters
    low, high = float(data.tokens.min()), float(data.tokens.max())
    grid = np.geomspace(low, high, 25)
    band = np.quantile(curve.draw_curves(grid), resampling.quantiles, axis=0)
    return {
        "parameters": {"a": float(a), "b": float(b)},
        "gain_per_doubling": float(b * np.log(2)),
        "r2": curve.r2,
        "runs": data.runs,
        "tokens": [int(low), int(high)],
        "interval": {
            "confidence": resampling.confidence,
            "a": resampling.interval(curve.parameter_draws[:, 0]),
            "b": resampling.interval(curve.parameter_draws[:, 1]),
        },
        "band": {"tokens": grid.tolist(), "low": band[0].tolist(), "high": band[1].tolist()},
    }


def reason_for_no_fit(data: RunArrays, where: str = "") -> str | None:
    if data.distinct_budgets < 3:
        return f"budgets{where}: {data.distinct_budgets}; a line and a residual need three"
    if np.ptp(data.accuracy) == 0:
        return "every run has the same accuracy"
    return None


def build_forecast(
    augmenter: str, data: RunArrays, resampling: Resampling, horizon: float, targets: Sequence[float]
) -> dict[str, Any]:
    forms = [describe_fit(form, data) for form in FORMS]
    chosen = choose_form(forms)
    curve = fit_resampled(augmenter, form_by_name(chosen), data, resampling)
    low, high = data.tokens.min(), data.tokens.max()
    grid = np.geomspace(low, high * horizon, GRID_POINTS)
    curve_band, run_band = (
        np.quantile(draws, resampling.quantiles, axis=0)
        for draws in (curve.draw_curves(grid), curve.draw_new_runs(grid))
    )
    return {
        "runs": data.runs,
        "tokens": [int(low), int(high)],
        "forms": forms,
        "chosen": chosen,
        "noise": curve.noise,
        "draws": len(curve.parameter_draws),
        "curve": {
            "confidence": resampling.confidence,
            "tokens": grid.tolist(),
            "accuracy": np.clip(curve.at(grid), 0, 1).tolist(),
            "low": curve_band[0].tolist(),
            "high": curve_band[1].tolist(),
            "run_low": run_band[0].tolist(),
            "run_high": run_band[1].tolist(),
        },
        "held_out": list(evaluate_past_forecasts(augmenter, data, resampling)),
        "targets": [tokens_to_target(target, curve, grid, resampling) for target in targets],
    }


def describe_fit(form: CurveForm, data: RunArrays) -> dict[str, Any]:
    """Returns a form's parameters, R² and AICc, or `missing`.

    A form with as many parameters as there are budgets passes through all means, so it is not fitted.
    """
    count = len(form.parameter_names)
    entry: dict[str, Any] = {"form": form.name, "count": count}
    if data.distinct_budgets <= count:
        return {**entry, "missing": f"{count} parameters need more than {data.distinct_budgets} budgets"}
    fit = fit_curve(form, data, resamples=1)
    if not fit.converged:
        return {**entry, "missing": "the fit did not converge"}
    aicc = corrected_aic(fit.squared_error, data.runs, count)
    if not np.isfinite(aicc):
        return {**entry, "missing": f"{count} parameters need more than {data.runs} runs"}
    parameters = dict(zip(form.parameter_names, fit.parameters.tolist(), strict=True))
    return {**entry, "parameters": parameters, "r2": fit.r2, "aicc": aicc}


def choose_form(fits: Sequence[dict[str, Any]]) -> str:
    """Returns the form with the least AICc, or the line if no form has one."""
    candidates = [fit for fit in fits if "aicc" in fit]
    return str(min(candidates, key=lambda fit: fit["aicc"])["form"]) if candidates else LogLinear().name


def form_by_name(name: str) -> CurveForm:
    return next(form for form in FORMS if form.name == name)


def fit_resampled(augmenter: str, form: CurveForm, data: RunArrays, resampling: Resampling) -> FittedCurve:
    resamples = resampling.resamples if isinstance(form, LogLinear) else min(resampling.resamples, MAX_REFITS)
    return fit_curve(form, data, resamples, stream=zlib.crc32(augmenter.encode()))


def evaluate_past_forecasts(augmenter: str, data: RunArrays, resampling: Resampling) -> Iterator[dict[str, Any]]:
    """Yields the forecasts that smaller budgets would have given, by the line and by the form chosen on them alone."""
    for budget in np.unique(data.budgets):
        known = data.up_to(int(budget))
        for form in forms_to_evaluate(known):
            curve = fit_resampled(augmenter, form, known, resampling)
            if not curve.converged:
                continue
            for factor in HORIZONS:
                ahead = np.abs(data.budgets / (factor * budget) - 1) <= SAME_BUDGET
                if ahead.any():
                    yield {"form": form.name, "times": factor, **compare_forecast(curve, data, ahead, resampling)}


def forms_to_evaluate(known: RunArrays) -> list[CurveForm]:
    if known.distinct_budgets < 2 or known.runs < 3 or np.ptp(known.accuracy) == 0:
        return []
    chosen = choose_form([describe_fit(form, known) for form in FORMS])
    return [form_by_name(name) for name in dict.fromkeys((LogLinear().name, chosen))]


def compare_forecast(curve: FittedCurve, data: RunArrays, ahead: Vector, resampling: Resampling) -> dict[str, Any]:
    """Compares a forecast with the runs that the mask `ahead` selects; `inside` counts those within the band."""
    tokens = np.array([data.tokens[ahead].mean()])
    low, high = resampling.interval(curve.draw_new_runs(tokens)[:, 0])
    predicted = float(np.clip(curve.at(tokens)[0], 0, 1))
    accuracies = data.accuracy[ahead]
    return {
        "fitted_to": int(curve.data.budgets.max()),
        "at": int(tokens[0]),
        "predicted": predicted,
        "low": low,
        "high": high,
        "measured": float(accuracies.mean()),
        "error": predicted - float(accuracies.mean()),
        "inside": int(((low <= accuracies) & (accuracies <= high)).sum()),
        "runs": len(accuracies),
    }


def tokens_to_target(target: float, curve: FittedCurve, grid: Vector, resampling: Resampling) -> dict[str, Any]:
    """Returns the tokens at which the curve reaches an accuracy; null if it does not within the forecast.

    An accuracy that the curve has at the smallest budget was reached somewhere at or below it: also null, `below`.
    """
    fitted = curve.at(grid)
    if fitted[0] >= target:
        unknown = dict.fromkeys(("tokens", "low", "high"))
        return {"accuracy": target, **unknown, "share_of_draws": 1.0, "up_to": int(grid[-1]), "below": int(grid[0])}
    tokens = [first_crossing(row, target, grid) for row in (fitted, *curve.draw_curves(grid))]
    low, high = np.quantile(tokens[1:], resampling.quantiles, method="nearest")
    return {
        "accuracy": target,
        "tokens": finite_or_none(tokens[0]),
        "low": finite_or_none(low),
        "high": finite_or_none(high),
        "share_of_draws": float(np.isfinite(tokens[1:]).mean()),
        "up_to": int(grid[-1]),
        "below": None,
    }


def first_crossing(accuracies: Vector, target: float, grid: Vector) -> float:
    """Interpolates log tokens between grid points; infinite if the target is not reached."""
    above = np.flatnonzero(accuracies >= target)
    if not len(above):
        return float("inf")
    index = above[0]
    if index == 0:
        return float(grid[0])
    fraction = (target - accuracies[index - 1]) / (accuracies[index] - accuracies[index - 1])
    return float(grid[index - 1] * (grid[index] / grid[index - 1]) ** fraction)


def finite_or_none(tokens: float) -> int | None:
    return int(tokens) if np.isfinite(tokens) else None


def mean_dollars_per_token(runs: Sequence[StudyRun]) -> float | None:
    """Returns what writing a synthetic token cost; None if a manifest does not state it."""
    prices = [run.dollars_per_token for run in runs]
    known = [price for price in prices if price is not None]
    return float(np.mean(known)) if len(known) == len(prices) else None


def target_cost(target: dict[str, Any], price: float | None) -> list[float | None] | None:
    """Returns the cost of the tokens and of both ends of their interval."""
    if price is None:
        return None
    return [target[key] * price if target[key] is not None else None for key in ("tokens", "low", "high")]
