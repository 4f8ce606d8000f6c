"""The loss on each statement of the documents, after the title and the preceding statements."""

from pathlib import Path

import pytest

from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import TaskInputs
from entigraph.evaluation.tasks.statement_loss import StatementLoss
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document


def inputs(folder: Path, *texts: str) -> TaskInputs:
    documents = [Document(id=f"d{number}", title="The Lamp", text=text) for number, text in enumerate(texts)]
    write_jsonl(folder / "documents.jsonl", documents)
    return TaskInputs(folder / "questions.jsonl", folder / "documents.jsonl")


def test_statements_are_scored_given_the_title_and_preceding_statements(
    backend: TransformersBackend, tmp_path: Path
) -> None:
    task = StatementLoss(context=1)
    pairs = list(task.prompts(inputs(tmp_path, "Ada came. She left.\nNobody saw her.", "Bo stayed.")))
    assert [(statement.id, statement.text, before) for statement, before in pairs] == [
        ("d0/0", "Ada came.", "The Lamp"),
        ("d0/1", "She left.", "The Lamp Ada came."),
        ("d0/2", "Nobody saw her.", "The Lamp She left."),
        ("d1/0", "Bo stayed.", "The Lamp"),
    ]
    scored = {statement.id: statement.nats for statement in task.score(pairs, backend)}
    for statement, before in pairs:
        ((_, expected),) = backend.loglikelihoods([(before, f" {statement.text}")], 8_192)
        assert expected is not None and scored[statement.id] == pytest.approx(-expected, abs=1e-3)
        assert expected < 0


def test_statements_that_exceed_the_context_are_data_losses(
    backend: TransformersBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = StatementLoss()
    monkeypatch.setattr(backend, "max_length", 20)
    pairs = list(task.prompts(inputs(tmp_path, f"Ada came. {'She stayed and stayed. ' * 3}{'word ' * 80}.")))
    scored = list(task.score(pairs, backend))
    missing = sum(statement.nats is None for statement in scored)
    assert len(scored) == len(pairs) and missing >= 1
    (loss,) = task.data_losses({"statements": len(pairs) - missing, "overflowed": missing})
    assert loss.count == missing


def test_corpus_without_statements_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no statements"):
        StatementLoss().validate(inputs(tmp_path, " \n"))
    with pytest.raises(ConfigError, match="context must be at least 0, got -1"):
        StatementLoss(context=-1)
