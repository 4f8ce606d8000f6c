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

from entigraph.config.environment import resolve_except_environment
from entigraph.config.instantiate import HYDRA_KEYS, build, check_node, inspect_target, is_target_node, resolve_target
from entigraph.config.suggestions import did_you_mean
from entigraph.config.validation import collect_problems
from entigraph.errors import ConfigError
from entigraph.tracking.base import NoLogger, TrackerSettings
from entigraph.training.data_schedule import DataConfig

if TYPE_CHECKING:
    from lightning import Callback
    from lightning.pytorch.loggers import Logger

COMPONENTS = ("data", "model", "module", "optim", "scheduler", "trainer", "callbacks", "logger")
DATAMODULE = "entigraph.training.datamodule.SyntheticDataModule"
DATA_CONFIG = f"{DataConfig.__module__}.{DataConfig.__qualname__}"
MODULE = "CausalLMModule"
FACTORIES = (MODULE, DATAMODULE.rpartition(".")[2])  # built when training starts, with further arguments
LOGGER_PACKAGES = {  # needed by loggers of Lightning
    "CometLogger": ("comet_ml",),
    "LitLogger": ("litlogger",),
    "MLFlowLogger": ("mlflow", "mlflow_skinny"),
    "TensorBoardLogger": ("tensorboard", "tensorboardX"),
    "WandbLogger": ("wandb",),
}
BUILT_CALLBACKS: "dict[str, list[Callback]]" = {}  # before the run, by their nodes as JSON


def resolved_nodes(config: DictConfig) -> dict[str, Any]:
    """Returns the nodes of the components as plain dictionaries, with resolved interpolations.

    Those of environment variables are resolved when a node is built, because the values may be secrets.
    """
    return {key: node for key, node in resolve_except_environment(config).items() if key in COMPONENTS}


def data_config_node(config: DictConfig) -> DictConfig:
    """Returns the node of a `DataConfig` with the options of the data module, without options added by a subclass."""
    values: Any = OmegaConf.to_container(config.data, resolve=True)
    options = {name: value for name, value in values.items() if name not in HYDRA_KEYS}
    if values.get("_target_") != DATAMODULE:
        options = {name: value for name, value in options.items() if name in DataConfig.__dataclass_fields__}
    return OmegaConf.create({"_target_": DATA_CONFIG, **options})


def build_data_config(node: Mapping[str, Any]) -> DataConfig:
    config: DataConfig = build(data_config_node(OmegaConf.create({"data": node})), "data")
    return config


def check_heavy_nodes(config: DictConfig) -> list[str]:
    """Returns the problems of the module, the data module, the callbacks and the loggers.

    `check_external_nodes` checks Lightning's loggers, whose import takes seconds, before a run.
    """
    nodes: list[tuple[str, Any, str]] = [("module", config.module, MODULE)]
    if config.data.get("_target_") != DATAMODULE:
        nodes.append(("data", config.data, DATAMODULE.rpartition(".")[2]))
    nodes += [(f"callbacks.{name}", node, "Callback") for name, node in config.callbacks.items()]
    loggers = [(f"logger.{name}", node, "Logger") for name, node in lightning_loggers(config.logger)]
    nodes += [entry for entry in loggers if not is_target_node(entry[1]) or not is_lightning(entry[1])]
    problems = [problem for entry in nodes for problem in collect_problems(check_heavy_node, *entry)]
    return problems + find_missing_validation(config)


def find_missing_validation(config: DictConfig) -> list[str]:
    """Returns the callbacks that monitor the validation loss although no texts are held out."""
    if config.data.get("_target_") != DATAMODULE or config.data.get("validation_fraction"):
        return []
    return [
        f"callbacks.{name}.monitor: val_loss needs held-out texts; set data.validation_fraction, for example to 0.05"
        for name, node in config.callbacks.items()
        if is_target_node(node) and node.get("monitor") == "val_loss"
    ]


def check_heavy_node(key: str, node: Any, kind: str) -> None:
    """Checks a node without building it; classes of this package are not even imported.

    Raises ConfigError if it has no target, cannot be imported, has unknown arguments, or is not a subclass of `kind`.
    """
    if not is_target_node(node):
        raise ConfigError(f"{key} must have a _target_, the import path of a {kind}, got {node!r}")
    is_factory = kind in FACTORIES
    if is_factory and not node.get("_partial_"):
        raise ConfigError(f"{key}: set {key}._partial_=true; training adds further arguments")
    target = node["_target_"]
    names = [str(name) for name in node if not str(name).startswith("_")]
    if target.startswith("entigraph.training."):
        check_names(names, argument_names(target), target, key)
        return
    component = resolve_component(target, key)
    if isinstance(component, type):
        if kind not in {base.__name__ for base in component.__mro__}:
            raise ConfigError(f"{key}._target_: {target} is not a {kind}")
        if is_factory:
            check_names(names, inherited_arguments(component), target, key)
    problems: list[str] = []
    check_node(node, key, problems)
    if problems:
        raise ConfigError("\n".join(problems))


