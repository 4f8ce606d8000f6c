"""The jobs of a sweep, before any of them runs."""

import pickle
from collections.abc import Iterable, Iterator
from itertools import product

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from entigraph.errors import ConfigError


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


def compose_jobs(jobs: Iterable[list[str]]) -> Iterator[DictConfig]:
    """Yields the configuration of each job.

    Hydra takes a few tenths of a second for one. Jobs that differ only in values, such as budgets and seeds, share one
    composition, in which the values are then replaced as Hydra does.
    """
    composed: dict[tuple[str, ...], bytes] = {}
    for job in jobs:
        values, others = split_values(job)
        if others not in composed:
            composed[others] = pickle.dumps(compose("config", overrides=list(others)))
        config: DictConfig = pickle.loads(composed[others])  # several times as fast as DictConfig.copy
        try:
            for override in values:
                OmegaConf.update(config, override.key_or_group, override.value())
        except OmegaConfBaseException:
            config = compose("config", overrides=job)  # raises the error that a user expects
        yield config


def split_values(job: list[str]) -> tuple[list[Override], tuple[str, ...]]:
    """Returns the overrides that only replace a number, and all others in their order."""
    parsed = OverridesParser.create().parse_overrides(job)
    values = [override for override in parsed if is_number(override)]
    keys = [override.key_or_group for override in parsed]
    values = [override for override in values if keys.count(override.key_or_group) == 1]
    return values, tuple(str(override.input_line) for override in parsed if override not in values)


def is_number(override: Override) -> bool:
    """Returns whether the override sets an existing key, not of Hydra's own configuration, to a number."""
    is_change = override.type is OverrideType.CHANGE and override.package is None
    value = override.value()
    return is_change and isinstance(value, int | float) and not override.key_or_group.startswith("hydra.")


def first_job(config: DictConfig) -> list[str]:
    """Returns the overrides of a job with the first value of every swept key."""
    return [f"{override.get_key_element()}={first_value(override)}" for override in parse_overrides(config)]


def parse_overrides(config: DictConfig) -> list[Override]:
    params = config.hydra.sweeper.get("params") or {}
    written = [f"{key}={value}" for key, value in params.items()]
    loader = GlobalHydra.instance().config_loader()  # for glob(), which selects options of a group
    return OverridesParser.create(loader).parse_overrides([*written, *config.hydra.overrides.task])


def sweep_values(override: Override) -> list[str]:
    if override.is_sweep_override():
        values = list(override.sweep_string_iterator())
        if not values:
            raise ConfigError(f"{override.input_line}: matches no option; a glob does not enter folders")
        return values
    return [override.get_value_element_as_str()]


def first_value(override: Override) -> str:
    value = override.value()
    return str(value.start) if isinstance(value, IntervalSweep) else sweep_values(override)[0]
