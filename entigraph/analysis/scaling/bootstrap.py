"""What else the measurements might have been: the runs of an augmenter as arrays, and sets of accuracies drawn anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from entigraph.analysis.scaling.curve_forms import Form, Vector
from entigraph.analysis.study_runs import FinishedRun

STEP = 1e-6  # of a parameter, for a form's slope


@dataclass(frozen=True)
class Block:
    """Runs that were asked the same questions: `correct` is (runs, questions), `documents` numbers each question's."""

    key: int
    rows: NDArray[np.int64]
    correct: Vector
    documents: NDArray[np.int64]

    @property
    def clusters(self) -> NDArray[np.int64]:
        """What is drawn with replacement: whole documents, or single questions where there is one document."""
        return self.documents if len(np.unique(self.documents)) > 1 else np.arange(len(self.documents))

    def deviations(self, resamples: int) -> Vector:
        """(resamples, runs): how far the accuracy on other documents like these might lie from the one found.

        A draw depends on the questions alone, so runs on the same questions share it, of other augmenters too.
        """
        _, cluster = np.unique(self.clusters, return_inverse=True)
        count = cluster.max() + 1
        rng = np.random.default_rng(self.key)
        weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples)[:, cluster].astype(float)
        drawn = weights @ self.correct.T / weights.sum(axis=1, keepdims=True)
        unbiased = np.sqrt(count / (count - 1)) if count > 1 else 1.0
        return np.asarray((drawn - self.correct.mean(axis=1)) * unbiased)


@dataclass(frozen=True)
class Measured:
    """The runs of one augmenter, row by row."""

    tokens: Vector
    budgets: NDArray[np.int64]
    accuracy: Vector
    blocks: Sequence[Block]

    @property
    def runs(self) -> int:
        return len(self.tokens)

    @property
    def distinct(self) -> int:
        return len(np.unique(self.budgets))

    def up_to(self, budget: int) -> "Measured":
        keep = self.budgets <= budget
        place = np.cumsum(keep) - 1
        blocks = []
        for block in self.blocks:
            kept = keep[block.rows]
            if kept.any():
                blocks.append(Block(block.key, place[block.rows[kept]], block.correct[kept], block.documents))
        return Measured(self.tokens[keep], self.budgets[keep], self.accuracy[keep], blocks)

    def deviations(self, resamples: int) -> Vector:
        """(resamples, runs), of the questions alone."""
        found = np.empty((resamples, self.runs))
        for block in self.blocks:
            found[:, block.rows] = block.deviations(resamples)
        return found


@dataclass(frozen=True)
class Draws:
    """A form fitted to the runs, and to what they might have been.

    Documents are drawn with replacement, each with its questions. What the runs scatter about the fit beyond that (the
    order of training, the draw of the texts, another seed) is drawn from Student's t with the residual's degrees of
    freedom, so two runs do not look certain. Simulated coverage: benchmarks/bands.py.
    """

    form: Form
    measured: Measured
    parameters: Vector
    resamples: int
    stream: int = 0  # of the runs' own noise: another number for each augmenter, which its questions are not

    @property
    def converged(self) -> bool:
        return bool(np.isfinite(self.parameters).all())

    @cached_property
    def fitted(self) -> Vector:
        return np.asarray(self.form.predict(self.parameters[None], self.measured.tokens)[0])

    @property
    def squares(self) -> float:
        return float(((self.measured.accuracy - self.fitted) ** 2).sum())

    @property
    def freedom(self) -> int:
        return self.measured.runs - len(self.parameters)

    @cached_property
    def by_questions(self) -> Vector:
        return self.measured.deviations(self.resamples)

    @cached_property
    def noise(self) -> float:
        """Standard deviation of a run beyond what its questions explain.

        The larger of two estimates: by all scatter about the fit, and by that about each block's own mean, which other
        documents do not move.
        """
        blocks = np.zeros((self.measured.runs, len(self.measured.blocks)))
        for number, block in enumerate(self.measured.blocks):
            blocks[block.rows, number] = 1
        slopes = self.slopes()
        return max(self.unexplained(slopes), self.unexplained(np.hstack([slopes, blocks])))

    def unexplained(self, design: Vector) -> float:
        outside = np.eye(self.measured.runs) - design @ np.linalg.pinv(design)
        freedom = round(float(np.trace(outside)))
        if freedom < 1:
            return 0.0
        squares = float(((outside @ (self.measured.accuracy - self.fitted)) ** 2).sum())
        explained = float(((self.by_questions @ outside) ** 2).sum(axis=1).mean())
        return float(np.sqrt(max(0.0, squares - explained) / freedom))

    def slopes(self) -> Vector:
        """(runs, parameters): the derivative of each fitted accuracy."""
        columns = []
        for number, value in enumerate(self.parameters):
            step = STEP * (abs(value) or 1.0)
            moved = np.stack([self.parameters, self.parameters])
            moved[:, number] += (step, -step)
            up, down = self.form.predict(moved, self.measured.tokens)
            columns.append((up - down) / (2 * step) * (abs(value) or 1.0))
        return np.stack(columns, axis=1)

    def runs_noise(self, columns: int, use: int) -> Vector:
        rng = np.random.default_rng([self.stream, use])
        return np.asarray(self.noise * rng.standard_t(max(1, self.freedom), size=(self.resamples, columns)))

    @cached_property
    def drawn(self) -> Vector:
        """(resamples, parameters); the few draws in which the fit did not converge are left out."""
        accuracies = self.fitted + self.by_questions + self.runs_noise(self.measured.runs, 1)
        found = self.form.fit(self.measured.tokens, accuracies, self.parameters)
        return found[np.isfinite(found).all(axis=1)]

    def predicted(self, tokens: Vector) -> Vector:
        """(resamples, points): the curve, within what an accuracy can be."""
        return np.clip(self.form.predict(self.drawn, tokens), 0, 1)

    def another_run(self, tokens: Vector) -> Vector:
        """The same for the accuracy that one more run, on other documents, would show."""
        rng = np.random.default_rng(2)
        curve = self.form.predict(self.drawn, tokens)
        draws = len(self.drawn)
        another = rng.permutation(self.resamples)[:draws], rng.integers(self.measured.runs, size=draws)
        return np.clip(curve + self.by_questions[another][:, None] + self.runs_noise(1, 3)[:draws], 0, 1)


def measured(runs: Sequence[FinishedRun]) -> Measured:
    blocks: dict[int, list[int]] = {}
    for row, run in enumerate(runs):
        blocks.setdefault(run.questions_key, []).append(row)
    return Measured(
        tokens=np.array([run.synthetic_tokens for run in runs], dtype=float),
        budgets=np.array([run.budget for run in runs]),
        accuracy=np.array([run.score["accuracy"] for run in runs], dtype=float),
        blocks=[
            Block(
                key,
                np.array(rows),
                np.array([runs[row].correct for row in rows], dtype=float),
                np.unique(runs[rows[0]].documents, return_inverse=True)[1],
            )
            for key, rows in blocks.items()
        ],
    )


def draws(form: Form, measured: Measured, resamples: int, stream: int = 0) -> Draws:
    (parameters,) = form.fit(measured.tokens, measured.accuracy[None])
    return Draws(form, measured, parameters, resamples, stream)
