"""Interpolations for config files, such as `${absolute:outputs}` and `${choices:${sweep.seeds}}`."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf


def register() -> None:
    """Makes the resolvers known to OmegaConf."""
    OmegaConf.register_new_resolver("absolute", absolute, replace=True)
    OmegaConf.register_new_resolver("choices", choices, replace=True)
    OmegaConf.register_new_resolver("cores", cores, replace=True)
    OmegaConf.register_new_resolver("gpus", gpus, replace=True)
    OmegaConf.register_new_resolver("jobs_at_once", jobs_at_once, replace=True)
    OmegaConf.register_new_resolver("largest", largest, replace=True)


def absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def choices(values: Sequence[object]) -> str:
    """Returns values as a choice sweep of Hydra's basic sweeper: "1,2,4"."""
    return ",".join(map(str, values))


def cores() -> int:
    """Returns the number of cores that this process may use, by affinity and by quota."""
    from joblib import cpu_count

    return int(cpu_count())


def gpus(accelerator: str, devices: int) -> int | None:
    """Returns the number of GPUs to request of a cluster for a trainer; None if it trains on the CPU."""
    return None if accelerator == "cpu" else devices


def jobs_at_once(accelerator: str) -> int:
    """Returns the number of jobs that one machine can run at once: one per core, or one if each trains on its GPU."""
    return 1 if accelerator in ("cuda", "gpu") else cores()


def largest(values: Sequence[int], other: int | None) -> int:
    """Returns the largest of a study's budgets and of one given in addition."""
    return max(*values, other) if other is not None else max(values)
