"""User-defined metrics over the records of an evaluation task (answers, summaries, document losses).

A metric is a callable that takes a task's records and returns a number, or a mapping of names to numbers:

    # my_package/metrics.py
    def refusal_rate(answers: Sequence[Answer]) -> float:
        return sum(answer.choice is None for answer in answers) / len(answers)

    entigraph run '+evaluation.closed_book.metrics.refusals={_target_: my_package.refusal_rate, _partial_: true}'

A function needs `_partial_: true`; a class with `__call__` does not. `PredictionMetric` adapts functions of
scikit-learn, torchmetrics or Hugging Face `evaluate`. The values are stored under `metrics` in scores.json and in the
manifest, and shown by W&B and the study table. Metrics and their code are part of the evaluation's cache key.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from entigraph.errors import ConfigError, DataError
from entigraph.storage.schemas import Answer

Metric = Callable[[Sequence[Any]], float | Mapping[str, float]]
NO_CHOICE = -1  # the prediction for an answer without a choice; it never equals a reference


@dataclass(frozen=True, kw_only=True)
class PredictionMetric:
    """Calls `function` with the chosen and the correct choice of each question, under the names of its arguments.

    For scikit-learn: `predictions: y_pred, references: y_true`. An object with a `compute` method (Hugging Face
    `evaluate`) works with the defaults.
    """

    function: Any
    predictions: str = "predictions"
    references: str = "references"

    def __call__(self, answers: Sequence[Answer]) -> Any:
        compute = getattr(self.function, "compute", self.function)
        choices = [NO_CHOICE if answer.choice is None else answer.choice for answer in answers]
        return compute(**{self.predictions: choices, self.references: [answer.answer for answer in answers]})


def check_metrics(metrics: Mapping[str, Any]) -> None:
    """Raises ConfigError for a metric that is not callable."""
    for name, metric in metrics.items():
        if not callable(metric):
            raise ConfigError(
                f"evaluation metrics.{name} must be callable, got {metric!r}; a function needs _partial_: true"
            )


def compute_metrics(metrics: Mapping[str, Metric], records: Sequence[Any]) -> dict[str, float]:
    """Returns the metric values by name (`name/key` for mappings). Raises DataError if a value is not a number."""
    values: dict[str, Any] = {}
    for name, metric in metrics.items():
        value = metric(records)
        values |= (
            {f"{name}/{key}": each for key, each in value.items()} if isinstance(value, Mapping) else {name: value}
        )
    for name, value in values.items():
        if not isinstance(value, Real) and not hasattr(value, "__float__"):
            raise DataError(f"evaluation metrics.{name} must return a number, got {value!r}")
    return {name: float(value) for name, value in values.items()}
