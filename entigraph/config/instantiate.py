"""Builds the object that a `_target_` node describes, with every problem of the node reported in one error.

The node is checked against the target's signature before anything is called: unknown and missing keys, and values that
do not match a basic annotation (`int`, `float`, `str`, `bool`, `Path`, enums, dataclasses, lists and dictionaries of
them, `X | None`). Values are converted to the annotated type; other annotations are not checked. Then
`hydra.utils.instantiate` builds the node with its nested nodes and `_partial_`. This module is its only caller.
"""

import inspect
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, cast, get_type_hints

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from entigraph.config.suggestions import did_you_mean
from entigraph.errors import ConfigError, EntigraphError, error_chain

HYDRA_KEYS = frozenset({"_target_", "_partial_", "_args_", "_recursive_", "_convert_"})
INDIRECT_TARGETS = [f"hydra.utils.get_{kind}" for kind in ("class", "method", "static_method", "object")]
OWN_PACKAGE = "entigraph."
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # get_object logs what is reported here as an error


@dataclass(frozen=True)
class Parameters:
    """The parameters of a target that can be given by name, with their annotations."""

    annotations: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    accepts_any_name: bool = False

    @property
    def required(self) -> list[str]:
        return [name for name in self.annotations if name not in self.defaults]


@dataclass(frozen=True)
class BuiltComponent:
    """An object and the node that it was built from: resolved, with values of the types that the target states."""

    component: Any
    node: DictConfig


BuiltComponents = MutableMapping[str, BuiltComponent]  # by `node_content`


def build(node: Any, key: str) -> Any:
    """Returns the object that a node describes. `key` is the node's config path, for messages.

    Raises ConfigError with one line per problem. What a target of EntiGraph itself raises beyond EntigraphError is an
    internal error and is passed on.
    """
    return build_component(node, key).component


