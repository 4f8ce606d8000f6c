"""The jobs of a sweep, before any of them runs."""

from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig


def has_known_jobs(config: DictConfig) -> bool:
    """Returns whether the sweeper runs every combination; others choose a job from the results of earlier ones."""
    return str(config.hydra.sweeper._target_).endswith(".BasicSweeper")


def expand_jobs(config: DictConfig) -> list[list[str]]:
    """Returns the overrides of each job, in the order in which Hydra's basic sweeper runs them."""
    values = {override.get_key_element(): sweep_values(override) for override in parse_overrides(config)}
    return [
        [f"{key}={value}" for key, value in zip(values, job, strict=True)]
        for job in product(*values.values())
    ]  # fmt: skip


def first_job(config: DictConfig) -> list[str]:
    """Returns the overrides of a job with the first value of every swept key."""
    return [f"{override.get_key_element()}={first_value(override)}" for override in parse_overrides(config)]


def parse_overrides(config: DictConfig) -> list[Override]:
    params = config.hydra.sweeper.get("params") or {}
    written = [f"{key}={value}" for key, value in params.items()]
    return OverridesParser.create().parse_overrides([*written, *config.hydra.overrides.task])


def sweep_values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()]


def first_value(override: Override) -> str:
    value = override.value()
    return str(value.start) if isinstance(value, IntervalSweep) else sweep_values(override)[0]
