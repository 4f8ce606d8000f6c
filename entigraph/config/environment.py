"""Values that the environment gives (`${oc.env:NAME}`), which may be secrets: no file and no tracker receives them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from entigraph.storage.fingerprints import digest

RESOLVER = "oc.env:"
INTERPOLATION = re.compile(r"\$\{(?:[^${}]|\$\{[^{}]*\})*\}")  # with one nested level


def reads_environment(config: DictConfig) -> bool:
    """Returns whether a value of the config names an environment variable."""
    return any(RESOLVER in value for value in strings(OmegaConf.to_container(config)))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from strings(part)
    elif isinstance(value, str):
        yield value


def resolve_except_environment(config: DictConfig) -> dict[str, Any]:
    """Returns the config as plain, resolved containers, in which `${oc.env:NAME}` remains as it is."""
    resolvable = OmegaConf.create(escape(OmegaConf.to_container(config))) if reads_environment(config) else config
    return cast(dict[str, Any], OmegaConf.to_container(resolvable, resolve=True))


def escape(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: escape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [escape(part) for part in value]
    if not isinstance(value, str):
        return value
    return INTERPOLATION.sub(lambda match: match[0].replace("${", r"\${") if RESOLVER in match[0] else match[0], value)


def hide_values(values: Any, shown: Any) -> Any:
    """Replaces each value from the environment with its text in the config and a digest of the value.

    `shown` is the part of `resolve_except_environment` that the values come from.
    """
    if isinstance(shown, str) and RESOLVER in shown:
        return f"{shown} {digest(values)}"
    if isinstance(values, Mapping) and isinstance(shown, Mapping):
        return {name: hide_values(value, shown.get(name)) for name, value in values.items()}
    if isinstance(values, list) and isinstance(shown, list) and len(values) == len(shown):
        return [hide_values(value, part) for value, part in zip(values, shown, strict=True)]
    return values
