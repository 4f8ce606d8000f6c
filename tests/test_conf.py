"""Every option of every group, and every experiment, composes and validates: no file can rot."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from entigraph import cli, stages
from entigraph.config import validate
from entigraph.run import Run

GROUPS = sorted(
    f"{file.parent.name}={file.stem}" for file in (cli.home() / "conf").glob("*/*.yaml") if file.parent.name != "hydra"
)
EXPERIMENTS = sorted(
    str(file.relative_to(cli.home() / "experiments"))[:-5] for file in (cli.home() / "experiments").rglob("*.yaml")
)
NEEDED = {
    "baselines=pretrained": ["baselines.pretrained.path=somewhere"],
    "data=packed_with_replay": ["data.replay=somewhere"],
    "model=pretrained": ["model.path=somewhere"],
    "tokenizer=pretrained": ["tokenizer.path=somewhere"],
    "tokenizer=chat": ["tokenizer.path=somewhere"],
}


def test_there_are_options_and_experiments() -> None:
    assert len(GROUPS) > 20 and len(EXPERIMENTS) > 7


@pytest.mark.parametrize("option", GROUPS)
def test_every_option_composes_and_validates(option: str, composed: Callable[..., DictConfig]) -> None:
    validate(composed(option, *NEEDED.get(option, [])))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_plans(experiment: str, configured: Callable[..., Run], quality_file: Path) -> None:
    quality = [f"corpus.path={quality_file}"] if experiment.startswith("quality") else []
    if experiment == "quality_instruct":
        quality = [f"needs=['quality_entigraph corpus.path={quality_file}']"]
    run = configured(f"experiments={experiment}", *quality)
    folders = [step.artefact.folder for step in stages.all_steps(run)]
    assert len(folders) >= 5 and len({*folders}) >= 5
    assert not run.root.exists(), "a plan writes nothing"


def test_only_laptop_scale_experiments_start_by_their_name_alone(composed: Callable[..., DictConfig]) -> None:
    starting = {name for name in EXPERIMENTS if composed(f"experiments={name}").stage == "pipeline"}
    assert starting == {"smoke", "base/smoke", "base/fictional", "scaling/fictional"}
