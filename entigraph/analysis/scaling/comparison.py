"""Differences between two augmenters on the same questions, at equal tokens and at equal dollars."""

import zlib
from collections.abc import Iterator, Sequence
from itertools import combinations
from math import hypot
from typing import Any

import numpy as np

from entigraph.analysis.document_bootstrap import Resampling, difference_block
from entigraph.analysis.scaling.bootstrap import FittedCurve, load_arrays
from entigraph.analysis.scaling.forecast import fit_resampled, form_by_name, mean_dollars_per_token
from entigraph.analysis.study_runs import StudyRun, by_augmenter


def compare_augmenters(
    runs: Sequence[StudyRun], forecasts: Sequence[dict[str, Any]], resampling: Resampling
) -> list[dict[str, Any]]:
    """Returns every pair of augmenters, the more processed one first, at every budget that both have."""
    by_name = by_augmenter(runs)
    chosen = {forecast["augmenter"]: forecast["chosen"] for forecast in forecasts if "chosen" in forecast}
    curves = {
        name: fit_resampled(name, form_by_name(form), load_arrays(by_name[name]), resampling)
        for name, form in chosen.items()
    }
    comparisons: list[dict[str, Any]] = []
    for other, one in combinations(by_name, 2):
        noise = hypot(*(curves[name].noise if name in curves else 0.0 for name in (one, other)))
        comparisons += compare_at_equal_tokens(by_name[one], by_name[other], noise, resampling)
        if one in curves and other in curves:
            prices = [mean_dollars_per_token(by_name[name]) for name in (one, other)]
            comparisons += compare_at_equal_dollars(
                (one, other), (curves[one], curves[other]), [price for price in prices if price], resampling
            )
    return comparisons


def compare_at_equal_tokens(
    one: Sequence[StudyRun], other: Sequence[StudyRun], noise: float, resampling: Resampling
) -> Iterator[dict[str, Any]]:
    """Compares runs of one seed and budget question by question; `noise` is the scatter of runs beyond questions."""
    others = {(run.budget, run.seed, run.questions_key): run for run in other}
    pairs = [(run, others[key]) for run in one if (key := (run.budget, run.seed, run.questions_key)) in others]
    for budget in sorted({run.budget for run, _ in pairs}):
        matched = [pair for pair in pairs if pair[0].budget == budget]
        differences = [
            np.array(run.correct, dtype=float) - np.array(against.correct, dtype=float) for run, against in matched
        ]
        draws = np.mean(
            [
                difference.mean()
                + difference_block(run.questions_key, difference, run.documents).deviations(resampling.resamples)[:, 0]
                for (run, _), difference in zip(matched, differences, strict=True)
            ],
            axis=0,
        )
        rng = np.random.default_rng(zlib.crc32(f"{budget}".encode()))
        draws = draws + rng.normal(0, noise / np.sqrt(len(matched)), len(draws))
        yield {
            "one": matched[0][0].augmenter,
            "other": matched[0][1].augmenter,
            "equal": "tokens",
            "at": budget,
            "difference": float(np.mean([difference.mean() for difference in differences])),
            "interval": resampling.interval(draws),
            "questions": sum(len(difference) for difference in differences),
            "runs": len(matched),
        }


def compare_at_equal_dollars(
    names: tuple[str, str], curves: tuple[FittedCurve, FittedCurve], prices: Sequence[float], resampling: Resampling
) -> Iterator[dict[str, Any]]:
    """Compares the fitted curves at the cost of the cheaper of the two largest runs, if both prices are known."""
    if len(prices) < len(curves):
        return
    dollars = min(curve.data.tokens.max() * price for curve, price in zip(curves, prices, strict=True))
    tokens = [np.array([dollars / price]) for price in prices]
    if any(at < curve.data.tokens.min() for at, curve in zip(tokens, curves, strict=True)):
        return  # the expensive augmenter was not measured at so few tokens
    draws = [curve.draw_curves(at)[:, 0] for curve, at in zip(curves, tokens, strict=True)]
    count = min(map(len, draws))
    fitted = [curve.at(at)[0] for curve, at in zip(curves, tokens, strict=True)]
    yield {
        "one": names[0],
        "other": names[1],
        "equal": "dollars",
        "at": dollars,
        "difference": float(fitted[0] - fitted[1]),
        "interval": resampling.interval(draws[0][:count] - draws[1][:count]),
        "questions": len(np.concatenate([block.documents for block in curves[0].data.blocks])),
        "runs": curves[0].data.runs,
    }
