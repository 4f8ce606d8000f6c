"""The fit of accuracy = a + b·ln(tokens) within the stated range of budgets, with its R² and intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from entigraph.analysis.document_bootstrap import Resampling
from entigraph.analysis.scaling.bootstrap import load_arrays
from entigraph.analysis.scaling.curve_forms import LogLinear
from entigraph.analysis.scaling.forecast import fit_resampled
from entigraph.analysis.study_runs import StudyRun, list_augmenters

FORMULA = "a + b*ln(synthetic_tokens)"


def fit_augmenters(
    runs: Sequence[StudyRun], resampling: Resampling, from_tokens: int | None = None, to_tokens: int | None = None
) -> list[dict[str, Any]]:
    """Returns one fit per augmenter over the runs with a budget in the range (None: open), or `missing`: the reason."""
    fits = []
    for augmenter in list_augmenters(runs):
        selected = [
            run
            for run in runs
            if run.augmenter == augmenter and (from_tokens or 0) <= run.budget <= (to_tokens or run.budget)
        ]
        reason = reason_for_no_fit(selected)
        fit = {"missing": reason} if reason else fit_line(selected, resampling)
        fits.append({"augmenter": augmenter, "form": FORMULA, **fit})
    return fits


def reason_for_no_fit(runs: Sequence[StudyRun]) -> str | None:
    budgets = {run.budget for run in runs}
    if len(budgets) < 3:
        return f"budgets in the stated range: {len(budgets)}; a line and a residual need three"
    if len({run.score["accuracy"] for run in runs}) == 1:
        return "every run has the same accuracy"
    return None


def fit_line(runs: Sequence[StudyRun], resampling: Resampling) -> dict[str, Any]:
    """Fits least squares to single runs, not to means; R² likewise."""
    curve = fit_resampled(runs[0].augmenter, LogLinear(), load_arrays(runs), resampling)
    a, b = curve.parameters
    low, high = float(curve.data.tokens.min()), float(curve.data.tokens.max())
    grid = np.geomspace(low, high, 25)
    band = np.quantile(curve.draw_curves(grid), resampling.quantiles, axis=0)
    return {
        "parameters": {"a": float(a), "b": float(b)},
        "gain_per_doubling": float(b * np.log(2)),
        "r2": curve.r2,
        "runs": len(runs),
        "tokens": [int(low), int(high)],
        "interval": {
            "confidence": resampling.confidence,
            "a": resampling.interval(curve.parameter_draws[:, 0]),
            "b": resampling.interval(curve.parameter_draws[:, 1]),
        },
        "band": {"tokens": grid.tolist(), "low": band[0].tolist(), "high": band[1].tolist()},
    }
