"""The components of one configuration, built and typed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from entigraph.analysis.base import Analysis
from entigraph.config.environment import hide_values, reads_environment, resolve_except_environment
from entigraph.config.instantiate import BuiltComponent, BuiltComponents, config_error_message
from entigraph.config.schema import COMPONENTS, Preview, QualityGate, Synthesis, Tokens
from entigraph.config.validation import resolve_root, validate
from entigraph.corpus.base import CorpusReader
from entigraph.errors import ConfigError
from entigraph.evaluation.models_under_test import InferenceEngine, PretrainedBaseline
from entigraph.evaluation.tasks.base import EvaluationTask
from entigraph.llm.base import Writer
from entigraph.pipeline.component_checks import find_component_problems
from entigraph.pipeline.component_keys import component_key
from entigraph.questions.question_sources import QuestionSource
from entigraph.reporting.disclaimers import PIPELINE_CHECK, TEST_MODEL, TINY_PARAMETERS, describe_simulation
from entigraph.retrieval.base import Retriever
from entigraph.synthesis.base import Augmenter
from entigraph.tokenization.base import TokenizerBuilder
from entigraph.tracking.base import TrackerSettings
from entigraph.training.component_nodes import build_tracker, content_nodes, data_config_node
from entigraph.training.data_schedule import DataConfig
from entigraph.training.memory import read_shape
from entigraph.training.optim import OptimizerFactory
from entigraph.training.optim.schedules import SchedulerFactory
from entigraph.training.starting_models import StartingModel
from entigraph.training.trainer import TrainerSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Components:
    """`keys` holds what each component contributes to cache keys, by its config path."""

    config: DictConfig
    root: Path
    seed: int
    keys: Mapping[str, dict[str, Any]]
    corpus: CorpusReader
    questions: QuestionSource
    augmenter: Augmenter
    llm: Writer
    synthesis: Synthesis
    preview: Preview
    quality_gate: QualityGate
    tokenizer: TokenizerBuilder
    tokens: Tokens
    data: DataConfig
    model: StartingModel
    optim: OptimizerFactory
    scheduler: SchedulerFactory
    trainer: TrainerSettings
    retriever: Retriever
    engine: InferenceEngine
    tasks: Mapping[str, EvaluationTask]
    skipped_tasks: Sequence[str]  # those that need questions, where the corpus has none
    baselines: Mapping[str, PretrainedBaseline | Writer]
    analysis: Analysis
    logger: TrackerSettings

    @property
    def readable_name(self) -> str:
        return f"{self.corpus.name}-{self.augmenter.name}-{self.tokens.budget or 'all'}-seed{self.seed}"

    @property
    def notes(self) -> list[str]:
        """What the user should know before the run starts."""
        small = self.writer_is_slow and not self.corpus.fictional and (self.model_parameters or inf) < TINY_PARAMETERS
        unused = "data.replay is not read with data.replay_rate=0; 0.1 replays a tenth"
        return [
            *self.skipped_task_notes,
            *([TEST_MODEL] if small else []),
            *([unused] if self.data.replay and not self.data.replay_rate else []),
        ]

    @property
    def skipped_task_notes(self) -> list[str]:
        if not self.skipped_tasks:
            return []
        return [
            f"evaluation: {', '.join(self.skipped_tasks)} skipped, because the corpus has no questions; give some "
            "(corpus.questions=file.jsonl), or have some written (questions=generated)"
        ]

    @property
    def asks_questions(self) -> bool:
        """Without an accuracy, a run is no point of a study's curve."""
        return any(task.measures_accuracy for task in self.tasks.values())

    @property
    def writer_is_slow(self) -> bool:
        """Whether its texts take a writer some time, or cost something."""
        return self.augmenter.needs_writer and self.llm.name != "offline"

    @property
    def disclaimer(self) -> str | None:
        """What a reader must know about its results: that something in them is simulated."""
        if self.corpus.fictional:
            return describe_simulation(offline_writer=self.llm.name == "offline", parameters=self.model_parameters)
        writes = self.augmenter.needs_writer or self.questions.needs_writer
        return PIPELINE_CHECK if writes and self.llm.name == "offline" else None

    @property
    def model_parameters(self) -> int | None:
        """The size of the model; None if it is on the Hub, not trained yet, or no Llama-like model."""
        shape = read_shape(self.model.config_values(getattr(self.tokenizer, "vocab_size", 0)))
        return shape.parameters if shape else None

    @property
    def replay_folder(self) -> Path | None:
        return Path(self.data.replay).expanduser().resolve() if self.data.replay and self.data.replay_rate else None


def build_components(config: DictConfig, known: BuiltComponents | None = None) -> dict[str, Any]:
    """Returns the fields of `Components`. Raises ConfigError listing every problem.

    `known` is described in `load_run`.
    """
    resolve_root(config)
    try:
        data = data_config_node(config)
    except OmegaConfBaseException as error:  # an interpolation that cannot be resolved
        raise ConfigError(config_error_message(error) or f"data: {str(error).splitlines()[0]}") from error
    built = validate(config, {"data": data}, partial(find_component_problems, config), known)
    tasks = {str(name): built[f"evaluation.{name}"].component for name in config.evaluation}
    skipped = tasks_without_questions(tasks, built["corpus"].component, built["questions"].component)
    return {
        "config": config,
        "root": Path(config.paths.root),
        "seed": config.seed,
        "keys": component_keys(config, built),
        "synthesis": OmegaConf.to_object(config.synthesis),
        "preview": OmegaConf.to_object(config.preview),
        "quality_gate": OmegaConf.to_object(config.quality_gate),
        "tokens": OmegaConf.to_object(config.tokens),
        "tasks": {name: task for name, task in tasks.items() if name not in skipped},
        "skipped_tasks": skipped,
        "baselines": {str(name): built[f"baselines.{name}"].component for name in config.baselines},
        "logger": build_tracker(config.logger),
        **{key: built[key].component for key in COMPONENTS},
    }


def component_keys(config: DictConfig, built: Mapping[str, BuiltComponent]) -> dict[str, dict[str, Any]]:
    """Returns what each component contributes to cache keys, without values of environment variables."""
    keys = {key: component_key(component.node, component.component) for key, component in built.items()}
    keys |= {key: component_key(node) for key, node in content_nodes(config).items()}
    if not reads_environment(config):
        return keys
    shown = resolve_except_environment(config)

    def shown_node(key: str) -> Any:
        group, _, name = key.replace("datamodule", "data").partition(".")
        return shown[group][name] if name else shown[group]

    return {key: hide_values(values, shown_node(key)) for key, values in keys.items()}


def tasks_without_questions(
    tasks: Mapping[str, EvaluationTask], corpus: CorpusReader, questions: QuestionSource
) -> list[str]:
    """Returns the names of the tasks that ask the corpus's questions, if it has none and none are written."""
    if corpus.has_questions or questions.name != "from_corpus":
        return []
    return [name for name, task in tasks.items() if task.uses_questions and task.corpus is None]
