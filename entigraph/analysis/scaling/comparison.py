"""Two augmenters asked the same questions: the difference at equal tokens, and at equal dollars."""

import zlib
from collections.abc import Iterator, Sequence
from itertools import combinations
from math import hypot
from typing import Any

import numpy as np

from entigraph.analysis.scaling.bootstrap import Block, Draws, measured
from entigraph.analysis.scaling.forecast import dollars_per_token, drawn_for, edges, form_named
from entigraph.analysis.settings import ScalingCurve
from entigraph.analysis.study_runs import FinishedRun, augmenters


def comparisons(
    runs: Sequence[FinishedRun], forecasts: Sequence[dict[str, Any]], settings: ScalingCurve
) -> list[dict[str, Any]]:
    """Every two augmenters, the most processed first, at every budget that both have."""
    own = {name: [run for run in runs if run.augmenter == name] for name in augmenters(runs)}
    fits = {
        told["augmenter"]: drawn_for(
            told["augmenter"], form_named(told["chosen"]), measured(own[told["augmenter"]]), settings
        )
        for told in forecasts
        if "chosen" in told
    }
    found: list[dict[str, Any]] = []
    for second, one in combinations(own, 2):
        noise = hypot(*(fits[name].noise if name in fits else 0.0 for name in (one, second)))
        found += at_equal_tokens(own[one], own[second], noise, settings)
        if one in fits and second in fits:
            prices = [dollars_per_token(own[name]) for name in (one, second)]
            found += at_equal_dollars((one, second), (fits[one], fits[second]), prices, settings)
    return found


def at_equal_tokens(
    one: Sequence[FinishedRun], second: Sequence[FinishedRun], noise: float, settings: ScalingCurve
) -> Iterator[dict[str, Any]]:
    """Question by question in runs of one seed and budget; `noise` is what two runs differ by beyond those."""
    others = {(run.budget, run.seed, run.questions_key): run for run in second}
    pairs = [(run, others[key]) for run in one if (key := (run.budget, run.seed, run.questions_key)) in others]
    for budget in sorted({run.budget for run, _ in pairs}):
        here = [(run, other) for run, other in pairs if run.budget == budget]
        differences = [np.array(run.correct, dtype=float) - np.array(other.correct, dtype=float) for run, other in here]
        drawn = np.mean(
            [
                value.mean() + paired_block(run, value).deviations(settings.resamples)[:, 0]
                for (run, _), value in zip(here, differences, strict=True)
            ],
            axis=0,
        )
        rng = np.random.default_rng(zlib.crc32(f"{budget}".encode()))
        drawn = drawn + rng.normal(0, noise / np.sqrt(len(here)), len(drawn))
        yield {
            "one": here[0][0].augmenter,
            "other": here[0][1].augmenter,
            "equal": "tokens",
            "at": budget,
            "difference": float(np.mean([value.mean() for value in differences])),
            "interval": np.quantile(drawn, edges(settings)).tolist(),
            "questions": sum(len(value) for value in differences),
            "runs": len(here),
        }


def paired_block(run: FinishedRun, difference: np.ndarray[Any, Any]) -> Block:
    documents = np.unique(run.documents, return_inverse=True)[1]
    return Block(run.questions_key, np.array([0]), difference[None], documents)


def at_equal_dollars(
    names: tuple[str, str], fits: tuple[Draws, Draws], prices: Sequence[float | None], settings: ScalingCurve
) -> Iterator[dict[str, Any]]:
    """By the fitted curves, where the cheaper of the two largest runs ends; nothing without two known prices."""
    if not all(prices):
        return
    known = [price for price in prices if price]
    dollars = min(fit.measured.tokens.max() * price for fit, price in zip(fits, known, strict=True))
    tokens = [np.array([dollars / price]) for price in known]
    if any(at < fit.measured.tokens.min() for at, fit in zip(tokens, fits, strict=True)):
        return  # so little of the dearer one was never measured
    sets = [fit.predicted(at)[:, 0] for fit, at in zip(fits, tokens, strict=True)]
    count = min(map(len, sets))
    fitted = [fit.form.predict(fit.parameters[None], at)[0, 0] for fit, at in zip(fits, tokens, strict=True)]
    yield {
        "one": names[0],
        "other": names[1],
        "equal": "dollars",
        "at": dollars,
        "difference": float(fitted[0] - fitted[1]),
        "interval": np.quantile(sets[0][:count] - sets[1][:count], edges(settings)).tolist(),
        "questions": len(np.concatenate([block.documents for block in fits[0].measured.blocks])),
        "runs": fits[0].measured.runs,
    }
