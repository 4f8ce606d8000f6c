"""Learning rate schedules, with the argument names of Hugging Face and torch.

A scheduler node of the config is `_partial_`: training calls it with the optimizer and, if its signature has the
parameter, `num_training_steps`. The scheduler is stepped after every optimizer step.
"""

import inspect
from collections.abc import Callable
from functools import partial
from math import cos, pi
from typing import TYPE_CHECKING, Any

from entigraph.errors import ConfigError

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

SchedulerFactory = Callable[..., "LRScheduler"]


def cosine_with_warmup(
    optimizer: "Optimizer", num_training_steps: int, warmup_ratio: float = 0.05, min_lr_ratio: float = 0.0
) -> "LRScheduler":
    """Returns a schedule with linear warmup, then cosine decay to `min_lr_ratio` times the learning rate."""

    def decay(progress: float) -> float:
        return min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + cos(pi * progress))

    return lambda_schedule(optimizer, num_training_steps, warmup_ratio, decay)


def linear_with_warmup(
    optimizer: "Optimizer", num_training_steps: int, warmup_ratio: float = 0.05, min_lr_ratio: float = 0.0
) -> "LRScheduler":
    """Returns a schedule with linear warmup, then linear decay to `min_lr_ratio` times the learning rate."""

    def decay(progress: float) -> float:
        return 1 - (1 - min_lr_ratio) * progress

    return lambda_schedule(optimizer, num_training_steps, warmup_ratio, decay)


def constant_with_warmup(optimizer: "Optimizer", num_training_steps: int, warmup_ratio: float = 0.0) -> "LRScheduler":
    """Returns a schedule with linear warmup (none by default), then a constant learning rate."""
    return lambda_schedule(optimizer, num_training_steps, warmup_ratio, lambda progress: 1.0)


def lambda_schedule(
    optimizer: "Optimizer", num_training_steps: int, warmup_ratio: float, decay: Callable[[float], float]
) -> "LRScheduler":
    from torch.optim.lr_scheduler import LambdaLR

    return LambdaLR(optimizer, partial(learning_rate_factor, num_training_steps, warmup_ratio, decay))


def learning_rate_factor(
    num_training_steps: int, warmup_ratio: float, decay: Callable[[float], float], step: int
) -> float:
    """Returns the learning rate multiplier at an optimizer step (from 0). Warmup takes at least one step."""
    warmup = max(1, round(warmup_ratio * num_training_steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, num_training_steps - warmup)
    return decay(min(1.0, progress))


def build_scheduler(scheduler: SchedulerFactory, optimizer: "Optimizer", num_training_steps: int) -> "LRScheduler":
    takes_steps = "num_training_steps" in inspect.signature(scheduler).parameters
    return scheduler(optimizer, **({"num_training_steps": num_training_steps} if takes_steps else {}))


def check_scheduler(scheduler: SchedulerFactory) -> None:
    """Raises ConfigError if the scheduler is not `_partial_`, needs a loss, or has ratios that are out of range."""
    if not isinstance(scheduler, partial):
        raise ConfigError("scheduler: set scheduler._partial_=true; the optimizer is added when training starts")
    if "ReduceLROnPlateau" in {base.__name__ for base in getattr(scheduler.func, "__mro__", ())}:
        raise ConfigError(
            "scheduler: ReduceLROnPlateau needs the validation loss, which schedulers do not receive; choose one that "
            "depends on the step only, such as scheduler=cosine_with_warmup"
        )
    ratios: dict[str, Any] = {name: value for name, value in scheduler.keywords.items() if name.endswith("_ratio")}
    problems = [
        f"scheduler.{name} must be between 0 and 1, got {value}"
        for name, value in ratios.items()
        if not 0 <= value <= 1
    ]
    if problems:
        raise ConfigError("\n".join(problems))
