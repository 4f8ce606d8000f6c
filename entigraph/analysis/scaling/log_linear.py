"""accuracy = a + b·ln(tokens) in the stated range: the fit, its R², and what drawing documents and runs says of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from entigraph.analysis.scaling.bootstrap import measured
from entigraph.analysis.scaling.curve_forms import LogLinear
from entigraph.analysis.scaling.forecast import drawn_for, edges
from entigraph.analysis.settings import ScalingCurve
from entigraph.analysis.study_runs import FinishedRun, augmenters

FORM = "a + b*ln(synthetic_tokens)"


def fits(runs: Sequence[FinishedRun], settings: ScalingCurve) -> list[dict[str, Any]]:
    """One for each augmenter; where there can be none, it says why."""
    found = []
    for augmenter in augmenters(runs):
        own = [run for run in runs if run.augmenter == augmenter and settings.in_range(run.budget)]
        reason = unfittable(own)
        found.append({"augmenter": augmenter, "form": FORM, **({"missing": reason} if reason else fit(own, settings))})
    return found


def unfittable(runs: Sequence[FinishedRun]) -> str | None:
    budgets = {run.budget for run in runs}
    if len(budgets) < 3:
        return f"budgets in the stated range: {len(budgets)}; a line and a residual need three"
    if len({run.score["accuracy"] for run in runs}) == 1:
        return "every run has the same accuracy"
    return None


def fit(runs: Sequence[FinishedRun], settings: ScalingCurve) -> dict[str, Any]:
    """Least squares over single runs, not over means; `r2` likewise."""
    drawn = drawn_for(runs[0].augmenter, LogLinear(), measured(runs), settings)
    a, b = drawn.parameters
    tokens, accuracy = drawn.measured.tokens, drawn.measured.accuracy
    low, high = float(tokens.min()), float(tokens.max())
    grid = np.geomspace(low, high, 25)
    band = np.quantile(drawn.predicted(grid), edges(settings), axis=0)
    return {
        "parameters": {"a": float(a), "b": float(b)},
        "gain_per_doubling": float(b * np.log(2)),
        "r2": float(1 - drawn.squares / ((accuracy - accuracy.mean()) ** 2).sum()),
        "runs": len(runs),
        "tokens": [int(low), int(high)],
        "interval": {
            "confidence": settings.confidence,
            "a": np.quantile(drawn.drawn[:, 0], edges(settings)).tolist(),
            "b": np.quantile(drawn.drawn[:, 1], edges(settings)).tolist(),
        },
        "band": {"tokens": grid.tolist(), "low": band[0].tolist(), "high": band[1].tolist()},
    }
