"""Measures the coverage of the 90% bands on simulated studies, with the fits of the analysis.

    python benchmarks/bands.py [studies]

A study has budgets of 25k, 50k, ... and seeds. Each seed has its own documents of varying difficulty, and each run
has independent noise. "curve" is how often the band of the curve contains the true curve and "run" how often the band
of a new run contains one, at the largest budget and extrapolated to twice and four times that.
"""

import sys
import time

import numpy as np

from entigraph.analysis.document_bootstrap import QuestionBlock
from entigraph.analysis.scaling.bootstrap import RunArrays, fit_curve
from entigraph.analysis.scaling.curve_forms import LogLinear

A, B, CONFIDENCE, RESAMPLES = -0.6, 0.08, 0.9, 500
EDGES = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
CASES = {
    "1 seed, 8 documents": (1, 4, 8, 0.1, 0.01),
    "2 seeds, 8 documents": (2, 4, 8, 0.1, 0.01),
    "2 seeds, noisy runs": (2, 4, 8, 0.05, 0.04),
    "3 seeds, 30 documents": (3, 5, 30, 0.15, 0.02),
    "5 seeds, 30 documents": (5, 4, 30, 0.1, 0.02),
}


def accuracy_at(tokens: np.ndarray) -> np.ndarray:
    return A + B * np.log(tokens)


def simulate_study(
    rng: np.random.Generator, seeds: int, budgets: int, documents: int, spread: float, noise: float, questions: int = 40
) -> tuple[RunArrays, np.ndarray]:
    """Returns a study, and the accuracy of one more seed at one, two and four times its largest budget."""
    tokens = 25_000.0 * 2.0 ** np.arange(budgets)
    ahead = tokens[-1] * np.array([1.0, 2.0, 4.0])
    document = np.repeat(np.arange(documents), questions)
    blocks, accuracy = [], []
    for seed in range(seeds + 1):
        difficulty = rng.normal(0, spread, documents)[document]
        at = tokens if seed < seeds else ahead
        true = accuracy_at(at)[:, None] + rng.normal(0, noise, (len(at), 1)) + difficulty
        # A question is equally hard for every run, so its threshold is drawn once.
        correct = (rng.random(len(document))[None] < true).astype(float)
        if seed < seeds:
            rows = np.arange(seed * budgets, (seed + 1) * budgets)
            blocks.append(QuestionBlock(int(rng.integers(2**32)), rows, correct, document))
            accuracy.append(correct.mean(axis=1))
        else:
            new = correct.mean(axis=1)
    measured = RunArrays(
        np.tile(tokens, seeds), np.tile(tokens, seeds).astype(int), np.concatenate(accuracy), blocks
    )  # fmt: skip
    return measured, new


def coverage(case: tuple[int, int, int, float, float], studies: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns how often the bands contain the curve and a new run, at 1, 2 and 4 times the largest budget."""
    curve, run = np.zeros(3), np.zeros(3)
    for study in range(studies):
        measured, new = simulate_study(np.random.default_rng([study, case[0]]), *case)
        fit = fit_curve(LogLinear(), measured, RESAMPLES)
        ahead = measured.tokens.max() * np.array([1.0, 2.0, 4.0])
        low, high = np.quantile(fit.draw_curves(ahead), EDGES, axis=0)
        curve += (low <= accuracy_at(ahead)) & (accuracy_at(ahead) <= high)
        low, high = np.quantile(fit.draw_new_runs(ahead), EDGES, axis=0)
        run += (low <= new) & (new <= high)
    return curve / studies, run / studies


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    print(f"{studies} simulated studies per row; 90% bands; at 1, 2 and 4 times the largest budget")
    print(f"{'':26}{'curve':>20}{'new run':>24}")
    for name, case in CASES.items():
        started = time.perf_counter()
        curve, run = coverage(case, studies)
        columns = ["  ".join(f"{100 * share:4.0f}%" for share in shares) for shares in (curve, run)]
        milliseconds = (time.perf_counter() - started) / studies * 1e3
        print(f"{name:26}{columns[0]}    {columns[1]}   ({milliseconds:.0f} ms per study)")


if __name__ == "__main__":
    main()
