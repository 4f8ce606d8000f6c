"""Bootstrap of fitted curves: the runs of one augmenter as arrays, and resampled sets of their accuracies."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from entigraph.analysis.document_bootstrap import QuestionBlock, Vector
from entigraph.analysis.scaling.curve_forms import CurveForm
from entigraph.analysis.study_runs import StudyRun

RELATIVE_STEP = 1e-6  # relative to a parameter, for numerical derivatives


@dataclass(frozen=True)
class RunArrays:
    """The runs of one augmenter, one row each."""

    tokens: Vector
    budgets: NDArray[np.int64]
    accuracy: Vector
    blocks: Sequence[QuestionBlock]

    @property
    def runs(self) -> int:
        return len(self.tokens)

    @property
    def distinct_budgets(self) -> int:
        return len(np.unique(self.budgets))

    def up_to(self, budget: int) -> "RunArrays":
        keep = self.budgets <= budget
        new_row = np.cumsum(keep) - 1
        blocks = []
        for block in self.blocks:
            kept = keep[block.rows]
            if kept.any():
                rows = new_row[block.rows[kept]]
                blocks.append(QuestionBlock(block.key, rows, block.correct[kept], block.documents))
        return RunArrays(self.tokens[keep], self.budgets[keep], self.accuracy[keep], blocks)

    def deviations(self, resamples: int) -> Vector:
        """Returns (resamples, runs): the variation that comes from the choice of documents alone."""
        deviations = np.empty((resamples, self.runs))
        for block in self.blocks:
            deviations[:, block.rows] = block.deviations(resamples)
        return deviations


@dataclass(frozen=True)
class FittedCurve:
    """A form fitted to the runs, and refitted to resampled accuracies.

    Documents are drawn with replacement, each with its questions. The residual variance of runs beyond that (the
    order of training, the draw of the texts, the seed) is drawn from Student's t distribution with the residual degrees
    of freedom, so that two runs do not look certain. benchmarks/bands.py simulates the coverage of the intervals.
    """

    form: CurveForm
    data: RunArrays
    parameters: Vector
    resamples: int
    stream: int = 0  # seeds the noise of the runs: it differs by augmenter, unlike the draws of documents

    @property
    def converged(self) -> bool:
        return bool(np.isfinite(self.parameters).all())

    @cached_property
    def fitted(self) -> Vector:
        """The fitted accuracy of each run."""
        return self.at(self.data.tokens)

    def at(self, tokens: Vector) -> Vector:
        return np.asarray(self.form.predict(self.parameters[None], tokens)[0])

    @property
    def squared_error(self) -> float:
        return float(((self.data.accuracy - self.fitted) ** 2).sum())

    @property
    def r2(self) -> float:
        return 1 - self.squared_error / float(((self.data.accuracy - self.data.accuracy.mean()) ** 2).sum())

    @property
    def degrees_of_freedom(self) -> int:
        return self.data.runs - len(self.parameters)

    @cached_property
    def document_deviations(self) -> Vector:
        return self.data.deviations(self.resamples)

    @cached_property
    def noise(self) -> float:
        """The standard deviation of a run beyond what its documents explain.

        The larger of two estimates: from all residuals of the fit, and from those around each block's own mean,
        which other documents would not move.
        """
        blocks = np.zeros((self.data.runs, len(self.data.blocks)))
        for number, block in enumerate(self.data.blocks):
            blocks[block.rows, number] = 1
        jacobian = self.jacobian()
        return max(self.unexplained_noise(jacobian), self.unexplained_noise(np.hstack([jacobian, blocks])))

    def unexplained_noise(self, design: Vector) -> float:
        residual_projection = np.eye(self.data.runs) - design @ np.linalg.pinv(design)
        df = round(float(np.trace(residual_projection)))
        if df < 1:
            return 0.0
        squares = float(((residual_projection @ (self.data.accuracy - self.fitted)) ** 2).sum())
        explained = float(((self.document_deviations @ residual_projection) ** 2).sum(axis=1).mean())
        return float(np.sqrt(max(0.0, squares - explained) / df))

    def jacobian(self) -> Vector:
        """Returns (runs, parameters): the derivative of each fitted accuracy, by the relative change of a parameter."""
        columns = []
        for number, value in enumerate(self.parameters):
            step = RELATIVE_STEP * (abs(value) or 1.0)
            shifted = np.stack([self.parameters, self.parameters])
            shifted[:, number] += (step, -step)
            up, down = self.form.predict(shifted, self.data.tokens)
            columns.append((up - down) / (2 * step) * (abs(value) or 1.0))
        return np.stack(columns, axis=1)

    def run_noise(self, columns: int, purpose: int) -> Vector:
        rng = np.random.default_rng([self.stream, purpose])
        df = max(1, self.degrees_of_freedom)
        return np.asarray(self.noise * rng.standard_t(df, size=(self.resamples, columns)))

    @cached_property
    def parameter_draws(self) -> Vector:
        """(resamples, parameters), without the few draws in which the fit did not converge."""
        accuracies = self.fitted + self.document_deviations + self.run_noise(self.data.runs, 1)
        parameters = self.form.fit(self.data.tokens, accuracies, self.parameters)
        return parameters[np.isfinite(parameters).all(axis=1)]

    def draw_curves(self, tokens: Vector) -> Vector:
        """Returns (resamples, points): the curve, clipped to [0, 1]."""
        return np.clip(self.form.predict(self.parameter_draws, tokens), 0, 1)

    def draw_new_runs(self, tokens: Vector) -> Vector:
        """Returns (resamples, points): the accuracy of one more run on other documents, clipped to [0, 1]."""
        rng = np.random.default_rng(2)
        curve = self.form.predict(self.parameter_draws, tokens)
        draws = len(self.parameter_draws)
        other = rng.permutation(self.resamples)[:draws], rng.integers(self.data.runs, size=draws)
        return np.clip(curve + self.document_deviations[other][:, None] + self.run_noise(1, 3)[:draws], 0, 1)


def load_arrays(runs: Sequence[StudyRun]) -> RunArrays:
    rows_by_key: dict[int, list[int]] = {}
    for row, run in enumerate(runs):
        rows_by_key.setdefault(run.questions_key, []).append(row)
    return RunArrays(
        tokens=np.array([run.synthetic_tokens for run in runs], dtype=float),
        budgets=np.array([run.budget for run in runs]),
        accuracy=np.array([run.score["accuracy"] for run in runs], dtype=float),
        blocks=[
            QuestionBlock(
                key,
                np.array(rows),
                np.array([runs[row].correct for row in rows], dtype=float),
                np.unique(runs[rows[0]].documents, return_inverse=True)[1],
            )
            for key, rows in rows_by_key.items()
        ],
    )


def fit_curve(form: CurveForm, data: RunArrays, resamples: int, stream: int = 0) -> FittedCurve:
    (parameters,) = form.fit(data.tokens, data.accuracy[None])
    return FittedCurve(form, data, parameters, resamples, stream)
