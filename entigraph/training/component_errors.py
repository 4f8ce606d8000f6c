"""Turns errors of optimizers, schedulers and Lightning's callbacks into a ConfigError that names their config node."""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Callback
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.optim.lr_scheduler import LRScheduler

from entigraph.errors import ConfigError


@contextmanager
def construction_errors(key: str, factory: Any) -> Iterator[None]:
    """Names an optimizer or scheduler that cannot be constructed, for example because arguments are missing."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        name = getattr(getattr(factory, "func", factory), "__name__", key)
        raise ConfigError(f"{key}: {name} raised {type(error).__name__}: {error}") from error


@contextmanager
def training_errors(callbacks: Mapping[str, Callback]) -> Iterator[None]:
    """Names the scheduler or the Lightning callback whose own code, not a function it calls, raised an error.

    Such errors are about its arguments, for example a metric that is not logged. Others, such as a full disk, pass.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (MisconfigurationException, ImportError, TypeError, ValueError, RuntimeError) as error:
        raiser = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1].f_locals.get("self")
        key = "scheduler" if isinstance(raiser, LRScheduler) else None
        if type(raiser).__module__.startswith("lightning."):
            key = next((f"callbacks.{name}" for name, callback in callbacks.items() if callback is raiser), key)
        if key is None and isinstance(error, MisconfigurationException):
            key = "trainer"
        if key is None:
            raise
        raise ConfigError(f"{key}: {type(error).__name__}: {error}") from error
