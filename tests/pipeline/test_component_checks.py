"""Components of the wrong kind, and all problems of a configuration in one error."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from entigraph.config.schema import COMPONENTS, NAMED_COMPONENTS
from entigraph.errors import ConfigError
from entigraph.pipeline.component_checks import KINDS
from entigraph.pipeline.run import Run

Configured = Callable[..., Run]


def members(**values: object) -> SimpleNamespace:
    return SimpleNamespace(**values)


@pytest.mark.parametrize(
    ("group", "lacks"),
    [
        ("corpus", "must have fictional, has_questions, sources, read, as every CorpusReader of entigraph.corpus.base"),
        ("questions", "must have needs_writer, prompts, sources, as every QuestionSource"),
        ("augmenter", "must be a subclass of Augmenter of entigraph.synthesis.base"),
        ("llm", "must have check, connect, as every Writer"),
        ("tokenizer", "must have sources, build, as every TokenizerBuilder"),
        ("model", "must have build, config_values, as every StartingModel"),
        ("trainer", "must be a subclass of TrainerSettings"),
        ("retriever", "must be a subclass of Retriever"),
        ("engine", "must have holds_model, check, connect, as every InferenceEngine"),
        ("evaluation.mine", "must be a subclass of EvaluationTask"),
        ("baselines.mine", "must have check, connect, as every Writer"),
        ("analysis", "must have inputs, run, as every Analysis"),
    ],
)
def test_component_of_the_wrong_kind_is_an_error(group: str, lacks: str, configured: Configured) -> None:
    target = f"{__name__}.members"
    override = f"+{group}={{_target_: {target}, name: mine}}" if "." in group else f"{group}={{_target_: {target}}}"
    extra = [] if "." in group else [f"+{group}.name=mine"]
    with pytest.raises(ConfigError) as raised:
        configured(override, *extra, "logger=none")
    assert f"{group}._target_: {lacks}" in str(raised.value) and str(raised.value).count("\n") == 1
    assert f", got {target}" in str(raised.value)


def test_every_group_has_a_kind() -> None:
    assert {*KINDS, "data", "optim", "scheduler"} == {*COMPONENTS, *NAMED_COMPONENTS}


def test_problems_of_all_components_are_one_error(configured: Configured) -> None:
    problems = {
        "seed=-1": "seed must be at least 0",
        "optim.lr=-1": "optim.lr must be",
        "tokens.budget=0": "tokens.budget must be at least 1",
        "trainer.micro_batch_size=3": "does not divide data.batch_size",
        "augmenter._target_=builtins.dict": "must be a subclass of Augmenter",
        "+callbacks.mine._target_=nowhere.Callback": "nowhere.Callback cannot be imported",
    }
    with pytest.raises(ConfigError) as raised:
        configured(*problems, "logger=none")
    assert [problem for problem in problems.values() if problem not in str(raised.value)] == []
