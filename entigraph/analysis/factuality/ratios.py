"""Ratios of sums of counts over independent documents, with intervals clustered by document."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

Part = tuple[float, float]  # a document's share of what stands above and below


def ratio(parts: Sequence[Part], confidence: float) -> dict[str, Any]:
    """The sum above over the sum below; a mean where each document counts one below.

    Linearised standard error, and Student's interval with one degree of freedom less than documents, not below nought,
    because counts are not. `value` is None
    where the sum below is nought, the interval where there are fewer than two documents.
    """
    from scipy.stats import t

    count, above, below = len(parts), sum(one for one, _ in parts), sum(other for _, other in parts)
    found: dict[str, Any] = {"above": above, "below": below, "documents": count}
    if not below:
        return {**found, "value": None, "stderr": None, "interval": None}
    value = above / below
    if count < 2:
        return {**found, "value": value, "stderr": None, "interval": None}
    error = sqrt(count / (count - 1) * sum((one - value * other) ** 2 for one, other in parts)) / below
    reach = float(t.ppf((1 + confidence) / 2, count - 1)) * error
    return {**found, "value": value, "stderr": error, "interval": [max(0.0, value - reach), value + reach]}
