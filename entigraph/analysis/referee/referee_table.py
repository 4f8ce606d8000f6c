"""The table of accuracy and cost on the referee's page."""

from collections.abc import Mapping
from typing import Any

from entigraph.analysis.scaling.study_tables import TextTable, drop_empty_columns
from entigraph.storage.data_losses import render_data_losses

HEADINGS = (
    *("method", "budget", "accuracy", "interval", "synthetic tokens", "trained tokens", "dollars", "of them writing"),
    *("paid", "known before", "loss elsewhere", "seeds", "questions", "Pareto front", "data losses, up to"),
)


def tabulate_points(result: Mapping[str, Any]) -> TextTable:
    """Returns a row for each method and budget, without the columns that no run has."""
    rows = [tabulate_point(point, index in result["pareto"]) for index, point in enumerate(result["points"])]
    return drop_empty_columns(HEADINGS, rows)


def tabulate_point(point: Mapping[str, Any], on_front: bool) -> list[str]:
    low, high = point["interval"]
    return [
        *(point["method"], f"{point['budget']:,}", f"{point['accuracy']:.3f}", f"{low:.3f} to {high:.3f}"),
        *(f"{point['tokens']:,.0f}", f"{point['trained_tokens']:,.0f}", f"{point['dollars']:,.3g}"),
        f"{point['writing_dollars']:,.3g}" if point["writing_dollars"] else "",
        f"{point['dollars_paid']:,.3g}" if point["dollars_paid"] else "",
        f"{point['background']:.3f}" if point["background"] is not None else "",
        f"{point['loss_change']:+.4f}" if point["loss_change"] is not None else "",
        *(str(point["seeds"]), f"{point['questions']:,}", "yes" if on_front else ""),
        render_data_losses(point["data_losses"]),
    ]