def build_component(node: Any, key: str) -> BuiltComponent:
    node = OmegaConf.create(node) if isinstance(node, dict) else node
    if not is_target_node(node):
        raise ConfigError(
            f"{key} must be a component, got {node!r}; choose an option of {key.split('.')[0]}, or set {key}._target_"
        )
    problems: list[str] = []
    checked = check_node(node, key, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        return BuiltComponent(instantiate(checked, _convert_="object"), checked)
    except InstantiationException as error:
        raise ConfigError("\n".join(construction_problems(checked, key, error))) from error


def build_all(
    nodes: Iterable[tuple[str, Any]], known: BuiltComponents | None = None
) -> tuple[dict[str, BuiltComponent], list[str]]:
    """Returns what the (key, node) pairs describe as far as it can be built, and the problems of the others.

    `known` holds components that were built before, which are taken for equal nodes, and receives the others.
    """
    components: dict[str, BuiltComponent] = {}
    problems: list[str] = []
    for key, node in nodes:
        try:
            content = node_content(node, key) if known is not None else None
            if known is None or content is None:
                components[key] = build_component(node, key)
                continue
            if content not in known:
                known[content] = build_component(node, key)
            components[key] = known[content]
        except ConfigError as error:
            problems += str(error).split("\n")
    return components, problems


def node_content(node: Any, key: str) -> str | None:
    """Returns the config path and the resolved values of a node as one text; None where they cannot be resolved."""
    try:
        return f"{key} {json.dumps(OmegaConf.to_container(node, resolve=True))}"
    except (OmegaConfBaseException, TypeError, ValueError):
        return None


def check_node(node: DictConfig, key: str, problems: list[str]) -> DictConfig:
    """Returns a resolved copy of a node whose values have the types that the targets state.

    Appends what can be seen to be wrong without calling a target to `problems`.
    """
    special: dict[str, Any] = {key: node[key] for key in sorted(HYDRA_KEYS) if key in node}
    values: dict[str, Any] = {}
    try:
        target = resolve_target(node["_target_"])
    except ConfigError as error:
        problems.append(f"{key}._target_: {error}")
        return OmegaConf.create({})
    parameters, title = inspect_target(target), special["_target_"].rsplit(".", 1)[-1]
    schema = argument_schema(target)
    checkable = {field.name for field in fields(schema)}
    typed = OmegaConf.structured(schema)
    names = [str(name) for name in node if name not in HYDRA_KEYS and not OmegaConf.is_missing(node, name)]
    problems += [f"{key}.{line}" for line in unknown_names(target, names, title)]
    for name in names:
        try:
            values[name] = check_value(node[name], f"{key}.{name}", problems)
            if name in checkable and not holds_node(values[name]):
                typed[name] = values[name]
                values[name] = typed[name]
        except OmegaConfBaseException as error:
            problems.append(config_error_message(error) or f"{key}.{name}: {str(error).splitlines()[0]}")
    if "config_key" in parameters.annotations:  # names the component in messages
        values.setdefault("config_key", key)
    if not node.get("_partial_"):
        present = {*names, *list(parameters.annotations)[: len(node.get("_args_") or ())]}
        problems += [
            f"{key}.{name}: required by {title}, not set" for name in parameters.required if name not in present
        ]
    return OmegaConf.create({**special, **values}, flags={"allow_objects": True})


def check_value(value: Any, key: str, problems: list[str]) -> Any:
    """Returns a value as plain, resolved containers, in which each node is a checked copy."""
    if is_target_node(value):
        return check_node(value, key, problems)
    if isinstance(value, DictConfig):
        missing = [name for name in value if OmegaConf.is_missing(value, name)]
        problems += [f"{key}.{name!s}: not set" for name in missing]
        names = [name for name in value if name not in missing]
        return {name: check_value(value[name], f"{key}.{name!s}", problems) for name in names}
    if isinstance(value, ListConfig):
        return [check_value(item, f"{key}.{index}", problems) for index, item in enumerate(value)]
    return value


def unknown_names(target: Callable[..., Any], names: Iterable[str], title: str) -> list[str]:
    """Returns a line for each name that a target does not take.

    One that accepts `**kwargs` may have a static method `unknown_arguments(names)` that returns such lines; without it,
    any name is accepted.
    """
    parameters = inspect_target(target)
    extra = [name for name in names if name not in parameters.annotations]
    if parameters.accepts_any_name:
        hook = getattr(target, "unknown_arguments", None)
        return list(hook(extra)) if hook and extra else []
    return [f"{name}: unknown to {title}; {did_you_mean(name, parameters.annotations)}" for name in extra]


def construction_problems(checked: DictConfig, key: str, error: InstantiationException) -> list[str]:
    """Returns what the targets of a checked node complain about when called: those of nested nodes, or else its own."""
    problems = []
    for path, child in nested_nodes(checked, key):
        try:
            instantiate(child, _convert_="object")
        except InstantiationException as nested:
            problems += construction_problems(child, path, nested)
    if problems:
        return problems
    cause = error.__cause__
    if isinstance(cause, EntigraphError):
        return str(cause).split("\n")
    if cause is None:
        return [f"{key}: {str(error).splitlines()[0]}"]
    if checked["_target_"].startswith(OWN_PACKAGE):
        raise cause
    return [f"{key}: {checked['_target_']} raised {type(cause).__name__}: {cause}"]


def nested_nodes(container: Any, key: str) -> Iterator[tuple[str, DictConfig]]:
    """Yields the outermost nodes in a container, with their keys."""
    if isinstance(container, dict | DictConfig):
        items: Iterable[tuple[Any, Any]] = container.items()
    else:
        items = enumerate(container) if isinstance(container, list | ListConfig) else ()
    for name, value in items:
        if is_target_node(value):
            yield f"{key}.{name}", value
        else:
            yield from nested_nodes(value, f"{key}.{name}")


def holds_node(value: Any) -> bool:
    return is_target_node(value) or next(nested_nodes(value, ""), None) is not None


def resolve_target(path: Any) -> Callable[..., Any]:
    """Returns the class or function at an import path. Raises ConfigError where there is none."""
    if not isinstance(path, str):
        raise ConfigError(f"must be the import path of a class or function, got {path!r}")
    if path in INDIRECT_TARGETS:
        raise ConfigError(f"must name what it gets, got {path}; write its path as _target_, with _partial_: true")
    try:
        target = get_object(path)
    except Exception as error:  # importing a user's module may raise anything
        raise ConfigError(import_problem(path, error.__cause__ or error)) from error
    if not callable(target):
        raise ConfigError(f"must be a class or function, got {path} of type {type(target).__name__}")
    return cast(Callable[..., Any], target)


def import_problem(path: str, error: BaseException) -> str:
    """Returns why a target cannot be imported."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return f"{path} cannot be imported: {type(error).__name__}: {error}".splitlines()[0]
    parent, _, name = error.name.rpartition(".")
    if not f"{path}.".startswith(f"{error.name}."):
        return f"{path} imports {error.name}, which is not installed"
    if parent:
        return f"{path} cannot be imported: {parent} contains no {name}"
    return f"{path} cannot be imported: no module {name} is installed or in the working directory, {os.getcwd()}"


@cache
def inspect_target(target: Callable[..., Any]) -> Parameters:
    """Returns the parameters of a function, or of a class's constructor."""
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # some classes written in C state none
        return Parameters(accepts_any_name=True)
    named = {name: parameter for name, parameter in signature.parameters.items() if parameter.kind in NAMED}
    annotations = type_hints(target)
    return Parameters(
        {name: annotations.get(name, Any) for name in named},
        {
            name: parameter.default
            for name, parameter in named.items()
            if parameter.default not in (inspect.Parameter.empty, MISSING)
        },
        any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in signature.parameters.values()),
    )


def type_hints(target: Callable[..., Any]) -> Mapping[str, Any]:
    """Returns the annotations of a target's parameters, without those that name what only a type checker imports."""
    function = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    try:
        return get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        pass
    hints: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        with suppress(NameError, TypeError, AttributeError):
            one = SimpleNamespace(__annotations__={name: annotation})
            hints |= get_type_hints(one, getattr(function, "__globals__", {}))
    return hints


@cache
def argument_schema(target: Callable[..., Any]) -> type[Any]:
    """Returns a dataclass of a target's parameters whose annotations OmegaConf can check."""
    annotations = inspect_target(target).annotations
    known = {name: annotation for name, annotation in annotations.items() if is_checkable(annotation)}
    return make_dataclass("Arguments", known.items())


@cache
def is_checkable(annotation: Any) -> bool:
    try:
        OmegaConf.structured(make_dataclass("Argument", [("value", annotation)]))
    except OmegaConfBaseException:
        return False
    return True


def is_target_node(value: Any) -> bool:
    return isinstance(value, DictConfig) and value.get("_target_") is not None


def config_error_message(error: BaseException) -> str | None:
    """Returns the message of the error of ours that a resolver raised; None where OmegaConf raised the error itself."""
    return next((str(cause) for cause in error_chain(error) if isinstance(cause, EntigraphError)), None)
