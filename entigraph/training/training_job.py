"""The arguments of a training run, serialized to a file for the processes of other ranks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from entigraph.config.instantiate import build
from entigraph.storage.artifact import read_json, write_json
from entigraph.training.adapters import LoraAdapter, adapter_of
from entigraph.training.component_nodes import build_data_config
from entigraph.training.data_schedule import DataConfig
from entigraph.training.optim import OptimizerFactory
from entigraph.training.optim.schedules import SchedulerFactory
from entigraph.training.starting_models import StartingModel, difference_of
from entigraph.training.trainer import TrainerSettings

PATHS = ("tokens", "tokenizer", "replay", "out")


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """`nodes` are the resolved config nodes of the components, which every process builds.

    `origin` describes the tokens, for the model card.
    """

    tokens: Path
    tokenizer: Path
    replay: Path | None
    out: Path
    nodes: Mapping[str, Any]
    vocabulary: int
    seed: int
    origin: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def data(self) -> DataConfig:
        return build_data_config(self.nodes["data"])

    @cached_property
    def model(self) -> StartingModel:
        model: StartingModel = build(self.nodes["model"], "model")
        return model

    @property
    def adapter(self) -> LoraAdapter | None:
        return adapter_of(self.model)

    @property
    def difference(self) -> str | None:
        """The instruct model whose difference from the base model is added after training; None: none."""
        return difference_of(self.model)

    @cached_property
    def optim(self) -> OptimizerFactory:
        optim: OptimizerFactory = build(self.nodes["optim"], "optim")
        return optim

    @cached_property
    def scheduler(self) -> SchedulerFactory:
        scheduler: SchedulerFactory = build(self.nodes["scheduler"], "scheduler")
        return scheduler

    @cached_property
    def trainer(self) -> TrainerSettings:
        trainer: TrainerSettings = build(self.nodes["trainer"], "trainer")
        return trainer

    def write(self, file: Path) -> None:
        values = asdict(self)
        write_json(file, values | {name: str(values[name]) if values[name] else None for name in PATHS})


def read_training_job(file: Path) -> TrainingJob:
    values = read_json(file)
    return TrainingJob(**values | {name: Path(values[name]) if values[name] else None for name in PATHS})
