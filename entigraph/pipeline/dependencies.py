"""The artifacts of other experiments that a run needs.

`needs` in a config lists experiments, each with overrides; `${output:EXPERIMENT,STAGE}` is the folder that a stage of
one of them writes. Only the steps whose output the run reads, directly or not, are made.
"""

import json
from typing import Any

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from entigraph.config.composition import searchpath_overrides
from entigraph.config.fields import affects_content
from entigraph.config.instantiate import HYDRA_KEYS, resolve_target
from entigraph.config.overrides import normalize_overrides
from entigraph.config.suggestions import did_you_mean
from entigraph.config.validation import explain_override_error, listed_problems
from entigraph.errors import ConfigError
from entigraph.pipeline.loading import load_run
from entigraph.pipeline.run import Run
from entigraph.pipeline.steps import Step, run_steps
from entigraph.storage import artifact

OUTPUTS = ("corpus", "tokens", "synthesis", "training", "evaluation")
LOADED: dict[str, Run] = {}


def register() -> None:
    """Makes the `output` resolver known to OmegaConf."""
    OmegaConf.register_new_resolver("output", output_folder, replace=True)


def output_folder(experiment: str, stage: str, *, _root_: DictConfig) -> str:
    """Returns the folder that a stage of a needed experiment writes: ${output:base/fictional,training}."""
    need = next((need for need in _root_.needs if need.experiment == experiment), None)
    if need is None:
        raise ConfigError(f"${{output:{experiment},{stage}}}: list {experiment} under needs")
    if stage not in OUTPUTS:
        raise ConfigError(f"${{output:{experiment},{stage}}}: unknown output {stage!r}; {did_you_mean(stage, OUTPUTS)}")
    return str(getattr(load_need(need, _root_).artifacts, stage).folder)


def load_need(need: DictConfig, parent: DictConfig) -> Run:
    """Returns the run of a needed experiment under the same root. Raises ConfigError that names the experiment."""
    shared = {
        "logger": OmegaConf.to_container(parent.logger, resolve=True),
        "trainer": runtime_settings(parent.trainer),
        "searchpath": OmegaConf.to_container(parent.hydra.searchpath) if "hydra" in parent else [],
    }
    key = json.dumps([OmegaConf.to_container(need, resolve=True), parent.paths.root, shared], default=str)
    if key not in LOADED:
        try:
            LOADED[key] = load_run(compose_need(need, parent.paths.root, shared))
        except ConfigError as error:
            raise ConfigError(f"needs {need.experiment}: {'; '.join(listed_problems(error))}") from error
    return LOADED[key]


def compose_need(need: DictConfig, root: str, shared: dict[str, Any]) -> DictConfig:
    """Returns the config of a needed experiment.

    The parent's logger, search path and the trainer settings that do not affect content hold for it too,
    except settings that the need overrides.
    """
    overrides, searchpath = normalize_overrides(need.overrides), searchpath_overrides(shared["searchpath"])
    chosen = [f"experiments={need.experiment}", *overrides, f"paths.root={quote(root)}"]
    try:
        config = compose("config", [*chosen, *searchpath])
    except (HydraException, OmegaConfBaseException) as error:
        message = explain_override_error(str(error), overrides, lambda rest: compose("config", [*rest, *searchpath]))
        raise ConfigError(message or str(error).strip()) from error
    OmegaConf.set_struct(config, False)
    config.logger = shared["logger"]
    if searchpath:
        config.hydra = {"searchpath": shared["searchpath"]}
    stated = {override.partition("=")[0].lstrip("+") for override in overrides}
    for name, value in shared["trainer"].items():
        if f"trainer.{name}" not in stated:
            config.trainer[name] = value
    return config


def runtime_settings(trainer: DictConfig) -> dict[str, Any]:
    """Returns the settings of a trainer node that do not affect content."""
    target = resolve_target(trainer["_target_"])
    names = [str(name) for name in trainer if name not in HYDRA_KEYS]
    return {name: trainer[name] for name in names if not affects_content(target, name)}


def quote(value: str) -> str:
    """Returns a string as a value of Hydra's override grammar."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def needed_steps(run: Run) -> list[tuple[Run, list[Step]]]:
    """Returns the runs that this one needs, each with the steps whose output is read, in the order of building.

    These are the experiments under `needs`, and the previous round.
    """
    inputs = {folder for step in run_steps(run) for folder in step.artifact.inputs.values()}
    needed: list[tuple[Run, list[Step]]] = []
    others = [load_need(need, run.config) for need in run.config.needs]
    for other in [*others, *filter(None, [run.previous_round])]:
        used: list[Step] = []
        for step in reversed(list(run_steps(other))):
            if step.artifact.folder in inputs:
                used.insert(0, step)
                inputs |= set(step.artifact.inputs.values())
        needed += [*needed_steps(other), (other, used)]
    return needed


def all_steps(run: Run) -> list[Step]:
    """Returns the needed steps of other experiments and rounds, then the run's own, each artifact once."""
    steps = [step for _, used in needed_steps(run) for step in used] + list(run_steps(run))
    return list({step.artifact.folder: step for step in steps}.values())


def missing_inputs(run: Run) -> list[str]:
    """Returns a line for each input under `paths.root` that does not exist and that no step of the run makes."""
    steps = all_steps(run)
    planned = {step.artifact.folder for step in steps}
    return [
        f"{describe_input(run, step, name)}, {folder}, does not exist, and no step of this run makes it"
        for step in steps
        for name, folder in step.artifact.inputs.items()
        if folder not in planned and not artifact.is_complete(folder)
    ]


def describe_input(run: Run, step: Step, name: str) -> str:
    task = name.removeprefix("questions_")
    if task != name and task in run.tasks and run.tasks[task].corpus:
        return f"evaluation.{task}.corpus"
    return f"{step.artifact.stage}: its input {name}"
