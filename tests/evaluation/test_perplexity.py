"""Losses, compared with token-by-token forward passes, and in a complete run."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from entigraph.errors import ConfigError, DataError
from entigraph.evaluation import stage
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import TaskInputs
from entigraph.evaluation.models_under_test import LocalModel
from entigraph.evaluation.tasks.perplexity import Perplexity, total_loss
from entigraph.pipeline.run import Run
from entigraph.storage.artifact import CHECKPOINTS
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Document, DocumentLoss
from tests.conftest import TINY, Command


def make_document(number: int, words: int) -> Document:
    text = " ".join(f"word {position * number} of the document, naïve" for position in range(words))
    return Document(id=f"d{number}", title="", text=text)


DOCUMENTS = [make_document(1, 3), make_document(2, 12), make_document(3, 1), Document(id="empty", title="", text="")]


@torch.no_grad()
def loss_of(backend: TransformersBackend, ids: list[int], position: int, start: int) -> float:
    """Returns the loss on one token, given the tokens from `start` on."""
    logits = backend.model(torch.tensor([ids[start:position]])).logits[0, -1]
    return -float(logits.log_softmax(-1)[ids[position]])


@pytest.mark.parametrize("context, stride", [(None, None), (16, 8), (16, 16), (16, 1), (2, 1), (7, 3)])
def test_every_token_is_scored_once(backend: TransformersBackend, context: int | None, stride: int | None) -> None:
    task = Perplexity(context=context, stride=stride, batch_tokens=64)
    results = list(task.compute_losses(DOCUMENTS, backend))
    for document, loss in zip(DOCUMENTS, results, strict=True):
        ids = backend.encode(document.text)
        width, step = context or len(ids), stride or max(1, (context or len(ids)) // 2)
        expected = 0.0
        for position in range(1, len(ids)):
            window = 0 if position <= width else math.ceil((position - width) / step) * step
            assert position - window <= width and (window == 0 or position - window >= width - step + 1)
            expected += loss_of(backend, ids, position, window)
        assert loss.nats == pytest.approx(expected, abs=1e-3) and loss.tokens == len(ids) - 1
        assert (loss.bytes, loss.unscored) == (len(document.text.encode()), 0)


def test_context_is_capped_at_the_models_maximum(backend: TransformersBackend) -> None:
    kept, backend.max_length = backend.max_length, 10
    try:
        windows = Perplexity(context=500, stride=400).build_windows(list(range(60)), backend.max_length)
    finally:
        backend.max_length = kept
    assert max(len(window.ids) for window in windows) == 11, "ten ids are inputs, and the eleventh is only a target"
    assert [position for window in windows for position in window.ids[window.first :]] == list(range(1, 60))


def test_default_context_matches_training(configured: Callable[..., Run]) -> None:
    assert configured("evaluation=perplexity", "data.context_length=64").tasks["perplexity"].context == 64
    windows = Perplexity().build_windows(list(range(5_000)), max_length=32_768)
    assert max(len(window.ids) for window in windows) == 2_049, "limited although the model has no maximum"


def test_first_token_without_bos_is_unscored(backend: TransformersBackend) -> None:
    kept, backend.bos = backend.bos, []
    try:
        (loss,) = Perplexity().compute_losses(DOCUMENTS[:1], backend)
    finally:
        backend.bos = kept
    assert loss.unscored == 1 and loss.tokens == len(backend.encode(DOCUMENTS[0].text)) - 2


def test_total_loss() -> None:
    losses = [
        DocumentLoss(document_id="a", nats=10.0, tokens=4, unscored=0, bytes=10),
        DocumentLoss(document_id="b", nats=2.0, tokens=2, unscored=1, bytes=6),
    ]
    results = total_loss(losses)
    assert results["nats_per_token"] == 2.0 and results["perplexity"] == pytest.approx(math.exp(2))
    assert results["bits_per_byte"] == pytest.approx(12 / 16 / math.log(2)) and results["unscored"] == 1
    assert total_loss(losses[:1])["bits_per_byte_stderr"] is None


def write_inputs(folder: Path) -> TaskInputs:
    write_jsonl(folder / "documents.jsonl", DOCUMENTS)
    return TaskInputs(folder / "questions.jsonl", folder / "documents.jsonl")


def test_killed_evaluation_keeps_its_losses(tiny_model: Path, tmp_path: Path) -> None:
    source, out = write_inputs(tmp_path), tmp_path / "out"
    (out / CHECKPOINTS).mkdir(parents=True)
    marked = DocumentLoss(document_id="d2", nats=1.0, tokens=1, unscored=0, bytes=1)
    half = json.dumps({"document_id": "d3", "nats": 3})[:-4]
    (out / CHECKPOINTS / "losses-replay.jsonl").write_text(json.dumps(vars(marked)) + "\n" + half)
    candidate = LocalModel(str(tiny_model), "cpu", 1)
    counts = stage.run(candidate, out, tasks={"replay": Perplexity()}, inputs={"replay": source})
    results = list(read_jsonl(out / "losses-replay.jsonl", DocumentLoss))
    assert [loss.document_id for loss in results] == ["d1", "d2", "d3", "empty"] and results[1] == marked
    score = json.loads((out / "scores.json").read_text())["replay"]
    assert counts["replay"]["nats_per_token"] == score["nats_per_token"] and score["documents"] == 4


def test_limit_is_deterministic_and_empty_corpus_raises(tmp_path: Path) -> None:
    source = write_inputs(tmp_path)
    assert Perplexity(limit=2).document_ids(source) == Perplexity(limit=2).document_ids(source)
    assert len(Perplexity(limit=2).document_ids(source)) == 2
    write_jsonl(tmp_path / "documents.jsonl", [])
    with pytest.raises(DataError, match="contains no documents"):
        Perplexity().document_ids(source)
    for wrong in ({"limit": 0}, {"context": 1}, {"stride": 0}, {"context": 8, "stride": 9}):
        with pytest.raises(ConfigError):
            Perplexity(**wrong)


def test_study_compares_losses_before_and_after_training(command_here: Command, tmp_path: Path) -> None:
    tiny = [item for item in TINY if not item.startswith("evaluation.")]
    first = command_here("run", *tiny, "evaluation=[perplexity,answer_loss]")
    assert first.returncode == 0, first.stderr
    assert "bits per byte over" in first.stdout and "nats per accepted answer" in first.stdout
    assert not list((tmp_path / "outputs" / "studies").glob("*"))
    (model,) = (tmp_path / "outputs" / "training").glob("*/model")
    result = command_here(
        *(item for item in TINY if not item.startswith("model.")), "run", "model=pretrained",
        f"model.path={model}", "evaluation=[closed_book,perplexity]", "seed=1",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "accuracy" in result.stdout and "bits per byte" in result.stdout
    rerun = command_here(
        *(item for item in TINY if not item.startswith("model.")), "analyze", "model=pretrained",
        f"model.path={model}", "evaluation=[closed_book,perplexity]", "seed=1",
    )  # fmt: skip
    assert rerun.returncode == 0, rerun.stderr
    assert re.search(r"bits (a|per) byte before", rerun.stdout)
    (curve,) = (tmp_path / "outputs" / "studies").glob("*/curve.json")
    (loss,) = json.loads(curve.read_text())["losses"]
    assert (
        loss["change"] == pytest.approx(loss["bits_per_byte"] - loss["start"]["bits_per_byte"]) and loss["change"] < 0
    )
