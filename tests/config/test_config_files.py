"""Every option of every group, and every experiment, composes and validates: no file can rot."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from entigraph.analysis.series import name_series
from entigraph.config.composition import home
from entigraph.errors import ConfigError
from entigraph.pipeline import dependencies
from entigraph.pipeline.components import build_components
from entigraph.pipeline.loading import load_run
from entigraph.pipeline.run import Run
from entigraph.pipeline.study import study_folder, study_member
from tests.conftest import Command

GROUPS = sorted(
    f"{file.parent.name}={file.stem}" for file in (home() / "conf").glob("*/*.yaml") if file.parent.name != "hydra"
)
EXPERIMENTS = sorted(
    str(file.relative_to(home() / "experiments"))[:-5] for file in (home() / "experiments").rglob("*.yaml")
)
NEEDED = {
    "baselines=pretrained": ["baselines.pretrained.path=somewhere"],
    "data=packed_with_replay": ["data.replay=somewhere"],
    "augmenter=active_reading_task": ["augmenter.purpose=recall"],
    "model=pretrained": ["model.path=somewhere"],
    "retriever=dense": ["retriever.model=somewhere"],
    "retriever=dense_rerank": ["retriever.model=somewhere", "retriever.reranker=somewhere"],
    "tokenizer=pretrained": ["tokenizer.path=somewhere"],
    "tokenizer=chat": ["tokenizer.path=somewhere"],
    "corpus=fictional_conversations": ["tokenizer=chat", "tokenizer.path=somewhere"],
}


def test_there_are_options_and_experiments() -> None:
    assert len(GROUPS) > 20 and len(EXPERIMENTS) > 7


@pytest.mark.parametrize("option", GROUPS)
def test_every_option_composes_and_validates(option: str, composed: Callable[..., DictConfig]) -> None:
    build_components(composed(option, *NEEDED.get(option, [])))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_plans(
    experiment: str, configured: Callable[..., Run], composed: Callable[..., DictConfig], quality_file: Path
) -> None:
    config = composed(f"experiments={experiment}")
    assert config.command is None and config.stage is None, "no experiment starts by its name alone"
    path = config.corpus.get("path", "nowhere")
    quality = [] if path else [f"corpus.path={quality_file}"]
    if experiment == "quality_instruct":
        quality = [f"needs=[{{experiment: quality_entigraph, overrides: ['corpus.path={quality_file}']}}]"]
    run = configured(f"experiments={experiment}", *quality)
    folders = [step.artifact.folder for step in dependencies.all_steps(run)]
    assert len(folders) >= 5 and len({*folders}) >= 5
    assert not run.root.exists(), "a plan writes nothing"


def test_the_papers_runs_meet_on_one_curve(composed: Callable[..., DictConfig], quality_file: Path) -> None:
    """Though the articles themselves are read four times, and each augmenter has a pool of its own size."""
    names = ("quality_entigraph", "quality_rephrase", "quality_raw", "scaling/quality", "scaling/quality_rephrase")
    names += ("ablations/weak_writer", "ablations/qa")
    runs = {name: load_run(composed(f"experiments={name}", f"corpus.path={quality_file}")) for name in names}
    assert len({study_folder(run) for run in runs.values()}) == 1
    assert study_member(runs["quality_raw"])["varies"]["trainer.max_epochs"] == 4
    assert study_member(runs["ablations/weak_writer"])["varies"]["llm"]["model"] == "meta-llama/Llama-3.1-8B-Instruct"
    options = [study_member(runs[name])["options"] for name in ("quality_entigraph", "scaling/quality")]
    assert options[0] == options[1], "one line"
    other = load_run(composed("experiments=quality_entigraph", f"corpus.path={quality_file}", "optim.lr=1e-5"))
    assert study_folder(other) not in {study_folder(run) for run in runs.values()}
    (last,) = {runs[name].artifacts.training.folder for name in ("quality_entigraph",)}
    headline = load_run(
        composed("experiments=scaling/quality", f"corpus.path={quality_file}", "tokens.budget=455000000")
    )
    assert headline.artifacts.training.folder == last, "the curve's last point is the headline run"


def test_referee_of_quality_plans_every_method_at_every_budget(command_here: Command, quality_file: Path) -> None:
    result = command_here("plan", "experiments=referee/quality", f"corpus.path={quality_file}", "sweep.seeds=[0]")
    assert result.returncode == 0 and "referee-quality: 70 jobs" in result.stdout, result.stderr
    methods = ("entigraph", "rephrase", "qa", "spa", "active_reading", "focal_mixed", "summaries")
    for method in methods:
        trainings = re.findall(rf"to do +training +\S+/training/\S+-{method}-(\d+)-seed0-\S+\n", result.stdout)
        assert len(set(trainings)) == 10 and "455000000" in trainings, method
    assert "training: 70 models to train" in result.stdout and "replay included" in result.stdout


@pytest.mark.parametrize("experiment", ["quality", "squad", "fictional"])
def test_referees_replay_general_text(experiment: str, composed: Callable[..., DictConfig], quality_file: Path) -> None:
    path = [] if experiment == "fictional" else [f"corpus.path={quality_file}"]
    run = load_run(composed(f"experiments=referee/{experiment}", *path))
    assert run.data.replay_rate == 0.1 and run.replay_folder and run.analysis.name == "referee"
    assert len({*run.config.sweep.seeds}) >= 2, "one seed decides nothing"


def test_text_layout_and_options_distinguish_runs(configured: Callable[..., Run]) -> None:
    """The layout by another study, options of the augmenter by another series of the same one."""
    plain, stitched = configured(), configured("tokens.text_layout=stitched")
    assert study_folder(plain) != study_folder(stitched)
    varying = [configured("study.allow_varying=[tokens.text_layout]", f"tokens.text_layout={layout}")
               for layout in ("separate", "stitched")]  # fmt: skip
    assert study_folder(varying[0]) == study_folder(varying[1])
    warm = configured("augmenter.temperature=0.7")
    assert study_folder(plain) == study_folder(warm)
    assert [run["augmenter"] for run in name_series([study_member(run) for run in (plain, warm)])] == [
        "entigraph temperature=1.0",
        "entigraph temperature=0.7",
    ]


def test_unknown_setting_in_allow_varying_has_a_suggestion(configured: Callable[..., Run]) -> None:
    with pytest.raises(ConfigError, match=r"study\.allow_varying: unknown key 'trainer.epochs'; .*trainer.max_epochs"):
        configured("study.allow_varying=[trainer.epochs]")


def test_passage_grid_matches_the_paper_and_trains_once(
    composed: Callable[..., DictConfig], quality_file: Path
) -> None:
    """120 points (App. F): each a retrieval, an order and a temperature of its own, of one study and one model."""
    config = composed("experiments=ablations/rag_grid", f"corpus.path={quality_file}")
    grid = {name: config.sweep[name] for name in ("characters", "k", "order", "temperature")}
    assert math.prod(map(len, grid.values())) == 120
    keys = ("retriever.characters", *(f"evaluation.open_book_cot.{name}" for name in ("k", "order", "temperature")))
    ends = [[f"{key}={values[end]}" for key, values in zip(keys, grid.values(), strict=True)] for end in (0, -1)]
    first, last = (
        load_run(composed("experiments=ablations/rag_grid", f"corpus.path={quality_file}", *overrides))
        for overrides in ends
    )
    assert (
        first.artifacts.training.folder == last.artifacts.training.folder
        and first.artifacts.evaluation.folder != last.artifacts.evaluation.folder
    )
    assert first.artifacts.rankings["open_book_cot"].folder != last.artifacts.rankings["open_book_cot"].folder
    assert study_folder(first) == study_folder(last)
    headline = load_run(composed("experiments=quality_entigraph", f"corpus.path={quality_file}"))
    assert headline.artifacts.training.folder == first.artifacts.training.folder, (
        "the model is that of the headline run"
    )
