"""Calibration of free-form answers: the bins, and a local model's own likelihood of what it wrote."""

import json
from math import exp, log
from pathlib import Path

import pytest
from lxml import html

from entigraph.evaluation import evaluation_report, stage
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import Generation, TaskInputs
from entigraph.evaluation.calibration import score_calibration
from entigraph.evaluation.models_under_test import EndpointModel
from entigraph.evaluation.tasks.free_form import FreeForm, build_answer
from entigraph.runtime.progress import SilentProgress
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer, AnswerLikelihood
from tests.evaluation.scripted_server import scripted
from tests.evaluation.test_free_form import FixedBackend, questions, reply_to_question, write_inputs


def likelihood(name: str, confidence: float | None) -> AnswerLikelihood:
    nats = None if confidence is None else -log(confidence)
    return AnswerLikelihood(question_id=name, document_id="d", nats=nats, bytes=1)


def test_bins_compare_confidence_with_accuracy() -> None:
    replies = ["Miriam Vale", "no", "Orsk", "no", "no"]
    answers = [
        build_answer(question, "", [Generation(reply)], None)
        for question, reply in zip(questions(), replies, strict=True)
    ]
    confidences = [0.95, 0.15, 0.95, 1.0, None]
    scores = score_calibration(
        answers, [likelihood(f"q{number}", confidence) for number, confidence in enumerate(confidences)]
    )
    low, high = scores["bins"]
    assert (low["from"], low["to"], low["questions"], low["accuracy"]) == (0.1, 0.2, 1, 0.0)
    assert (high["from"], high["to"], high["questions"]) == (0.9, 1.0, 3)
    assert high["accuracy"] == pytest.approx(2 / 3) and high["confidence"] == pytest.approx(2.9 / 3)
    assert scores["questions"] == 4
    assert scores["expected_error"] == pytest.approx((0.15 * 1 + (2.9 / 3 - 2 / 3) * 3) / 4)
    assert score_calibration(answers, [likelihood("q0", None)]) == {}


def test_local_model_states_the_likelihood_of_its_answers(backend: TransformersBackend, tmp_path: Path) -> None:
    source = write_inputs(tmp_path, questions(3))
    task = FreeForm(examples=None, max_tokens=4)
    options = {"tasks": {"short": task}, "inputs": {"short": source}, "progress": SilentProgress()}
    stage.run(FixedBackend(backend), tmp_path / "out", **options)  # type: ignore[arg-type]
    answers = {answer.question_id: answer for answer in read_jsonl(tmp_path / "out" / "answers-short.jsonl", Answer)}
    records = list(read_jsonl(tmp_path / "out" / "confidences-short.jsonl", AnswerLikelihood))
    assert {record.question_id for record in records} == {name for name, answer in answers.items() if answer.response}
    for record in records:
        pair = (
            task.build_prompt(questions(3)[int(record.question_id[1:])]),
            f" {answers[record.question_id].response}",
        )
        ((_, expected),) = backend.loglikelihoods([pair], 512)
        assert record.nats == pytest.approx(-expected, abs=1e-4)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["short"]
    assert scores["calibration"]["questions"] == len(records) > 0
    assert scores["calibration"]["confidence"] == pytest.approx(
        sum(exp(-record.nats) for record in records) / len(records)
    )
    page = html.fromstring(evaluation_report.write(tmp_path / "out", {"short": source}, name="a run").read_text())
    assert "Expected calibration error" in page.text_content()
    stage.run(FixedBackend(backend), tmp_path / "plain", **{**options, "tasks": {"short": FreeForm(calibration=False)}})  # type: ignore[arg-type]
    assert "calibration" not in json.loads((tmp_path / "plain" / "scores.json").read_text())["short"]


def test_endpoint_has_no_calibration(tmp_path: Path) -> None:
    source = write_inputs(tmp_path, questions())
    with scripted(reply_to_question) as server:
        stage.run(
            EndpointModel(server.model(), tmp_path / "cache"),
            tmp_path / "out",
            tasks={"short": FreeForm()},
            inputs={"short": source},
            progress=SilentProgress(),
        )
    assert "calibration" not in json.loads((tmp_path / "out" / "scores.json").read_text())["short"]
    page = evaluation_report.write(
        tmp_path / "out", {"short": TaskInputs(source.questions, source.documents)}, name="a"
    )
    assert "calibration error" not in page.read_text()