def check_names(names: list[str], known: list[str] | None, target: str, key: str) -> None:
    """Raises ConfigError if a name is not among the known ones; None: all are accepted."""
    unknown = [name for name in names if known is not None and name not in known]
    if unknown:
        title = target.rpartition(".")[2]
        raise ConfigError(
            "\n".join(f"{key}.{name}: unknown to {title}; {did_you_mean(name, known or [])}" for name in unknown)
        )


def inherited_arguments(component: type) -> list[str]:
    """Returns the arguments of a module or data module, with those that it passes on to its base as `**kwargs`."""
    names: list[str] = []
    for base in component.__mro__:
        if base.__module__ == DATAMODULE.rpartition(".")[0]:
            names += DataConfig.__dataclass_fields__
        parameters = inspect_target(base)
        names += parameters.annotations
        if not parameters.accepts_any_name:
            break
    return names


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


def is_lightning(node: Mapping[str, Any]) -> bool:
    return str(node["_target_"]).startswith("lightning.")


def is_tracker(node: Any) -> bool:
    return isinstance(node, dict | DictConfig) and str(node.get("_target_")).startswith("entigraph.tracking.")


def build_tracker(loggers: Mapping[str, Any]) -> TrackerSettings:
    """Returns the run's tracker settings; `NoLogger` if no tracker is configured."""
    trackers: list[TrackerSettings] = [
        build(node, f"logger.{name}") for name, node in loggers.items() if is_tracker(node)
    ]
    return trackers[0] if trackers else NoLogger()


def build_callbacks(nodes: Mapping[str, Any]) -> "list[Callback]":
    """Returns the callbacks of training, which `check_external_nodes` may have built already.

    Raises ConfigError if a node does not build a callback.
    """
    from lightning import Callback

    built = BUILT_CALLBACKS.pop(json.dumps(nodes["callbacks"]), None)
    return build_all(nodes["callbacks"], "callbacks", Callback) if built is None else built


def build_loggers(nodes: Mapping[str, Any], folder: Path) -> "list[Logger]":
    """Builds the loggers of training. Those of Lightning write to `folder` unless they have a `save_dir`."""
    from lightning.pytorch.loggers import Logger

    return build_all(logger_nodes(nodes, folder), "logger", Logger)


def logger_nodes(nodes: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the nodes of Lightning's loggers, with a `save_dir` if they take one."""
    loggers = dict(lightning_loggers(nodes["logger"]))
    takes_folder = [
        name
        for name, node in loggers.items()
        if is_lightning(node)
        and "save_dir" in inspect_target(resolve_component(node["_target_"], f"logger.{name}")).annotations
    ]
    return loggers | {name: {"save_dir": str(folder), **loggers[name]} for name in takes_folder}


def build_all(nodes: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    built = {name: build(node, f"{key}.{name}") for name, node in nodes.items()}
    problems: list[str] = []
    for name, value in built.items():
        problems += collect_problems(check_kind, value, kind, nodes[name], f"{key}.{name}")
    if problems:
        raise ConfigError("\n".join(problems))
    return list(built.values())


def check_kind(value: Any, kind: type, node: Mapping[str, Any], key: str) -> None:
    """Raises ConfigError if a node, such as a function's, built an object of a different class."""
    if not isinstance(value, kind):
        raise ConfigError(f"{key}: {node['_target_']} returns a {type(value).__name__}, which is not a {kind.__name__}")


def check_external_nodes(nodes: Mapping[str, Any]) -> None:
    """Builds the callbacks and checks the loggers before any stage runs, to report errors early. Imports lightning.

    Loggers are not built, because some create an experiment on a server when they are.
    """
    BUILT_CALLBACKS[json.dumps(nodes["callbacks"])] = build_callbacks(nodes)
    problems = []
    for name, node in logger_nodes(nodes, Path()).items():
        problems += collect_problems(check_heavy_node, f"logger.{name}", OmegaConf.create(node), "Logger")
        packages = LOGGER_PACKAGES.get(node["_target_"].rpartition(".")[2], ()) if is_lightning(node) else ()
        if packages and not any(map(find_spec, packages)):
            problems.append(f"logger.{name}: {node['_target_']} needs the package {packages[0]}; pip install it")
    if problems:
        raise ConfigError("\n".join(problems))


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
