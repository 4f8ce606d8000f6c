"""accuracy = a + b·ln(tokens): the fit, its R², and what resampling seeds and questions says of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entigraph.analysis.collect import FinishedRun, augmenters
from entigraph.analysis.settings import ScalingCurve

Vector = NDArray[np.float64]
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
    tokens = np.array([run.synthetic_tokens for run in runs], dtype=float)
    accuracy = np.array([run.score["accuracy"] for run in runs], dtype=float)
    a, b = line(np.log(tokens), accuracy)
    residual = accuracy - (a + b * np.log(tokens))
    drawn = bootstrap(runs, settings.resamples)
    edges = [(1 - settings.confidence) / 2, (1 + settings.confidence) / 2]
    low, high = float(tokens.min()), float(tokens.max())
    grid = np.geomspace(low, high, 25)
    band = np.quantile(drawn[:, :1] + drawn[:, 1:] * np.log(grid), edges, axis=0)
    return {
        "parameters": {"a": float(a), "b": float(b)},
        "gain_per_doubling": float(b * np.log(2)),
        "r2": float(1 - (residual**2).sum() / ((accuracy - accuracy.mean()) ** 2).sum()),
        "runs": len(runs),
        "tokens": [int(low), int(high)],
        "interval": {
            "confidence": settings.confidence,
            "a": np.quantile(drawn[:, 0], edges).tolist(),
            "b": np.quantile(drawn[:, 1], edges).tolist(),
        },
        "band": {"tokens": grid.tolist(), "low": band[0].tolist(), "high": band[1].tolist()},
    }


def line(x: Vector, y: Vector) -> tuple[float, float]:
    slope, intercept = np.polyfit(x, y, 1)
    return float(intercept), float(slope)


def bootstrap(runs: Sequence[FinishedRun], resamples: int) -> Vector:
    """(resamples, 2) of a and b. Seeds are drawn with replacement, and in each its questions, the same for all runs.

    With one seed only its questions are drawn, and the interval leaves out what another seed would change.
    """
    rng = np.random.default_rng(0)
    seeds = sorted({run.seed for run in runs})
    blocks = {seed: [run for run in runs if run.seed == seed] for seed in seeds}
    correct = {seed: np.array([run.correct for run in blocks[seed]], dtype=float) for seed in seeds}
    x = {seed: np.log([run.synthetic_tokens for run in blocks[seed]]) for seed in seeds}
    whole = np.log([run.synthetic_tokens for run in runs]), np.array([run.score["accuracy"] for run in runs])
    drawn = np.empty((resamples, 2))
    for row in range(resamples):
        xs, ys = [], []
        for seed in rng.choice(seeds, len(seeds)):
            count = correct[seed].shape[1]
            weights = rng.multinomial(count, np.full(count, 1 / count))
            xs.append(x[seed])
            ys.append(correct[seed] @ weights / count)
        tokens = np.concatenate(xs)
        if np.ptp(tokens) == 0:  # only seeds with one and the same budget were drawn: no line
            drawn[row] = drawn[row - 1] if row else line(*whole)
            continue
        drawn[row] = line(tokens, np.concatenate(ys))
    return drawn
