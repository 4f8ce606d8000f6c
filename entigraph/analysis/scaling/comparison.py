"""Differences between two augmenters on the same questions, at equal tokens and at equal dollars."""

import zlib
from collections.abc import Iterator, Sequence
from itertools import combinations
from math import hypot
from typing import Any

import numpy as np

from entigraph.analysis.document_bootstrap import Resampling, difference_deviations
from entigraph.analysis.equal_budgets import budget_levels, seed_answers
from entigraph.analysis.method_comparisons import CostLevel, RunVariance, compare_pair, seed_variance
from entigraph.analysis.scaling.bootstrap import FittedCurve, load_arrays
from entigraph.analysis.scaling.forecast import fit_resampled, form_by_name, mean_dollars_per_token
from entigraph.analysis.study_runs import StudyRun, by_augmenter


def compare_augmenters(
    runs: Sequence[StudyRun], forecasts: Sequence[dict[str, Any]], resampling: Resampling
) -> list[dict[str, Any]]:
    """Returns a comparison of every pair of augmenters, in `by_augmenter` order, the later one minus the earlier.

    At equal tokens they are compared at every shared budget. `scatter` says what the interval contains of the variance
    between runs: "fit" (about the fitted curves), "seeds" (about the means of augmenters and seeds, where a curve is
    missing), or None: with one seed and no curve it is unknown, and the interval is over documents alone.
    """
    by_name = by_augmenter(runs)
    chosen = {forecast["augmenter"]: forecast["chosen"] for forecast in forecasts if "chosen" in forecast}
    curves = {
        name: fit_resampled(name, form_by_name(form), load_arrays(by_name[name]), resampling)
        for name, form in chosen.items()
    }
    run_variance = seed_variance(budget_levels(runs))
    comparisons: list[dict[str, Any]] = []
    for other, one in combinations(by_name, 2):
        fitted = one in curves and other in curves
        noise = hypot(curves[one].noise, curves[other].noise) if fitted else None
        comparisons += compare_at_equal_tokens(by_name[one], by_name[other], noise, run_variance, resampling)
        prices = [price for name in (one, other) if (price := mean_dollars_per_token(by_name[name]))]
        if fitted and len(prices) == 2:
            entry = compare_at_equal_dollars((one, other), (curves[one], curves[other]), prices, resampling)
            comparisons += [entry] if entry else []
    return comparisons


def compare_at_equal_tokens(
    one: Sequence[StudyRun],
    other: Sequence[StudyRun],
    noise: float | None,
    run_variance: RunVariance,
    resampling: Resampling,
) -> Iterator[dict[str, Any]]:
    """Compares runs of one seed and budget question by question.

    `noise` is the standard deviation between runs that sampling of questions does not explain; None without curves.
    """
    others = {(run.budget, run.seed, run.questions_key): run for run in other}
    pairs = [(run, others[key]) for run in one if (key := (run.budget, run.seed, run.questions_key)) in others]
    for budget in sorted({run.budget for run, _ in pairs}):
        matched = [pair for pair in pairs if pair[0].budget == budget]
        names = matched[0][0].augmenter, matched[0][1].augmenter
        level = CostLevel(
            budget,
            {name: {pair[side].seed: seed_answers(pair[side]) for pair in matched} for side, name in enumerate(names)},
        )
        by_seed = compare_pair(level, "tokens", *names, run_variance, resampling.confidence)
        has_seeds = noise is None and "seeds" in by_seed.parts
        yield {
            "one": names[0],
            "other": names[1],
            "equal": "tokens",
            "at": budget,
            "difference": by_seed.difference,
            "interval": [*by_seed.interval] if has_seeds else resampled_interval(matched, noise or 0.0, resampling),
            "scatter": "fit" if noise is not None else "seeds" if has_seeds else None,
            "questions": by_seed.questions,
            "runs": len(matched),
        }


def resampled_interval(pairs: Sequence[tuple[StudyRun, StudyRun]], noise: float, resampling: Resampling) -> list[float]:
    """Returns the interval of the mean difference of pairs of runs, over documents and by the `noise` of runs."""
    documents = {run.questions_key: len(set(run.documents)) for run, _ in pairs}
    df = sum(documents.values()) - len(documents)
    samples = []
    for run, reference in pairs:
        difference = np.array(run.correct, dtype=float) - np.array(reference.correct, dtype=float)
        deviations = difference_deviations(run.questions_key, difference, run.documents, resampling, df)
        samples.append(difference.mean() + deviations)
    rng = np.random.default_rng(zlib.crc32(f"{pairs[0][0].budget}".encode()))
    return resampling.interval(
        np.mean(samples, axis=0) + rng.normal(0, noise / np.sqrt(len(pairs)), resampling.resamples)
    )


def compare_at_equal_dollars(
    names: tuple[str, str], curves: tuple[FittedCurve, FittedCurve], prices: Sequence[float], resampling: Resampling
) -> dict[str, Any] | None:
    """Compares the fitted curves at the cost of the cheaper of the two largest runs; None if it is too low."""
    dollars = min(curve.data.tokens.max() * price for curve, price in zip(curves, prices, strict=True))
    tokens = [np.array([dollars / price]) for price in prices]
    if any(at < curve.data.tokens.min() for at, curve in zip(tokens, curves, strict=True)):
        return None  # the more expensive augmenter has no runs at this few tokens
    samples = [curve.draw_curves(at)[:, 0] for curve, at in zip(curves, tokens, strict=True)]
    count = min(map(len, samples))
    fitted = [curve.at(at)[0] for curve, at in zip(curves, tokens, strict=True)]
    return {
        "one": names[0],
        "other": names[1],
        "equal": "dollars",
        "at": dollars,
        "difference": float(fitted[0] - fitted[1]),
        "interval": resampling.interval(samples[0][:count] - samples[1][:count]),
        "scatter": "fit",
        "questions": len(np.concatenate([block.documents for block in curves[0].data.blocks])),
        "runs": curves[0].data.runs,
    }
