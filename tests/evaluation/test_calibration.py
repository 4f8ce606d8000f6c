"""Calibration: bins of confidence, and the likelihood of a local model's own answers."""

import json
from math import exp, log
from pathlib import Path
from typing import Any

import pytest
from lxml import html

from entigraph.evaluation import evaluation_report
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import Generation, TaskInputs
from entigraph.evaluation.calibration import answer_confidences, choice_confidences, score_calibration
from entigraph.evaluation.models_under_test import EndpointModel
from entigraph.evaluation.tasks.closed_book import ClosedBook
from entigraph.evaluation.tasks.free_form import FreeForm, build_answer
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer, AnswerLikelihood
from tests.evaluation.sample_questions import evaluate_tasks, make_question
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
    likelihoods = [likelihood(f"q{number}", confidence) for number, confidence in enumerate(confidences)]
    scores = score_calibration(answers, answer_confidences(likelihoods))["calibration"]
    low, high = scores["bins"]
    assert (low["from"], low["to"], low["questions"], low["accuracy"]) == (0.1, 0.2, 1, 0.0)
    assert (high["from"], high["to"], high["questions"]) == (0.9, 1.0, 3)
    assert high["accuracy"] == pytest.approx(2 / 3) and high["confidence"] == pytest.approx(2.9 / 3)
    assert scores["questions"] == 4
    assert scores["expected_error"] == pytest.approx((0.15 * 1 + (2.9 / 3 - 2 / 3) * 3) / 4)
    assert score_calibration(answers, answer_confidences([likelihood("q0", None)])) == {}


def test_local_model_reports_the_likelihood_of_its_answers(backend: TransformersBackend, tmp_path: Path) -> None:
    source = write_inputs(tmp_path, questions(3))
    task = FreeForm(examples=None, max_tokens=4)
    evaluate_tasks(FixedBackend(backend), tmp_path / "out", source, short=task)
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
    plain = evaluate_tasks(FixedBackend(backend), tmp_path / "plain", source, short=FreeForm(calibration=False))
    assert "calibration" not in plain["short"]


def test_endpoint_has_no_calibration(tmp_path: Path) -> None:
    source = write_inputs(tmp_path, questions())
    with scripted(reply_to_question) as server:
        model = EndpointModel(server.model(), tmp_path / "cache")
        scores = evaluate_tasks(model, tmp_path / "out", source, short=FreeForm())
    assert "calibration" not in scores["short"]
    page = evaluation_report.write(
        tmp_path / "out", {"short": TaskInputs(source.questions, source.documents)}, name="a"
    )
    assert "calibration error" not in page.read_text()


def test_confidence_in_a_choice_is_its_probability_among_the_choices() -> None:
    scores = [log(0.03), log(0.01), log(0.06)]
    answers = [multiple_choice("a", scores=scores, choice=2), multiple_choice("b", overflowed=True)]
    assert choice_confidences(answers) == {"a": pytest.approx(0.6)}
    calibration = score_calibration(answers, choice_confidences(answers))["calibration"]
    assert calibration["expected_error"] == pytest.approx(0.6) and calibration["questions"] == 1


def test_confidence_in_sampled_choices_is_the_fraction_of_the_other_samples() -> None:
    answers = [
        multiple_choice("a", choice=1, samples=[1, None, 1, 0, 1]),
        multiple_choice("several", choice=[0, 2], samples=[[0, 2], [0, 2], [0]]),
        multiple_choice("one sample", choice=1, samples=[1, None]),
        multiple_choice("none", samples=[None, None]),
    ]
    assert choice_confidences(answers) == {"a": pytest.approx(2 / 3), "several": 0.5}


def multiple_choice(name: str, **fields: Any) -> Answer:
    values = {
        "document_id": "d",
        "group": "all",
        "question": "?",
        "choices": ["a", "b", "c"],
        "answer": 0,
        "choice": None,
    }
    return Answer(**{"question_id": name, "correct": False, **values, **fields})


def test_multiple_choice_has_a_reliability_plot(backend: TransformersBackend, tmp_path: Path) -> None:
    source = write_inputs(tmp_path, [make_question(number) for number in range(6)])
    scores = evaluate_tasks(FixedBackend(backend), tmp_path / "out", source, choice=ClosedBook())["choice"]
    assert scores["calibration"]["questions"] == scores["questions"]
    page = html.fromstring(evaluation_report.write(tmp_path / "out", {"choice": source}, name="a run").read_text())
    assert len(page.xpath("//svg[@class='reliability']//circle")) == len(scores["calibration"]["bins"])
    assert "probability of the choice among all choices" in page.text_content()
