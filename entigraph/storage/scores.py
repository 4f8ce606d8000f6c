"""The numbers in scores.json."""

from collections.abc import Mapping
from typing import Any

from entigraph.storage.fingerprints import flatten


def scalar_scores(scores: Mapping[str, Any]) -> dict[str, float]:
    """Returns every number of an evaluation by "TASK/NAME", such as "closed_book/groups/forward/accuracy".

    User-defined metrics are "TASK/METRIC". Data losses, which are reported with the scores, are left out.
    """
    return {
        f"{task}/{name.removeprefix('metrics.').replace('.', '/')}": value
        for task, score in scores.items()
        for name, value in flatten({key: part for key, part in score.items() if key != "data_losses"}).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
