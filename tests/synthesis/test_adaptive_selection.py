"""Adaptive selection: rounds of texts and students, each with artifacts of its own, linked by inputs."""

import json
from collections import defaultdict
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from omegaconf import DictConfig

from entigraph.analysis.referee.method_costs import CostTable, run_cost
from entigraph.analysis.study_runs import StudyRun
from entigraph.errors import ConfigError
from entigraph.pipeline.dependencies import all_steps, needed_steps
from entigraph.pipeline.loading import load_run
from entigraph.pipeline.run import Run
from entigraph.pipeline.study import study_member
from entigraph.storage.artifact import read_manifest
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, ScoredStatement, SyntheticText
from entigraph.storage.texts import read_texts
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.augmenters.relation_order import Relation
from entigraph.synthesis.augmenters.student_feedback import StudentFeedback, estimate_pair_losses, worst_known_next
from tests.conftest import TINY, Command

ADAPTIVE = ["augmenter.selection=adaptive", "augmenter.rounds=3", "tokens.budget=2500"]
ENTITIES = ["Ada", "Bo", "Cy", "Di"]
DOCUMENT = Document(id="d", title="", text="Ada met Bo. Bo met Cy. Nobody met anybody.")
LOSSES = {"Ada met Bo.": 1.0, "Bo met Cy.": 3.0, "Nobody met anybody.": 5.0}


def order(size: int, written: list[Relation] = [], target: float | None = None) -> list[Relation]:  # noqa: B006
    feedback = StudentFeedback({"d": LOSSES}, {("d", size): written})
    return list(worst_known_next(DOCUMENT, ENTITIES, size, 0, feedback, target))


def test_loss_of_a_pair_is_that_of_its_statements_or_of_its_entities() -> None:
    losses = {
        (ENTITIES[a], ENTITIES[b]): loss for (a, b), loss in estimate_pair_losses(DOCUMENT, ENTITIES, LOSSES).items()
    }
    assert losses == {
        ("Ada", "Bo"): 1.0,
        ("Bo", "Cy"): 3.0,
        ("Ada", "Cy"): 2.0,  # the mean of 1 and 3
        ("Ada", "Di"): 2.0,  # the document's mean is 3
        ("Bo", "Di"): 2.5,
        ("Cy", "Di"): 3.0,
    }
    assert set(estimate_pair_losses(DOCUMENT, ENTITIES, {}).values()) == {0.0}


def test_what_is_written_comes_first_then_the_worst_known() -> None:
    pairs = order(2, written=[("Ada", "Bo")])
    assert pairs[0] == ("Ada", "Bo") and set(pairs[1:3]) == {("Bo", "Cy"), ("Cy", "Di")} and pairs[3] == ("Bo", "Di")
    assert sorted(pairs) == sorted(combinations(ENTITIES, 2))
    assert order(3)[0] == ("Bo", "Cy", "Di") and len(order(3)) == 4
    assert set(order(2, target=2.5)) == {("Bo", "Cy"), ("Cy", "Di")}, "the rest is known well enough"
    assert order(2, written=[("Ada", "Bo")], target=9.0) == [("Ada", "Bo")]


def test_rounds_are_runs_of_their_own(composed: Callable[..., DictConfig]) -> None:
    run = load_run(composed(*TINY, *ADAPTIVE))
    rounds = [other for other, _ in needed_steps(run)]
    assert [other.augmenter.name for other in rounds] == ["entigraph", "entigraph-adaptive"]
    first = load_run(composed(*TINY, "synthesis.token_budget=1000"))
    assert rounds[0].artifacts.synthesis.folder == first.artifacts.synthesis.folder, "the first round is uniform"
    assert rounds[0].artifacts.training.folder == first.artifacts.training.folder
    assert [other.synthesis.token_budget for other in rounds] == [1000, 2000]
    stages = [[step.artifact.stage for step in steps] for _, steps in needed_steps(run)]
    assert all(made[-1] == "evaluation" and "training" in made for made in stages)
    assert run.artifacts.synthesis.inputs["synthesis"] == rounds[1].artifacts.synthesis.folder
    assert run.artifacts.synthesis.inputs["evaluation"] == rounds[1].artifacts.evaluation.folder
    folders = [step.artifact.folder for step in all_steps(run)]
    assert len(folders) == len(set(folders))
    again = load_run(composed(*TINY, *ADAPTIVE))
    assert again.artifacts.evaluation.folder == run.artifacts.evaluation.folder
    other = load_run(composed(*TINY, *ADAPTIVE, "optim.lr=0.1"))
    assert other.artifacts.synthesis.folder != run.artifacts.synthesis.folder, "another student"
    assert load_run(composed(*TINY, "tokens.budget=2500")).previous_round is None


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["synthesis.token_budget=null"], "synthesis.token_budget must be set with augmenter.selection=adaptive"),
        (
            ["augmenter.selection=uniform", "augmenter.target_loss=1"],
            "augmenter.target_loss needs augmenter.selection=adaptive, .* got uniform",
        ),
        (["augmenter.rounds=1"], "augmenter.rounds must be at least 2, got 1"),
    ],
)
def test_options_that_do_not_fit_are_an_error(
    overrides: list[str], problem: str, composed: Callable[..., DictConfig]
) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_run(composed(*TINY, *ADAPTIVE, *overrides))


