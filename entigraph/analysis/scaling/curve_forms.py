"""The candidate forms of a curve, fitted by least squares. Tokens are counts; accuracies are shares in [0, 1].

log_linear        a + b ln n
flat_then_log     the same, flat up to a first breakpoint
log_then_flat     the same, flat from a last breakpoint on
flat_log_flat     flat at both ends
exponentials_1..3 a - b1 exp(-n/t1) - ... (the paper's form, App. G.1, with r = exp(-1e6/t) for n in millions)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np

from entigraph.analysis.document_bootstrap import Vector

BREAKPOINTS = 32  # candidate breakpoints, evenly spaced in ln(tokens) over the measured range
SCALES = 12  # starting values of a time scale, evenly spaced in ln(tokens) over its bounds
SCALE_MARGIN = 30.0  # a time scale lies between the fewest tokens / 30 and 30 times the most
REFINED_STARTS = 3  # number of starting points that are refined
TOLERANCE, RESAMPLE_TOLERANCE = 1e-14, 1e-8  # relative tolerance of the optimizer
MAX_EVALUATIONS = 2000


class CurveForm(Protocol):
    """A form, fitted to many sets of accuracies at once that were measured at the same token counts."""

    @property
    def name(self) -> str: ...

    @property
    def formula(self) -> str: ...

    @property
    def parameter_names(self) -> Sequence[str]: ...

    def fit(self, tokens: Vector, accuracies: Vector, start: Vector | None = None) -> Vector:
        """Maps (runs,) and (sets, runs) to (sets, parameters); NaN rows did not converge.

        `start`: parameters fitted to similar data.
        """

    def predict(self, parameters: Vector, tokens: Vector) -> Vector:
        """Maps (sets, parameters) and (points,) to (sets, points)."""


@dataclass(frozen=True)
class LogLinear:
    """a + b ln n between its breakpoints, constant outside them."""

    flat_start: bool = False
    flat_end: bool = False

    @property
    def name(self) -> str:
        return {
            (False, False): "log_linear",
            (True, False): "flat_then_log",
            (False, True): "log_then_flat",
            (True, True): "flat_log_flat",
        }[self.flat_start, self.flat_end]

    @property
    def formula(self) -> str:
        ends = ["the start"] * self.flat_start + ["the end"] * self.flat_end
        return "a + b ln n" + (f", flat at {' and '.join(ends)}" if ends else "")

    @property
    def parameter_names(self) -> Sequence[str]:
        return ["a", "b", *["rises_from"] * self.flat_start, *["rises_to"] * self.flat_end]

    def fit(self, tokens: Vector, accuracies: Vector, start: Vector | None = None) -> Vector:
        """Solves the line exactly for every candidate breakpoint, so nothing can fail to converge."""
        breaks = self.candidate_breaks(np.log(tokens))
        clipped = np.clip(np.log(tokens), breaks[:, :1], breaks[:, 1:])
        centered = clipped - clipped.mean(axis=1, keepdims=True)
        spread = (centered**2).sum(axis=1)
        slopes = accuracies @ centered.T / spread
        best = np.argmax(slopes**2 * spread, axis=1)
        slope = slopes[np.arange(len(best)), best]
        intercept = accuracies.mean(axis=1) - slope * clipped.mean(axis=1)[best]
        chosen = np.exp(breaks[best])
        columns = [intercept, slope]
        columns += [chosen[:, 0]] * self.flat_start + [chosen[:, 1]] * self.flat_end
        return np.stack(columns, axis=1)

    def candidate_breaks(self, logs: Vector) -> Vector:
        """Returns (candidates, 2): first and last breakpoint, infinite if there is none."""
        inside = np.linspace(logs.min(), logs.max(), BREAKPOINTS + 2)[1:-1]
        firsts = inside if self.flat_start else [-np.inf]
        lasts = inside if self.flat_end else [np.inf]
        return np.array([(first, last) for first in firsts for last in lasts if first < last])

    def predict(self, parameters: Vector, tokens: Vector) -> Vector:
        low = parameters[:, 2:3] if self.flat_start else np.zeros((1, 1))
        high = parameters[:, -1:] if self.flat_end else np.full((1, 1), np.inf)
        return np.asarray(parameters[:, :1] + parameters[:, 1:2] * np.log(np.clip(tokens, low, high)))


@dataclass(frozen=True)
class Exponentials:
    """a - b1 exp(-n/t1) - ...: a saturating mixture (three terms in paper App. G.1, which states no bounds or starts).

    Bounds: a and each b in [0, 1]; each t, in ascending order, between the fewest tokens / 30 and 30 times the most.
    Starts: every choice of scales out of 12 within the bounds, with the best a and b (non-negative least squares); the
    best three are refined by bounded least squares.
    """

    terms: int

    @property
    def name(self) -> str:
        return f"exponentials_{self.terms}"

    @property
    def formula(self) -> str:
        return f"{self.terms} exponential{'s' * (self.terms > 1)}"

    @property
    def parameter_names(self) -> Sequence[str]:
        numbers = range(1, self.terms + 1)
        return ["a", *(f"b{number}" for number in numbers), *(f"t{number}" for number in numbers)]

    def fit(self, tokens: Vector, accuracies: Vector, start: Vector | None = None) -> Vector:
        return np.stack([self.fit_one(tokens, row, start) for row in accuracies])

    def fit_one(self, tokens: Vector, accuracy: Vector, start: Vector | None) -> Vector:
        from scipy.optimize import least_squares

        low, high = np.log(tokens.min() / SCALE_MARGIN), np.log(tokens.max() * SCALE_MARGIN)
        bounds = np.array(
            [[0.0] * (1 + self.terms) + [low] * self.terms, [1.0] * (1 + self.terms) + [high] * self.terms]
        )
        points = self.starting_points(tokens, accuracy, low, high)
        if start is not None:
            points = [self.with_log_scales(start), *points[:1]]
        tolerance = TOLERANCE if start is None else RESAMPLE_TOLERANCE
        fits = [
            least_squares(
                lambda point: self.evaluate(point, tokens) - accuracy, np.clip(start_point, *bounds),
                lambda point: self.jacobian(point, tokens), bounds, x_scale="jac",
                xtol=tolerance, ftol=tolerance, gtol=tolerance, max_nfev=MAX_EVALUATIONS,
            )
            for start_point in points
        ]  # fmt: skip
        best = min(fits, key=lambda fit: fit.cost)
        if not best.success:
            return np.full(1 + 2 * self.terms, np.nan)
        order = np.argsort(best.x[1 + self.terms :])
        scales = np.exp(best.x[1 + self.terms :][order])
        return np.concatenate([best.x[:1], best.x[1 : 1 + self.terms][order], scales])

    def starting_points(self, tokens: Vector, accuracy: Vector, low: float, high: float) -> list[Vector]:
        from scipy.optimize import nnls

        candidates = []
        for scales in combinations(np.linspace(low, high, SCALES), self.terms):
            design = np.column_stack([np.ones_like(tokens), *(-np.exp(-tokens / np.exp(scale)) for scale in scales)])
            linear, error = nnls(design, accuracy)
            candidates.append((error, np.concatenate([linear, scales])))
        return [start for _, start in sorted(candidates, key=lambda pair: pair[0])[:REFINED_STARTS]]

    def with_log_scales(self, parameters: Vector) -> Vector:
        """Returns the parameters with log time scales, as the optimizer sees them."""
        return np.concatenate([parameters[: 1 + self.terms], np.log(parameters[1 + self.terms :])])

    def evaluate(self, point: Vector, tokens: Vector) -> Vector:
        decay = np.exp(-tokens[:, None] / np.exp(point[1 + self.terms :]))
        return np.asarray(point[0] - decay @ point[1 : 1 + self.terms])

    def jacobian(self, point: Vector, tokens: Vector) -> Vector:
        ratio = tokens[:, None] / np.exp(point[1 + self.terms :])
        decay = np.exp(-ratio)
        return np.column_stack([np.ones_like(tokens), -decay, -point[1 : 1 + self.terms] * decay * ratio])

    def predict(self, parameters: Vector, tokens: Vector) -> Vector:
        return np.stack([self.evaluate(self.with_log_scales(row), tokens) for row in parameters])


FORMS: Sequence[CurveForm] = (
    LogLinear(),
    LogLinear(flat_start=True),
    LogLinear(flat_end=True),
    LogLinear(flat_start=True, flat_end=True),
    Exponentials(1),
    Exponentials(2),
    Exponentials(3),
)


def corrected_aic(residual_sum_of_squares: float, runs: int, parameters: int) -> float:
    """Returns the AICc of a least-squares fit, whose variance counts as a parameter; infinite for too few runs."""
    count = parameters + 1
    if runs <= count + 1:
        return float("inf")
    floor = runs * np.finfo(float).eps ** 2  # avoids log(0) for a perfect fit
    likelihood = runs * np.log(max(residual_sum_of_squares, floor) / runs)
    return float(likelihood + 2 * count + 2 * count * (count + 1) / (runs - count - 1))
