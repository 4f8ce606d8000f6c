"""Compares with EleutherAI's harness, if installed (the extra lm-eval), on the same model and items."""

import json
from pathlib import Path
from typing import Any

import pytest

from entigraph.errors import ConfigError, DataError
from entigraph.evaluation import stage
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import TaskInputs
from entigraph.evaluation.models_under_test import LocalModel
from entigraph.evaluation.tasks.closed_book import ClosedBook
from entigraph.evaluation.tasks.lm_eval_harness import LMEvalHarness, adapter
from entigraph.evaluation.tasks.perplexity import Perplexity, total_loss
from entigraph.storage.schemas import Document
from tests.evaluation.sample_questions import evaluate_tasks, in_order, make_question, write_inputs

TASK = """\
task: ours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {items}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{text}}}} Answer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""


def make_items() -> list[Any]:
    words = ("document", "question", "answer", "here", "in", "is", "the")
    return [
        make_question(
            number,
            text=f"Where is the {words[number % 7]} of number {number}?",
            choices=[f"{words[(number * index) % 7]} {words[(number + index) % 7] * index}" for index in range(1, 5)],
        )
        for number in range(40)
    ]


@pytest.fixture
def task_files(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [{"text": item.text, "choices": item.choices, "answer": item.answer} for item in make_items()]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "ours.yaml").write_text(TASK.format(items=folder / "items.jsonl"))
    return folder


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_accuracy_matches_the_harness(
    harness: None, tiny_model: Path, task_files: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, out = write_inputs(tmp_path, make_items()), tmp_path / "out"
    tasks = {"closed_book": ClosedBook(), "lm_eval": LMEvalHarness(tasks=["ours"], include_path=str(task_files))}
    candidate = LocalModel(str(tiny_model), "cpu", 1, tiny_model, 0)
    scores = evaluate_tasks(candidate, out, source, **tasks)
    theirs = scores["lm_eval"]["metrics"]
    assert theirs["ours/acc"] == scores["closed_book"]["accuracy"] and 0 < theirs["ours/acc"] < 1
    assert theirs["ours/acc_norm"] == scores["closed_book"]["accuracy_norm"]
    assert "it/s" not in capfd.readouterr().err, "no progress bars of libraries"


def test_loglikelihoods_match_the_harness(harness: None, backend: TransformersBackend) -> None:
    from lm_eval.api.instance import Instance

    pairs = [(f"Question: {item.text} Answer:", f" {choice}") for item in make_items()[:10] for choice in item.choices]
    requests = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
    theirs = [score for score, _ in adapter(backend, 4).loglikelihood(requests, disable_tqdm=True)]
    assert in_order(backend.loglikelihoods(pairs, 512)) == pytest.approx(theirs, abs=1e-3)


def test_document_loss_matches_the_harness(harness: None, backend: TransformersBackend) -> None:
    from lm_eval.api.instance import Instance

    long_text = "The answer to the question is in the document. " * 20
    # Two complete windows: the harness scores the remainder with more context than one stride.
    text = next(long_text[:end] for end in range(len(long_text)) if len(backend.encode(long_text[:end])) == 2 * 64 + 1)
    kept, backend.max_length = backend.max_length, 64
    try:
        windows = Perplexity(context=64, stride=64).compute_losses([Document(id="d", title="", text=text)], backend)
        ours = total_loss(list(windows))
        harness_model = adapter(backend, 1)
        harness_model.add_bos_token = (
            False  # rolling log-likelihoods prepend BOS themselves, and would score a second one
        )
        theirs = harness_model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0)])
    finally:
        backend.max_length = kept
    assert ours["tokens"] == 128 and ours["nats_per_token"] * ours["tokens"] == pytest.approx(-theirs[0], rel=1e-4)


def test_unknown_harness_task_raises_data_error(
    harness: None, tiny_model: Path, task_files: Path, tmp_path: Path
) -> None:
    tasks = {"lm_eval": LMEvalHarness(tasks=["nobodys"], include_path=str(task_files))}
    source = TaskInputs(tmp_path / "questions.jsonl", tmp_path / "documents.jsonl")
    with pytest.raises(DataError, match="no task nobodys"):
        stage.run(
            LocalModel(str(tiny_model), "cpu", 1), tmp_path / "out",
            tasks=tasks, inputs={"lm_eval": source},
        )  # fmt: skip


def test_settings_and_cache_key(task_files: Path) -> None:
    for wrong in ({"tasks": []}, {"include_path": "nowhere"}, {"limit": 0}, {"batch_size": 0}, {"fewshot": -1}):
        with pytest.raises(ConfigError):
            LMEvalHarness(**{"tasks": ["ours"], **wrong})
    before = LMEvalHarness(tasks=["ours"], include_path=str(task_files)).cache_key
    (task_files / "items.jsonl").write_text("{}")
    assert LMEvalHarness(tasks=["ours"], include_path=str(task_files)).cache_key != before
