"""`needs`: artifacts of other experiments, with overrides that are checked and never dropped."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from entigraph.errors import ConfigError
from entigraph.pipeline.dependencies import all_steps, load_need, missing_inputs, needed_steps
from entigraph.pipeline.loading import load_run
from entigraph.pipeline.run import Run

BASE = "needs=[{experiment: base/smoke, overrides: ['%s']}]"


def smoke(composed: Callable[..., DictConfig], *overrides: str) -> Run:
    return load_run(composed("experiments=smoke", *overrides))


def test_only_the_steps_whose_output_is_read_are_needed_and_come_first(composed: Callable[..., DictConfig]) -> None:
    run = smoke(composed)
    ((other, used),) = needed_steps(run)
    assert str(run.model.path).startswith(str(other.artifacts.training.folder))
    stages = [step.artifact.stage for step in used]
    assert stages.index("training") == len(stages) - 1 and "evaluation" not in stages
    assert [step.artifact for step in all_steps(run)][: len(used)] == [step.artifact for step in used]
    assert missing_inputs(run) == []


def test_overrides_of_a_need_change_its_folder(composed: Callable[..., DictConfig]) -> None:
    plain, other = smoke(composed), smoke(composed, BASE % "seed=7")
    assert plain.model.path != other.model.path
    assert plain.artifacts.training.folder != other.artifacts.training.folder


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("trainer.max_stepz=2", "needs base/smoke: trainer.max_stepz: unknown to .*; did you mean max_steps"),
        ("augmenter=entigraf", "needs base/smoke: augmenter=entigraf: no such option; did you mean entigraph"),
        ("seed=-1", "^needs base/smoke: seed must be at least 0, got -1$"),
    ],
)
def test_a_wrong_override_of_a_need_is_an_error(
    override: str, problem: str, composed: Callable[..., DictConfig]
) -> None:
    with pytest.raises(ConfigError, match=problem):
        smoke(composed, BASE % override)


def test_an_experiment_that_does_not_exist_is_an_error(composed: Callable[..., DictConfig]) -> None:
    with pytest.raises(ConfigError, match="experiments=base/smok: no such option; did you mean base/smoke"):
        needed_steps(load_run(composed("needs=[{experiment: base/smok}]")))


def test_runtime_settings_of_the_trainer_hold_for_needs_unless_they_are_overridden(
    composed: Callable[..., DictConfig],
) -> None:
    config = composed("experiments=smoke", "trainer.devices=2")
    assert load_need(config.needs[0], config).trainer.devices == 2
    config = composed("experiments=smoke", "trainer.devices=2", BASE % "trainer.devices=1")
    assert load_need(config.needs[0], config).trainer.devices == 1


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("${output:base/fictional,training}", "list base/fictional under needs"),
        ("${output:base/smoke,trainning}", "unknown output 'trainning'; did you mean training"),
    ],
)
def test_an_output_that_no_need_writes_is_reported_in_one_line(
    path: str, problem: str, composed: Callable[..., DictConfig]
) -> None:
    with pytest.raises(ConfigError, match=problem):
        smoke(composed, f"model.path='{path}'")


def test_an_artifact_that_no_step_makes_is_missing(composed: Callable[..., DictConfig]) -> None:
    run = smoke(composed)
    folder = run.root / "training" / "gone-00000000"
    run = smoke(composed, f"model.path={folder}/model")
    assert any(f"its input model, {folder}, does not exist" in line for line in missing_inputs(run))


def test_a_corpus_of_a_task_is_relative_to_the_working_directory_and_named_if_it_is_missing(
    composed: Callable[..., DictConfig],
) -> None:
    run = load_run(composed("evaluation=perplexity", "evaluation.perplexity.corpus=gone"))
    assert f"evaluation.perplexity.corpus, {Path.cwd() / 'gone'}, does not exist" in "\n".join(missing_inputs(run))
