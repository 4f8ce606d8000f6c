"""Hydra plugin: runs any sweeper as a study. Hydra accepts sweepers from the `hydra_plugins` namespace only."""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, flag_override


class StudySweeper(Sweeper):
    """Wraps the sweeper that the configuration chooses (`entigraph.sweep.callback.StudyCallback` installs it).

    The selected command determines whether that sweeper runs at all: plan, analyze, list and clean need no jobs.
    """

    def __init__(self, sweeper: DictConfig) -> None:
        pass  # `setup` takes the wrapped sweeper's node from the whole config, where its interpolations resolve

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        with flag_override(config, ["readonly", "struct"], False):
            config.hydra.sweeper = config.hydra.sweeper.sweeper
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        from entigraph.sweep.multirun import execute_multirun  # Hydra imports its plugins in every application

        def start() -> Any:
            sweeper = Plugins.instance().instantiate_sweeper(
                hydra_context=self.hydra_context, task_function=self.task_function, config=self.config
            )
            return sweeper.sweep(arguments)

        return execute_multirun(self.config, start)
