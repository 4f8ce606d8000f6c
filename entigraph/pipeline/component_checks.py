"""Checks of components that need no other ones: their kind, and what training reads.

They also run where another component could not be built, so that all problems are one error.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING
from typing import Any, Protocol

from omegaconf import DictConfig

from entigraph.analysis.base import Analysis
from entigraph.config.instantiate import BuiltComponent
from entigraph.config.validation import collect_problems
from entigraph.corpus.base import CorpusReader
from entigraph.evaluation.models_under_test import InferenceEngine, PretrainedBaseline
from entigraph.evaluation.tasks.base import EvaluationTask
from entigraph.llm.base import Writer
from entigraph.questions.question_sources import QuestionSource
from entigraph.retrieval.base import Retriever
from entigraph.synthesis.base import Augmenter
from entigraph.tokenization.base import TokenizerBuilder
from entigraph.training.component_nodes import check_heavy_nodes
from entigraph.training.optim import check_optimizer, check_optimizer_sharding
from entigraph.training.optim.schedules import check_scheduler
from entigraph.training.starting_models import StartingModel
from entigraph.training.trainer import TrainerSettings

KINDS: Mapping[str, Any] = {  # base classes and protocols; the optimizer and the scheduler are called to check them
    "corpus": CorpusReader,
    "questions": QuestionSource,
    "augmenter": Augmenter,
    "llm": Writer,
    "tokenizer": TokenizerBuilder,
    "model": StartingModel,
    "trainer": TrainerSettings,
    "retriever": Retriever,
    "engine": InferenceEngine,
    "evaluation": EvaluationTask,
    "baselines": Writer,  # or a PretrainedBaseline
    "analysis": Analysis,
}


def find_component_problems(config: DictConfig, built: Mapping[str, BuiltComponent]) -> list[str]:
    """Returns what is wrong with the components of a config that were built, and with its seed."""
    problems = [f"seed must be at least 0, got {config.seed}"] if config.seed < 0 else []
    wrong = {key: line for key, part in built.items() if (line := kind_problem(key, part))}
    parts = {key: part.component for key, part in built.items() if key not in wrong}
    return [*problems, *wrong.values(), *check_heavy_nodes(config), *training_problems(parts)]


def kind_problem(key: str, built: BuiltComponent) -> str | None:
    """Returns why a component cannot be used in its group; None if it can."""
    group, component = key.partition(".")[0], built.component
    kind = KINDS.get(group)
    if kind is None or group == "baselines" and isinstance(component, PretrainedBaseline):
        return None
    expected = f"{kind.__name__} of {kind.__module__}"
    if Protocol not in kind.__bases__:
        problem = None if isinstance(component, kind) else f"must be a subclass of {expected}"
    else:
        members = [name for name in {**kind.__annotations__, **vars(kind)} if not name.startswith("_")]
        missing = [name for name in members if inspect.getattr_static(component, name, MISSING) is MISSING]
        problem = f"must have {', '.join(missing)}, as every {expected}" if missing else None
    return f"{key}._target_: {problem}, got {built.node['_target_']}" if problem else None


def training_problems(parts: Mapping[str, Any]) -> Iterator[str]:
    """Yields what is wrong with the optimizer, the scheduler and the batch size."""
    for key, check in (("optim", check_optimizer), ("scheduler", check_scheduler)):
        if key in parts:
            yield from collect_problems(check, parts[key])
    if {"optim", "trainer"} <= parts.keys():
        yield from collect_problems(check_optimizer_sharding, parts["optim"], parts["trainer"].is_sharded)
    if {"trainer", "data"} <= parts.keys():
        yield from collect_problems(parts["trainer"].accumulation, parts["data"].batch_size)
