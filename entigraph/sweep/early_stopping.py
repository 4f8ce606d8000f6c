"""Seeds one round at a time, until every point of a sweep is known narrowly enough (sweep.stop_at_half_width).

A round is all jobs of one seed. It begins when the one before has ended, and each of its jobs asks first whether it is
still needed. The half width is that of Student's interval of a point's mean over seeds, at analysis.confidence; the
widest point decides, after three seeds at least. Stopping where an interval happens to be narrow makes it hold less
often than it says: in simulation 84 to 90 of 100 times for a single point, about 90 for four (tests/test_rounds.py).
"""

import json
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from statistics import stdev
from typing import Any

from omegaconf import DictConfig, OmegaConf, flag_override

from entigraph.errors import ConfigError
from entigraph.storage.artifact import write_json
from entigraph.sweep.job_table import job_file

KEY = "sweep.stop_at_half_width"
RULE = "rounds.json"
NEEDLESS = "not needed"
LEAST_SEEDS = 3


def target(config: DictConfig) -> float | None:
    """Half an interval's width, as a share of questions. Raises ConfigError for what can be none."""
    found = config.sweep.get("stop_at_half_width")
    if found is None:
        return None
    if not isinstance(found, int | float) or not 0 < found < 1:
        raise ConfigError(f"{KEY}: {found!r} found, a share between 0 and 1, or null, expected")
    return float(found)


def seeds_slowest(config: DictConfig) -> None:
    """Let Hydra's sweeper vary the seed slowest, whatever order the sweep was given in."""
    if target(config) is None:
        return
    params = config.hydra.sweeper.params or {}
    typed = [str(given) for given in config.hydra.overrides.task]
    if "seed" not in params and not any(given.startswith("seed=") for given in typed):
        raise ConfigError(f"{KEY}: what it ends is the adding of seeds, and none are swept; give seed=0,1,2,3,4")
    with flag_override(config, ["readonly", "struct"], False):
        # A value that was typed takes the place of this one, and not its rank.
        config.hydra.sweeper.params = {"seed": params.get("seed", "0"), **params}


def in_batches(config: DictConfig, jobs: Sequence[Sequence[str]], folder: Path) -> None:
    """Let each round be a batch of the sweeper, and the jobs know the rule."""
    half_width = target(config)
    if half_width is None:
        return
    seeds = seeds_of(jobs)
    if seeds <= LEAST_SEEDS:
        raise ConfigError(f"{KEY}: {seeds} seeds found; it looks after the third, so it takes four or more")
    size = len(jobs) // seeds
    with flag_override(config, ["readonly", "struct"], False):
        config.hydra.sweeper.max_batch_size = size
    confidence = OmegaConf.select(config, "analysis.confidence", default=0.9)
    write_json(folder / RULE, {"jobs": size, "half_width": half_width, "confidence": confidence})


def seeds_of(jobs: Sequence[Sequence[str]]) -> int:
    return len({given for job in jobs for given in job if given.startswith("seed=")})


def enough(folder: Path, number: int) -> str | None:
    """Why a job need not run, from how the rounds before its own ended; None where it is to run.

    Every job of a round sees the same, on whatever machine: a round begins when the one before has ended.
    """
    file = folder / RULE
    if not file.exists():
        return None
    rule = json.loads(file.read_text(encoding="utf-8"))
    before = range(number - number % rule["jobs"])
    ended = [json.loads(job_file(folder, one).read_text(encoding="utf-8")) for one in before]
    skipped = next((status["reason"] for status in ended if status["state"] == NEEDLESS), None)
    if skipped:
        return str(skipped)
    points = [ended[point :: rule["jobs"]] for point in range(rule["jobs"])]
    measured = [[found["accuracy"] for found in point if found.get("accuracy") is not None] for point in points]
    widest = max(half_width(accuracies, rule["confidence"]) for accuracies in measured)
    if widest > rule["half_width"]:
        return None
    return (
        f"stopped after {len(ended) // rule['jobs']} seeds: the widest {rule['confidence']:.0%} interval of a point is "
        f"±{widest:.3f}, no wider than ±{rule['half_width']:g}"
    )


def half_width(accuracies: Sequence[float], confidence: float) -> float:
    """Of Student's interval of their mean; infinite for fewer than three."""
    from scipy.stats import t

    if len(accuracies) < LEAST_SEEDS:
        return float("inf")
    return float(t.ppf((1 + confidence) / 2, len(accuracies) - 1) * stdev(accuracies) / sqrt(len(accuracies)))


def told(statuses: Sequence[dict[str, Any]], jobs: Sequence[Sequence[str]]) -> list[str]:
    """What a sweep that ended early says of it."""
    left = [status for status in statuses if status["state"] == NEEDLESS]
    if not left:
        return []
    why = str(left[0]["reason"]).replace(" seeds:", f" of {seeds_of(jobs)} seeds:")
    return [f"{why}. An interval that ended a sweep is narrow by choice, and holds a little less often than it says"]
