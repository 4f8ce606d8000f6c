"""Which form describes an augmenter's runs, what it would have foretold, and what it foretells now."""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from entigraph.analysis.scaling.bootstrap import Draws, Measured, draws, measured
from entigraph.analysis.scaling.curve_forms import FORMS, Form, LogLinear, Vector, corrected_aic
from entigraph.analysis.settings import ScalingCurve
from entigraph.analysis.study_runs import FinishedRun, augmenters

AHEAD = (2, 4)  # a forecast fitted to budgets up to n is held against what was measured at 2n and 4n
SAME_BUDGET = 0.05  # budgets that differ by less count as 2n
REFITS = 300  # of a form that is searched for, not solved: its resamples are fewer
GRID = 120


def forecasts(runs: Sequence[FinishedRun], settings: ScalingCurve) -> list[dict[str, Any]]:
    """One for each augmenter, over all its runs; where there can be none, it says why."""
    found = []
    for augmenter in augmenters(runs):
        own = measured([run for run in runs if run.augmenter == augmenter])
        reason = unforeseeable(own)
        told: dict[str, Any] = {"missing": reason} if reason else forecast(augmenter, own, settings)
        price = dollars_per_token([run for run in runs if run.augmenter == augmenter])
        for target in told.get("targets", ()):
            target["dollars"] = cost(target, price)
        found.append({"augmenter": augmenter, "dollars_per_token": price, **told})
    return found


def unforeseeable(own: Measured) -> str | None:
    if own.distinct < 3:
        return f"budgets: {own.distinct}; a line and a residual need three"
    if np.ptp(own.accuracy) == 0:
        return "every run has the same accuracy"
    return None


def forecast(augmenter: str, own: Measured, settings: ScalingCurve) -> dict[str, Any]:
    compared = [described(form, own) for form in FORMS]
    chosen = choice(compared)
    drawn = drawn_for(augmenter, form_named(chosen), own, settings)
    low, high = own.tokens.min(), own.tokens.max()
    grid = np.geomspace(low, high * settings.forecast_to, GRID)
    curve, run = (
        np.quantile(sets, [0.5, *edges(settings)], axis=0) for sets in (drawn.predicted(grid), drawn.another_run(grid))
    )
    return {
        "runs": own.runs,
        "tokens": [int(low), int(high)],
        "forms": compared,
        "chosen": chosen,
        "noise": drawn.noise,
        "draws": len(drawn.drawn),
        "curve": {
            "confidence": settings.confidence,
            "tokens": grid.tolist(),
            "accuracy": np.clip(drawn.form.predict(drawn.parameters[None], grid)[0], 0, 1).tolist(),
            "low": curve[1].tolist(),
            "high": curve[2].tolist(),
            "run_low": run[1].tolist(),
            "run_high": run[2].tolist(),
        },
        "held_out": list(held_out(augmenter, own, settings)),
        "targets": [reached(target, drawn, grid, settings) for target in settings.targets],
    }


def edges(settings: ScalingCurve) -> tuple[float, float]:
    return (1 - settings.confidence) / 2, (1 + settings.confidence) / 2


def described(form: Form, own: Measured) -> dict[str, Any]:
    """A form with as many parameters as there are budgets passes through the means whatever they are: none is tried."""
    told: dict[str, Any] = {"form": form.name, "count": len(form.names)}
    if own.distinct <= len(form.names):
        return {**told, "missing": f"{len(form.names)} parameters need more than {own.distinct} budgets"}
    fit = draws(form, own, resamples=1)
    if not fit.converged:
        return {**told, "missing": "the fit did not converge"}
    aicc = corrected_aic(fit.squares, own.runs, len(form.names))
    if not np.isfinite(aicc):
        return {**told, "missing": f"{len(form.names)} parameters need more than {own.runs} runs"}
    spread = float(((own.accuracy - own.accuracy.mean()) ** 2).sum())
    parameters = dict(zip(form.names, fit.parameters.tolist(), strict=True))
    return {**told, "parameters": parameters, "r2": 1 - fit.squares / spread, "aicc": aicc}


