"""Dataclass fields of components: those that stay out of cache keys, and checks of values."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, field, fields, is_dataclass
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
    if not is_dataclass(component):
        raise TypeError(f"{component!r} is not a dataclass instance")
    return {
        each.name: getattr(component, each.name)
        for each in fields(component)
        if each.metadata.get(AFFECTS_CONTENT, True)
    }


def runtime_field_names(kind: type) -> frozenset[str]:
    """Returns the names of a dataclass's fields that do not affect content."""
    return frozenset(each.name for each in fields(kind) if not each.metadata.get(AFFECTS_CONTENT, True))


def check_positive(component: Any, group: str, *names: str) -> None:
    """Raises ConfigError for a field that is 0 or less. `group` is the config group, for the message."""
    for name in names:
        value = getattr(component, name)
        if value is not None and value <= 0:
            raise ConfigError(f"{group}.{name}: {value} found, more than 0 expected")
