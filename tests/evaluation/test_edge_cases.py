"""Unusual questions: duplicates, documents without questions, two or nine choices, empty answers."""

from pathlib import Path
from typing import Any

import pytest

from entigraph.errors import DataError
from entigraph.evaluation.base import TaskInputs
from entigraph.evaluation.models_under_test import EndpointModel, LocalModel
from entigraph.evaluation.parsing import NO_LINE, OUT_OF_RANGE
from entigraph.evaluation.tasks.closed_book import ClosedBook
from entigraph.evaluation.tasks.closed_book_cot import ClosedBookCoT
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Answer, Document, Question
from tests.evaluation.sample_questions import evaluate_tasks, make_question, write_inputs
from tests.evaluation.scripted_server import Answers, scripted


def evaluate(candidate: Any, source: TaskInputs, folder: Path, task: Any) -> tuple[dict[str, Any], list[Answer]]:
    out = folder / "out"
    scores = evaluate_tasks(candidate, out, source, task=task)["task"]
    return scores, list(read_jsonl(out / "answers-task.jsonl", Answer))


def run_scripted(folder: Path, questions: list[Question], answers: Answers) -> tuple[dict[str, Any], list[Answer], int]:
    """Returns scores, answers and the number of requests with scripted samples."""
    with scripted(answers) as server:
        candidate = EndpointModel(server.model(), folder / "cache")
        scores, results = evaluate(candidate, write_inputs(folder, questions), folder, ClosedBookCoT(samples=4))
        return scores, results, len(server.requests)


def letter(name: str) -> Answers:
    return lambda body: [f" So.\nAnswer: {name}.\n"] * body.get("n", 1)


def test_duplicate_question_is_counted_twice_and_paid_once(tmp_path: Path) -> None:
    questions = [make_question(0), make_question(0, id="again"), make_question(1)]
    scores, answers, requests = run_scripted(tmp_path, questions, letter("A"))
    assert requests == 1, "all three have the same prompt"
    assert [answer.question_id for answer in answers] == ["q0", "again", "q1"]
    assert scores["questions"] == 3 and scores["accuracy"] == pytest.approx(2 / 3)
    assert answers[0].prompt_hash == answers[1].prompt_hash, "same prompt"


def test_document_without_questions_changes_no_score(tmp_path: Path) -> None:
    questions = [make_question(number) for number in range(4)]
    source = write_inputs(tmp_path, questions)
    before = ClosedBookCoT(titles="test").load_questions(source)
    documents = list(read_jsonl(source.documents, Document))
    write_jsonl(
        source.documents, [*documents, Document(id="without questions", title="a", text="No question is about it.")]
    )
    assert ClosedBookCoT(titles="test").load_questions(source) == before, "titles without questions do not count"
    with scripted(letter("A")) as server:
        scores, _ = evaluate(
            EndpointModel(server.model(), tmp_path / "j.sqlite"), source, tmp_path, ClosedBookCoT(samples=1)
        )
    assert scores["documents"] == 3 and scores["questions"] == 4


def test_empty_completion_is_unparsed(tmp_path: Path) -> None:
    scores, answers, _ = run_scripted(tmp_path, [make_question(0)], lambda body: [""] * body.get("n", 1))
    assert answers[0].choice is None and list(answers[0].texts) == [""] * 4 and answers[0].unparsed == {NO_LINE: 4}
    assert (scores["accuracy"], scores["parse_rate"], scores["sample_parse_rate"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("end", ["<|im_end|>", "\u200b", "\ufeff", "\x00", "</s>", "<|eot_id|>\n"])
def test_markers_and_invisible_characters_are_ignored_in_answers(end: str, tmp_path: Path) -> None:
    answer = f" So.\nAnswer: A.{end}"
    scores, _, _ = run_scripted(tmp_path, [make_question(0)], lambda body: [answer] * body.get("n", 1))
    assert (scores["accuracy"], scores["parse_rate"]) == (1.0, 1.0)


def with_choices(count: int, **changes: Any) -> Question:
    return make_question(0, id=f"of {count}", choices=[f"choice {number}" for number in range(count)], **changes)


def test_two_and_nine_choices(tmp_path: Path) -> None:
    questions = [with_choices(2, answer=0), with_choices(9, answer=4)]
    scores, answers, _ = run_scripted(tmp_path, questions, letter("E"))
    assert [answer.choice for answer in answers] == [None, 4] and answers[0].unparsed == {OUT_OF_RANGE: 4}
    assert scores["chance"] == pytest.approx((1 / 2 + 1 / 9) / 2) and scores["accuracy"] == 0.5
    assert scores["pass_at"]["1"]["accuracy"] == 0.5 and scores["pass_at"]["1"]["questions"] == 2


def test_more_choices_than_letters_need_likelihoods(tmp_path: Path, tiny_model: Path) -> None:
    source = write_inputs(tmp_path, [with_choices(27)])
    with pytest.raises(DataError, match="must have at most 26 choices, got 27"):
        ClosedBookCoT().load_questions(source)
    candidate = LocalModel(str(tiny_model), "cpu", 1, tiny_model, 0)
    scores, answers = evaluate(candidate, source, tmp_path, ClosedBook())
    assert len(answers[0].scores) == 27 and scores["chance"] == pytest.approx(1 / 27)


def test_answers_store_the_prompt_hash(tmp_path: Path, tiny_model: Path) -> None:
    source = write_inputs(tmp_path, [make_question(0), make_question(1, text="Another?"), make_question(2, id="same")])
    candidate = LocalModel(str(tiny_model), "cpu", 1, tiny_model, 0)
    _, (first, other, same) = evaluate(candidate, source, tmp_path, ClosedBook())
    assert first.prompt_hash == same.prompt_hash != other.prompt_hash and len(first.prompt_hash) == 32


def test_every_score_has_interval_and_denominator(tmp_path: Path) -> None:
    def bare_scores(results: Any, path: str = "") -> list[str]:
        """Returns the scores that lack an interval or a denominator."""
        if not isinstance(results, dict):
            return []
        known = ("chance", "stderr", "confidence", "expected_error")
        bare = [
            f"{path}{key}"
            for key, value in results.items()
            if isinstance(value, float) and key not in known
            if not ({f"{key}_interval_90%", "interval_90%"} & {*results})
            or not {"questions", "total_questions"} & {*results}
        ]
        return bare + [item for key, value in results.items() for item in bare_scores(value, f"{path}{key}.")]

    questions = [make_question(number) for number in range(8)]
    scores, _, _ = run_scripted(tmp_path, questions, letter("B"))
    assert bare_scores(scores) == []
    low, high = scores["parse_rate_interval_90%"]
    assert low == pytest.approx(8 / (8 + 1.645**2), abs=1e-3) and high == 1.0, "8 of 8: no certainty"
    low, high = scores["pass_at"]["1"]["interval_90%"]
    assert low < scores["pass_at"]["1"]["accuracy"] == 0.25 < high
