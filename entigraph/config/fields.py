"""Dataclass fields of components: those that stay out of cache keys, and checks of values."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from functools import cache
from math import inf
from typing import Any

from entigraph.errors import ConfigError

AFFECTS_CONTENT = "affects_content"


def runtime_field(default: Any = MISSING, *, default_factory: Callable[[], Any] | None = None) -> Any:
    """Returns a field that changes how a stage runs but not what it writes, or one that enters the key by content."""
    metadata = {AFFECTS_CONTENT: False}
    if default_factory is not None:
        return field(default_factory=default_factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def content_fields(component: Any) -> Mapping[str, Any]:
    """Returns the values of a dataclass instance's fields that affect content."""
    kind: type = type(component)
    runtime = runtime_field_names(kind)
    return {field.name: getattr(component, field.name) for field in fields(component) if field.name not in runtime}


@cache
def runtime_field_names(kind: type) -> frozenset[str]:
    """Returns the names of a dataclass's fields that do not affect content."""
    return frozenset(field.name for field in fields(kind) if not field.metadata.get(AFFECTS_CONTENT, True))


def affects_content(target: Any, name: str) -> bool:
    """Returns whether an argument of a `_target_` affects what is written.

    A target that is not a dataclass may state it with a static method `affects_content(name)`.
    """
    if isinstance(target, type) and is_dataclass(target):
        return name not in runtime_field_names(target)
    states = getattr(target, AFFECTS_CONTENT, None)
    return bool(states(name)) if states else True


def check_minimums(component: Any, prefix: str, **minimums: float) -> None:
    """Raises ConfigError for a field below its minimum; None is valid. `prefix` precedes its name in the message."""
    for name, minimum in minimums.items():
        value = getattr(component, name)
        if value is not None and not value >= minimum:  # NaN included
            raise ConfigError(f"{prefix}{name} must be at least {minimum}, got {value}")


def check_shares(component: Any, prefix: str, *names: str, ends: bool = True) -> None:
    """Raises ConfigError for a field, or a value of a list, outside 0 to 1. `ends`: whether 0 and 1 are valid."""
    for name in names:
        value = getattr(component, name)
        values = value if isinstance(value, list) else [value]
        if not all(0 <= share <= 1 if ends else 0 < share < 1 for share in values):
            required = "between 0 and 1" if ends else "above 0 and below 1"
            raise ConfigError(f"{prefix}{name} must be {required}, got {value}")


def check_positive(component: Any, group: str, *names: str) -> None:
    """Raises ConfigError for a field that is 0 or less, or infinite. `group` is the config group, for the message."""
    for name in names:
        value = getattr(component, name)
        if value is not None and not 0 < value < inf:
            raise ConfigError(f"{group}.{name} must be {'finite' if value == inf else 'positive'}, got {value}")
