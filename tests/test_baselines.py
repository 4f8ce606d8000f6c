"""Baselines: other models that answer a study's questions, and their lines in its figure."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entigraph.pipeline import cost_estimate, execution
from entigraph.pipeline.run import Run
from entigraph.pipeline.steps import run_steps
from entigraph.runtime.progress import SilentProgress
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer
from entigraph.tracking.base import Tracker
from tests.conftest import TINY, Command
from tests.evaluation.scripted_server import scripted


def test_trained_model_as_baseline_gives_the_same_answers_and_a_line_in_the_figure(
    command_here: Command, tmp_path: Path
) -> None:
    """The questions are generated. Evaluated as a baseline, the model answers as it did in its own run."""
    options = [*TINY, "questions=generated", "questions.per_document=12"]
    result = command_here("run", *options)
    assert result.returncode == 0, result.stderr
    assert "12 questions by offline" in result.stdout and "simulated: the offline writer" in result.stdout
    (model,) = (tmp_path / "outputs" / "training").glob("*/model")
    baseline = ["baselines=[pretrained]", f"baselines.pretrained.path={model}"]
    evaluated = command_here(*options, *baseline, "stage=baselines")
    name = model.parent.name
    assert evaluated.returncode == 0 and f"{name}, closed_book: accuracy" in evaluated.stdout, evaluated.stderr
    outputs = tmp_path / "outputs"
    (of_run,), (of_baseline,) = outputs.glob("evaluation/*-seed0-*"), outputs.glob("evaluation/*-pretrained-*")
    answers = [list(read_jsonl(folder / "answers-closed_book.jsonl", Answer)) for folder in (of_run, of_baseline)]
    assert len(answers[0]) == 8 and answers[0] == answers[1]
    analysis = command_here("analyze", *options)
    assert analysis.returncode == 0 and f"\n{name} " in analysis.stdout, analysis.stderr
    (study,) = (outputs / "studies").iterdir()
    (line,) = json.loads((study / "curve.json").read_text())["baselines"]
    assert line["name"] == name and line["questions"] == 8
    assert f">{name}<" in (study / "curve.svg").read_text()


def test_endpoint_is_evaluated_without_training(command_here: Command, quality_file: Path, tmp_path: Path) -> None:
    def answers(body: dict[str, Any]) -> list[str]:
        assert "Vale" not in body["messages"][1]["content"].split("### Choices")[-1].split("Miriam slept")[0]
        return [" It was so.\nAnswer: A.\n"] * body.get("n", 1)

    with scripted(answers) as server:
        endpoint = [f"baselines.openai.base_url={server.base_url}", "baselines.openai.model=scripted"]
        quality = ["corpus=quality", f"corpus.path={quality_file}", "evaluation=closed_book_cot", "logger=none"]
        assert command_here(*quality, "stage=corpus").returncode == 0
        result = command_here(*quality, "baselines=[openai]", *endpoint, "stage=baselines")
        assert result.returncode == 0, result.stderr
        assert "accuracy 0.250 over 4 questions, 100.0% of 4 answered" in result.stdout
        assert len(server.requests) == 2, "three of the four questions are identical and share a request"
    (folder,) = (tmp_path / "outputs" / "evaluation").iterdir()
    scores = json.loads((folder / "scores.json").read_text())["closed_book_cot"]
    assert {*scores["groups"]} == {"easy", "hard"} and scores["samples"] == 4 * 64
    assert not (tmp_path / "outputs" / "training").exists()


def test_invalid_baselines_are_errors_before_any_evaluation(command_here: Command, tmp_path: Path) -> None:
    for options, message in (
        (["baselines=[gpt_4_turbo]"], "an endpoint returns no likelihoods, which evaluation.closed_book needs"),
        (["baselines=[pretrained]"], "a pretrained model without a path"),
        (["baselines=[pretrained]", "baselines.pretrained.path=/nowhere"], "/nowhere does not exist"),
        (["stage=baselines"], "for example baselines=[pretrained]"),
        (["baselines=[gpt_4_turbo]", "evaluation=closed_book_cot", "stage=baselines"], "does not exist"),
    ):
        result = command_here(*options)
        assert result.returncode == 1 and message in result.stderr, (options, result.stderr)
    assert not (tmp_path / "outputs" / "evaluation").exists()


def test_plan_estimates_the_cost_of_questions_and_baselines(configured: Callable[..., Run], quality_file: Path) -> None:
    quality = ["corpus=quality", f"corpus.path={quality_file}", "evaluation=closed_book_cot", "llm=openai"]
    run = configured(*quality, "baselines=[gpt_4_turbo]", "questions=generated")
    (line,) = cost_estimate.question_cost_lines(run)
    assert line.startswith("questions with gpt-4o-mini: 2 requests for 40 questions and one check of each")
    across = configured(*quality, "questions=generated", "questions.documents_per_question=2")
    (line,) = cost_estimate.question_cost_lines(across)
    assert line.startswith("questions with gpt-4o-mini: up to 10 requests for 40 questions and three checks of each")
    assert "unknown until the questions exist" in cost_estimate.baseline_cost_lines(run)[0]
    run = configured(*quality, "baselines=[gpt_4_turbo]", "evaluation.closed_book_cot.samples=10")
    execution.execute_step(next(run_steps(run)), SilentProgress(), Tracker)
    (line,) = cost_estimate.baseline_cost_lines(run)
    prompts = 10.0 * int(line.split(" questions, ")[1].split(" prompt")[0].replace(",", "")) / 1e6
    low, high = prompts + 40 * 60 * 30 / 1e6, prompts + 40 * 300 * 30 / 1e6
    assert line.startswith("baselines.gpt_4_turbo, closed_book_cot: 40 samples of 4 questions")
    assert f"${low:.2f}-{high:.2f}" in line