def choice(compared: Sequence[dict[str, Any]]) -> str:
    """The least AICc; a line where no form can be told from another."""
    possible = [told for told in compared if "aicc" in told]
    return str(min(possible, key=lambda told: told["aicc"])["form"]) if possible else LogLinear().name


def form_named(name: str) -> Form:
    return next(form for form in FORMS if form.name == name)


def drawn_for(augmenter: str, form: Form, own: Measured, settings: ScalingCurve) -> Draws:
    resamples = settings.resamples if isinstance(form, LogLinear) else min(settings.resamples, REFITS)
    return draws(form, own, resamples, stream=zlib.crc32(augmenter.encode()))


def held_out(augmenter: str, own: Measured, settings: ScalingCurve) -> Iterator[dict[str, Any]]:
    """The forecasts that could have been made on the way: by the line, and by the form chosen on what was known."""
    for budget in np.unique(own.budgets):
        known = own.up_to(int(budget))
        for form in known_forms(known):
            drawn = drawn_for(augmenter, form, known, settings)
            if not drawn.converged:
                continue
            for times in AHEAD:
                there = np.abs(own.budgets / (times * budget) - 1) <= SAME_BUDGET
                if there.any():
                    yield {"form": form.name, "times": times, **held_against(drawn, own, there, settings)}


def known_forms(known: Measured) -> list[Form]:
    if known.distinct < 2 or known.runs < 3 or np.ptp(known.accuracy) == 0:
        return []
    chosen = choice([described(form, known) for form in FORMS])
    return [form_named(name) for name in dict.fromkeys((LogLinear().name, chosen))]


def held_against(drawn: Draws, own: Measured, there: Vector, settings: ScalingCurve) -> dict[str, Any]:
    tokens = np.array([own.tokens[there].mean()])
    low, high = np.quantile(drawn.another_run(tokens)[:, 0], edges(settings))
    predicted = float(np.clip(drawn.form.predict(drawn.parameters[None], tokens)[0, 0], 0, 1))
    accuracies = own.accuracy[there]
    return {
        "fitted_to": int(drawn.measured.budgets.max()),
        "at": int(tokens[0]),
        "predicted": predicted,
        "low": float(low),
        "high": float(high),
        "measured": float(accuracies.mean()),
        "error": predicted - float(accuracies.mean()),
        "inside": int(((low <= accuracies) & (accuracies <= high)).sum()),
        "runs": len(accuracies),
    }


def reached(target: float, drawn: Draws, grid: Vector, settings: ScalingCurve) -> dict[str, Any]:
    """Tokens at which the curve reaches an accuracy; null: not up to the end of the forecast."""
    fitted = drawn.form.predict(drawn.parameters[None], grid)
    tokens = [first(row, target, grid) for row in (*fitted, *drawn.predicted(grid))]
    low, high = np.quantile(tokens[1:], edges(settings), method="nearest")
    return {
        "accuracy": target,
        "tokens": finite(tokens[0]),
        "low": finite(low),
        "high": finite(high),
        "share_of_draws": float(np.isfinite(tokens[1:]).mean()),
        "up_to": int(grid[-1]),
    }


def first(accuracies: Vector, target: float, grid: Vector) -> float:
    """Between two points of the grid the logarithm of the tokens is interpolated."""
    above = np.flatnonzero(accuracies >= target)
    if not len(above):
        return float("inf")
    place = above[0]
    if place == 0:
        return float(grid[0])
    part = (target - accuracies[place - 1]) / (accuracies[place] - accuracies[place - 1])
    return float(grid[place - 1] * (grid[place] / grid[place - 1]) ** part)


def finite(tokens: float) -> int | None:
    return int(tokens) if np.isfinite(tokens) else None


def dollars_per_token(runs: Sequence[FinishedRun]) -> float | None:
    """What a synthetic token cost to write; null where a manifest does not say."""
    prices = [run.dollars_per_token for run in runs]
    known = [price for price in prices if price is not None]
    return float(np.mean(known)) if len(known) == len(prices) else None


def cost(target: dict[str, Any], price: float | None) -> list[float | None] | None:
    """Of the tokens, and of the ends of their interval."""
    if price is None:
        return None
    return [target[key] * price if target[key] is not None else None for key in ("tokens", "low", "high")]
