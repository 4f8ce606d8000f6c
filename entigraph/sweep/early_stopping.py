"""Early stopping of a sweep: adds seeds in rounds until every point's mean is precise (sweep.stop_at_half_width).

A round is all jobs of one seed. It begins when the previous round has ended, and each of its jobs first checks whether
it is still needed. The half width is taken from Student's t interval of a point's mean over seeds, at
analysis.confidence; the widest point counts, after at least three seeds. Stopping when an interval happens to be narrow
lowers its coverage below the nominal level: in simulation to 84-90% for a single point and about 90% for four
(tests/sweep).
"""

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from statistics import stdev
from typing import Any

from omegaconf import DictConfig, OmegaConf, flag_override

from entigraph.errors import ConfigError
from entigraph.storage.artifact import read_json, write_json
from entigraph.sweep.expansion import has_known_jobs
from entigraph.sweep.job_table import job_file

KEY = "sweep.stop_at_half_width"
RULE_FILE = "rounds.json"
SKIPPED = "not needed"
MIN_SEEDS = 3


def target_half_width(config: DictConfig) -> float | None:
    """Returns half the width of the intervals to reach, as a share of questions; None without early stopping.

    Raises ConfigError for a value outside (0, 1).
    """
    value = config.sweep.get("stop_at_half_width")
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 < value < 1:
        raise ConfigError(f"{KEY} must be a share between 0 and 1, or null, got {value!r}")
    return float(value)


def vary_seed_slowest(config: DictConfig) -> None:
    """Makes the seed the slowest-varying key of Hydra's sweeper, in whatever order the sweep was written."""
    if target_half_width(config) is None:
        return
    if not has_known_jobs(config):
        raise ConfigError(f"{KEY}: works with Hydra's basic sweeper only; set it to null")
    params = config.hydra.sweeper.params or {}
    overrides = [str(override) for override in config.hydra.overrides.task]
    if "seed" not in params and not any(override.startswith("seed=") for override in overrides):
        raise ConfigError(f"{KEY}: it stops the addition of seeds, and no seeds are swept; set seed=0,1,2,3,4")
    with flag_override(config, ["readonly", "struct"], False):
        # An override on the command line replaces this value and keeps its position.
        config.hydra.sweeper.params = {"seed": params.get("seed", "0"), **params}


def run_in_rounds(config: DictConfig, jobs: Sequence[Sequence[str]] | None, folder: Path) -> None:
    """Makes each round a batch of the sweeper, and writes the stopping rule where the jobs read it."""
    half_width = target_half_width(config)
    if half_width is None or jobs is None:
        return
    seeds = len({override for job in jobs for override in job if override.startswith("seed=")})
    if seeds <= MIN_SEEDS:
        raise ConfigError(f"{KEY} needs at least 4 seeds, got {seeds}; the rule applies after the third")
    size = len(jobs) // seeds
    with flag_override(config, ["readonly", "struct"], False):
        config.hydra.sweeper.max_batch_size = size
    confidence = OmegaConf.select(config, "analysis.confidence", default=0.9)
    write_json(
        folder / RULE_FILE, {"jobs": size, "seeds": seeds, "half_width": half_width, "confidence": confidence}
    )  # fmt: skip


def reason_to_skip(folder: Path, number: int) -> str | None:
    """Returns why a job need not run, from the results of earlier rounds; None if it must run.

    Every job of a round comes to the same decision on any machine, because all earlier rounds have ended.
    """
    file = folder / RULE_FILE
    if not file.exists():
        return None
    rule = read_json(file)
    size = rule["jobs"]
    earlier = range(number - number % size)
    statuses = [read_json(job_file(folder, job)) for job in earlier]
    skipped = next((status["reason"] for status in statuses if status["state"] == SKIPPED), None)
    if skipped:
        return str(skipped)
    points = [statuses[point::size] for point in range(size)]
    accuracies = [
        [status["accuracy"] for status in point if status.get("accuracy") is not None] for point in points
    ]  # fmt: skip
    widest = max(interval_half_width(values, rule["confidence"]) for values in accuracies)
    if widest > rule["half_width"]:
        return None
    return (
        f"stopped after {len(statuses) // size} of {rule['seeds']} seeds: the widest {rule['confidence']:.0%} interval "
        f"of a point is ±{widest:.3f}, no wider than ±{rule['half_width']:g}"
    )


def interval_half_width(accuracies: Sequence[float], confidence: float) -> float:
    """Returns the half width of Student's t interval of the mean; infinity for fewer than three values."""
    from scipy.stats import t

    if len(accuracies) < MIN_SEEDS:
        return float("inf")
    return float(t.ppf((1 + confidence) / 2, len(accuracies) - 1) * stdev(accuracies) / sqrt(len(accuracies)))


def render_outcome(statuses: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a line about early stopping if it skipped jobs."""
    reason = next((status["reason"] for status in statuses if status["state"] == SKIPPED), None)
    if reason is None:
        return []
    return [f"{reason}. An interval that stopped a sweep covers the mean a little less often than its nominal level"]
