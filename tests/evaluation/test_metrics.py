"""Metrics and tasks that users define outside the package."""

import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from entigraph.errors import ConfigError, DataError
from entigraph.evaluation import stage
from entigraph.evaluation.base import Prompt, Sampling
from entigraph.evaluation.metrics import PredictionMetric, compute_metrics
from entigraph.evaluation.models_under_test import EndpointModel
from entigraph.evaluation.tasks.base import EvaluationTask, TaskContext
from entigraph.evaluation.tasks.closed_book_cot import ClosedBookCoT
from entigraph.pipeline.run import Run
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer, Document
from tests.conftest import TINY, Command
from tests.evaluation.sample_questions import make_question, write_inputs
from tests.evaluation.scripted_server import scripted


def mean_text_length(answers: Sequence[Answer], unit: int = 1) -> float:
    return sum(len(text) for answer in answers for text in answer.texts) / len(answers) / unit


def fraction_correct(y_true: list[int], y_pred: list[int], *, normalize: bool) -> float:
    correct = sum(first == second for first, second in zip(y_true, y_pred, strict=True))
    return correct / len(y_true) if normalize else correct


class Module:
    """What Hugging Face `evaluate.load` returns."""

    def compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"exact_match": fraction_correct(references, predictions, normalize=True)}


@dataclass(frozen=True, kw_only=True)
class TitleRecall(EvaluationTask):
    max_tokens: int = 20

    def evaluate(self, context: TaskContext) -> dict[str, Any]:
        documents = list(read_jsonl(context.inputs.documents, Document))
        prompts = [Prompt(document.id, f"{document.text}\nTitle:") for document in documents]
        generations = context.backend().sample(prompts, Sampling(max_tokens=self.max_tokens))
        recalled = sum(documents[index].title in texts[0].text for index, texts in generations if texts)
        return {"metrics": {"title_recall": recalled / len(documents)}}


METRICS = {
    "text_length": partial(mean_text_length, unit=2),
    "f1": PredictionMetric(
        function=partial(fraction_correct, normalize=True), predictions="y_pred", references="y_true"
    ),
    "hub": PredictionMetric(function=Module()),
}


def test_metrics_and_user_task_appear_in_scores_and_counts(tmp_path: Path) -> None:
    source = write_inputs(tmp_path, [make_question(number) for number in range(4)])
    tasks = {"cot": ClosedBookCoT(samples=2, metrics=METRICS), "titles": TitleRecall()}
    with scripted(lambda body: [" d1.\nAnswer: B.\n"] * body.get("n", 1)) as server:
        model = EndpointModel(server.model(), tmp_path / "cache")
        out = tmp_path / "out"
        counts = stage.run(model, out, tasks=tasks, inputs=dict.fromkeys(tasks, source))
    scores = json.loads((out / "scores.json").read_text())
    length = len(" d1.\nAnswer: B.\n")
    assert scores["cot"]["metrics"] == {"text_length": length, "f1": 0.25, "hub/exact_match": 0.25}
    assert scores["titles"] == {"metrics": {"title_recall": 1 / 3}, "data_losses": {}}
    assert counts["cot"]["metrics"] == scores["cot"]["metrics"] and counts["cot"]["accuracy"] == 0.25
    assert counts["titles"] == scores["titles"]
    assert tasks["cot"].summary_line(counts["cot"]).endswith("text_length 16.0000, f1 0.2500, hub/exact_match 0.2500")
    assert tasks["titles"].summary_line(counts["titles"]) == "title_recall 0.3333"


def test_metric_that_returns_no_number_raises_data_error() -> None:
    with pytest.raises(DataError, match="metrics.words must return a number, got 'many'"):
        compute_metrics({"words": lambda records: "many"}, [])


def test_metric_that_is_not_callable_raises_config_error() -> None:
    with pytest.raises(ConfigError, match="metrics.wrong must be callable, got .*; a function needs _partial_"):
        ClosedBookCoT(metrics={"wrong": {}})


MODULE = """
from collections.abc import Callable, Sequence
from entigraph.storage.schemas import Answer
from tests.evaluation.test_metrics import TitleRecall

def refusal_rate(answers: Sequence[Answer]) -> float:
    return 0.5
"""


def test_editing_a_metric_changes_the_evaluation_folder(
    configured: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "edited_metric.py"
    file.write_text("def rate(answers):\n    return 0.5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    override = "+evaluation.closed_book.metrics.rate={_target_: edited_metric.rate, _partial_: true}"

    def folder(*overrides: str) -> Path:
        return configured(*overrides).artifacts.evaluation.folder

    first = folder(override)
    assert folder() != first == folder(override)
    file.write_text("def rate(answers):\n    return 0.25\n")
    assert folder(override) == first  # this process still runs the code that it imported
    importlib.reload(sys.modules["edited_metric"])
    assert folder(override) != first


def test_user_metric_and_task_from_the_command_line(command: Command, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "my_evaluation.py").write_text(MODULE)
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", ""), str(Path(__file__).parents[2])])
    result = command(
        *TINY,
        "run",
        "+evaluation.closed_book.metrics.refusals={_target_: my_evaluation.refusal_rate, _partial_: true}",
        "+evaluation.titles._target_=my_evaluation.TitleRecall",
        PYTHONPATH=path,
    )
    assert result.returncode == 0, result.stderr
    assert "refusals 0.5000" in result.stdout and "titles: title_recall 0.0000" in result.stdout
    (manifest,) = (tmp_path / "outputs" / "evaluation").glob("*/manifest.json")
    counts = json.loads(manifest.read_text())["counts"]
    assert counts["closed_book"]["metrics"] == {"refusals": 0.5} and counts["titles"]["metrics"] == {
        "title_recall": 0.0
    }
