"""Config nodes of the components of training, checked without importing torch and built where they are used.

Processes exchange nodes, not objects: a run on several devices starts a process per device, which reads the nodes from
a file and builds the components, including those of other packages.
"""

import ast
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from entigraph.config.instantiate import build, is_target_node, resolve_target
from entigraph.config.suggestions import did_you_mean
from entigraph.errors import ConfigError
from entigraph.tracking.base import NoLogger, TrackerSettings
from entigraph.training.data_schedule import DataConfig

if TYPE_CHECKING:
    from lightning import Callback
    from lightning.pytorch.loggers import Logger

COMPONENTS = ("data", "model", "module", "optim", "scheduler", "trainer", "callbacks", "logger")
DATAMODULE = "entigraph.training.datamodule.SyntheticDataModule"
DATA_CONFIG = f"{DataConfig.__module__}.{DataConfig.__qualname__}"
# Their classes import torch, which takes seconds, so plans do not import them.
HEAVY_PACKAGES = ("lightning.", "entigraph.training.")


def resolved_nodes(config: DictConfig) -> dict[str, Any]:
    """Returns the nodes of the components as plain dictionaries, with resolved interpolations."""
    return {key: OmegaConf.to_container(config[key], resolve=True) for key in COMPONENTS if key in config}


def data_config_node(config: DictConfig) -> DictConfig:
    """Returns the node of a `DataConfig` with the options of the data module, without options added by a subclass."""
    options: Any = OmegaConf.to_container(config.data, resolve=True)
    target = options.pop("_target_", None)
    if target != DATAMODULE:
        options = {name: value for name, value in options.items() if name in DataConfig.__dataclass_fields__}
    return OmegaConf.create({"_target_": DATA_CONFIG, **options})


def build_data_config(node: Mapping[str, Any]) -> DataConfig:
    config: DataConfig = build(data_config_node(OmegaConf.create({"data": node})), "data")
    return config


def check_heavy_nodes(config: DictConfig) -> list[str]:
    """Returns the problems of the module, the callbacks and the loggers."""
    nodes: list[tuple[str, Any, str]] = [("module", config.module, "LightningModule")]
    if config.data.get("_target_") != DATAMODULE:
        nodes.append(("data", config.data, "LightningDataModule"))
    nodes += [(f"callbacks.{name}", node, "Callback") for name, node in config.callbacks.items()]
    nodes += [(f"logger.{name}", node, "Logger") for name, node in lightning_loggers(config.logger)]
    problems = []
    for key, node, kind in nodes:
        try:
            check_heavy_node(node, key, kind)
        except ConfigError as error:
            problems.append(str(error))
    return problems


def check_heavy_node(node: Any, key: str, kind: str) -> None:
    """Checks a node without building it; classes of this package and of Lightning are not even imported.

    Raises ConfigError if it has no target, cannot be imported, has unknown arguments, or is not a subclass of `kind`.
    """
    if not is_target_node(node):
        raise ConfigError(f"{key} must have a _target_, the import path of a {kind}, got {node!r}")
    target = node["_target_"]
    names = [str(name) for name in node if not str(name).startswith("_")]
    if target.startswith(HEAVY_PACKAGES):
        known = argument_names(target)
        unknown = [name for name in names if known is not None and name not in known]
        if unknown:
            title = target.rsplit(".", 1)[-1]
            raise ConfigError(
                "\n".join(f"{key}.{name}: unknown to {title}; {did_you_mean(name, known or [])}" for name in unknown)
            )
        return
    component = resolve_component(target, key)
    if isinstance(component, type) and kind not in {base.__name__ for base in component.__mro__}:
        raise ConfigError(f"{key}._target_: {target} is not a {kind} of lightning")
    build({**OmegaConf.to_container(OmegaConf.create(dict(node)), resolve=False), "_partial_": True}, key)  # type: ignore[dict-item]


def resolve_component(target: str, key: str) -> Any:
    try:
        return resolve_target(target)
    except ConfigError as error:
        raise ConfigError(f"{key}._target_: {error}") from None


@cache
def argument_names(target: str) -> list[str] | None:
    """Returns the arguments of a class of this package from its source, without importing it; None for others."""
    module, _, name = target.rpartition(".")
    if not target.startswith("entigraph."):
        return None
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        spec = None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8")) if spec and spec.origin else ast.Module([], [])
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            functions = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
            return [argument.arg for init in functions for argument in (*init.args.args[1:], *init.args.kwonlyargs)]
    raise ConfigError(f"{target}: no such class")


def lightning_loggers(loggers: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the nodes of Lightning's loggers, without the trackers of this package, which cover all stages."""
    for name, node in loggers.items():
        if not is_tracker(node):
            yield str(name), node


def is_tracker(node: Any) -> bool:
    return isinstance(node, dict | DictConfig) and str(node.get("_target_")).startswith("entigraph.tracking.")


def build_tracker(loggers: Mapping[str, Any]) -> TrackerSettings:
    """Returns the run's tracker settings; `NoLogger` if no tracker is configured."""
    trackers: list[TrackerSettings] = [
        build(node, f"logger.{name}") for name, node in loggers.items() if is_tracker(node)
    ]
    return trackers[0] if trackers else NoLogger()


def build_callbacks(nodes: Mapping[str, Any]) -> "list[Callback]":
    """Builds the callbacks of training. Raises ConfigError if a node does not build a callback."""
    from lightning import Callback

    return build_all(nodes["callbacks"], "callbacks", Callback)


def build_loggers(nodes: Mapping[str, Any], folder: Path) -> "list[Logger]":
    """Builds the loggers of training. Those of Lightning write to `folder` unless they have a `save_dir`."""
    from lightning.pytorch.loggers import Logger

    loggers = {
        name: {"save_dir": str(folder), **node} if node["_target_"].startswith("lightning.") else node
        for name, node in lightning_loggers(nodes["logger"])
    }
    return build_all(loggers, "logger", Logger)


def build_all(nodes: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    built = {name: build(node, f"{key}.{name}") for name, node in nodes.items()}
    problems = [
        f"{key}.{name}: {nodes[name]['_target_']} returns a {type(value).__name__}, which is not a {kind.__name__} of "
        "lightning"
        for name, value in built.items()
        if not isinstance(value, kind)
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return list(built.values())


def check_buildable(nodes: Mapping[str, Any]) -> None:
    """Builds callbacks and loggers once before any stage runs, to report errors early. Imports lightning."""
    build_callbacks(nodes)
    build_loggers(nodes, Path())


def content_nodes(config: DictConfig) -> dict[str, DictConfig]:
    """Returns the nodes of other packages that may affect the weights: callbacks, the module and the data module."""
    nodes = {f"callbacks.{name}": node for name, node in config.callbacks.items()}
    nodes |= {"module": config.module, "datamodule": config.data}
    return {key: node for key, node in nodes.items() if not str(node["_target_"]).startswith("entigraph.")}


def has_external_nodes(nodes: Mapping[str, Any]) -> bool:
    """Returns whether callbacks or loggers come from other packages, so that building them may fail."""
    candidates = [*nodes["callbacks"].values(), *dict(lightning_loggers(nodes["logger"])).values()]
    return any(not str(node["_target_"]).startswith("entigraph.") for node in candidates)


def describe(node: Mapping[str, Any]) -> str:
    """Returns a node as a call, for the model card: `adamw(lr=0.001, weight_decay=0.1)`."""
    arguments = ", ".join(f"{name}={json.dumps(value)}" for name, value in node.items() if not name.startswith("_"))
    return f"{str(node['_target_']).rpartition('.')[2]}({arguments})"
