"""What a component contributes to the cache keys of the artifacts that it determines."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from entigraph.config.fields import affects_content
from entigraph.config.instantiate import HYDRA_KEYS, inspect_target, resolve_target
from entigraph.pipeline.code_identity import identify_code

SCALARS = (str, int, float, bool, type(None))


def component_key(node: DictConfig, component: Any = None) -> dict[str, Any]:
    """Returns the target of a checked node, its arguments with the defaults of the signature, and its code's identity.

    Arguments that do not affect content are left out. A component's `cache_key` mapping is added: a file that an
    argument names enters by content there.
    """
    target = resolve_target(node["_target_"])
    arguments = {**default_arguments(target), **{str(name): node[name] for name in node if name not in HYDRA_KEYS}}
    key: dict[str, Any] = {"_target_": node["_target_"]}
    if node.get("_args_"):
        key["_args_"] = plain_value(node["_args_"], None)
    for name, value in arguments.items():
        if affects_content(target, name):
            key[name] = plain_value(value, getattr(component, name, None))
    if code := identify_code(target, node["_target_"]):
        key["code"] = code
    extra = getattr(component, "cache_key", None)
    if isinstance(extra, Mapping):
        # An extra field fills an argument that is null, but never replaces a value: both determine the content.
        key |= {str(name) if key.get(name) is None else f"cache_key.{name}": value for name, value in extra.items()}
    return key


def default_arguments(target: Any) -> dict[str, Any]:
    """Returns the plain defaults of a target; others change with its code only, which enters by itself."""
    defaults = dict(inspect_target(target).defaults)
    if isinstance(target, type) and is_dataclass(target):
        factories = {
            field.name: field.default_factory for field in fields(target) if field.default_factory is not MISSING
        }
        defaults |= {name: factory() for name, factory in factories.items() if name in defaults}
    return {name: value for name, value in defaults.items() if is_plain(value)}


def is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return isinstance(value, (*SCALARS, Enum, Path))


def plain_value(value: Any, component: Any) -> Any:
    """Returns a JSON value; a nested node becomes its component's key."""
    if isinstance(value, DictConfig) and value.get("_target_") is not None:
        return component_key(value, component)
    if isinstance(value, Mapping):
        parts = component if isinstance(component, Mapping) else {}
        return {str(name): plain_value(part, parts.get(name)) for name, part in value.items()}
    if OmegaConf.is_list(value) or isinstance(value, list | tuple):
        items = component if isinstance(component, Sequence) and not isinstance(component, str) else []
        return [plain_value(part, items[index] if index < len(items) else None) for index, part in enumerate(value)]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value