def test_whole_loop_writes_about_what_the_student_knows_worst(
    command: Command, composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    result = command("run", *TINY, *ADAPTIVE)
    assert result.returncode == 0, result.stderr[-3000:]
    run = load_run(composed(*TINY, *ADAPTIVE))
    texts = [list(read_texts(other.artifacts.synthesis.folder)) for other in (*earlier_rounds(run), run)]
    for one, following in zip(texts, texts[1:], strict=False):
        assert [(text.id, text.text) for text in following[: len(one)]] == [(text.id, text.text) for text in one]
        assert len(following) > len(one)
    check_worst_first(run, texts[1], texts[2])
    entry = StudyRun(run.root, study_member(run))
    cost = run_cost(entry, CostTable("", 0.0, 0.0, 0.0, 1.0))
    trained = [read_manifest(other.artifacts.training.folder)["counts"] for other in (*earlier_rounds(run), run)]
    evaluations = [read_manifest(other.artifacts.evaluation.folder)["counts"] for other in earlier_rounds(run)]
    losses = [counts["statement_loss"] for counts in evaluations]
    read = [2 * counts["parameters"] * loss["tokens"] for counts, loss in zip(trained, losses, strict=False)]
    flops = sum(6 * counts["parameters"] * counts["tokens"] for counts in trained)
    assert len(read) == len(trained) - 1 and cost.measuring_flops == sum(read) > 0
    assert cost.training_flops == pytest.approx(flops + sum(read))
    assert cost.trained_tokens == trained[-1]["tokens"]
    scores = json.loads((run.previous_round.artifacts.evaluation.folder / "scores.json").read_text())  # type: ignore
    assert scores["statement_loss"]["statements"] > 5
    assert all(step.artifact.complete for step in all_steps(run))


def earlier_rounds(run: Run) -> list[Run]:
    return [*earlier_rounds(run.previous_round), run.previous_round] if run.previous_round else []


def check_worst_first(run: Run, written: list[SyntheticText], texts: list[SyntheticText]) -> None:
    """Asserts that the new texts are about the pairs with the highest losses that had no text."""
    assert run.previous_round
    (document,) = read_jsonl(run.artifacts.corpus.folder / "documents.jsonl", Document)
    losses: dict[str, dict[str, float]] = defaultdict(dict)
    for statement in read_jsonl(
        run.previous_round.artifacts.evaluation.folder / "statements-statement_loss.jsonl", ScoredStatement
    ):
        losses[statement.document_id][statement.text] = (statement.nats or 0.0) / len(statement.text.encode())
    (graph,) = map(json.loads, (run.artifacts.synthesis.folder / "graphs.jsonl").read_text().splitlines())
    names = graph["entities"]
    pairs = {
        (names[a], names[b]): loss
        for (a, b), loss in estimate_pair_losses(document, names, losses[document.id]).items()
    }
    had = {tuple(text.about) for text in written}
    new = [tuple(text.about) for text in texts[len(written) :]]
    left = sorted((loss for pair, loss in pairs.items() if pair not in had), reverse=True)
    assert [pairs[pair] for pair in new] == pytest.approx(left[: len(new)]) and len(new) > 2


def test_first_round_and_plan_are_uniform() -> None:
    adaptive = EntiGraph(selection="adaptive", rounds=2, student="/not/made/yet", earlier_texts="/not/made/yet")  # type: ignore
    assert list(adaptive.order(DOCUMENT, ENTITIES, 2, 0)) == list(EntiGraph().order(DOCUMENT, ENTITIES, 2, 0))
    assert adaptive.read_feedback() is None and adaptive.name == "entigraph-adaptive"
