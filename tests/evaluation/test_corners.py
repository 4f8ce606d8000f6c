"""Questions as they may come: twice, without their like, with two options or nine, answered by nothing at all."""

import json
from pathlib import Path
from typing import Any

import pytest

from entigraph.errors import DataError
from entigraph.evaluation import stage
from entigraph.evaluation.base import TaskInputs
from entigraph.evaluation.models_under_test import EndpointModel, LocalModel
from entigraph.evaluation.parsing import NO_LINE, NO_OPTION
from entigraph.evaluation.tasks.closed_book import ClosedBook
from entigraph.evaluation.tasks.closed_book_cot import ClosedBookCoT
from entigraph.runtime.progress import SilentProgress
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Answer, Document, Question
from tests.evaluation.asked import a_question, a_source
from tests.evaluation.scripted import Answers, scripted


def asked(subject: Any, source: TaskInputs, folder: Path, task: Any) -> tuple[dict[str, Any], list[Answer]]:
    out = folder / "out"
    stage.run(subject, out, tasks={"task": task}, inputs={"task": source}, progress=SilentProgress())
    scores = json.loads((out / "scores.json").read_text())["task"]
    return scores, list(read_jsonl(out / "answers-task.jsonl", Answer))


def said(folder: Path, questions: list[Question], answers: Answers) -> tuple[dict[str, Any], list[Answer], int]:
    """By samples of a model that a test plays; and how many requests it got."""
    with scripted(answers) as server:
        subject = EndpointModel(server.model(), folder / "response_cache.sqlite")
        scores, found = asked(subject, a_source(folder, questions), folder, ClosedBookCoT(samples=4))
        return scores, found, len(server.asked)


def letter(name: str) -> Answers:
    return lambda body: [f" So.\nAnswer: {name}.\n"] * body.get("n", 1)


def test_a_question_that_stands_there_twice_is_answered_and_counted_twice_and_paid_for_once(tmp_path: Path) -> None:
    questions = [a_question(0), a_question(0, id="again"), a_question(1)]
    scores, answers, requests = said(tmp_path, questions, letter("A"))
    assert requests == 1, "they have one prompt, as all three do here"
    assert [answer.question_id for answer in answers] == ["q0", "again", "q1"]
    assert scores["questions"] == 3 and scores["accuracy"] == pytest.approx(2 / 3)
    assert answers[0].prompt_hash == answers[1].prompt_hash, "the same prompt: that tells them"


def test_a_document_without_questions_changes_no_score(tmp_path: Path) -> None:
    questions = [a_question(number) for number in range(4)]
    source = a_source(tmp_path, questions)
    before = ClosedBookCoT(titles="test").load_questions(source)
    documents = list(read_jsonl(source.documents, Document))
    write_jsonl(source.documents, [*documents, Document(id="a silent one", title="a", text="Nobody asks about it.")])
    assert ClosedBookCoT(titles="test").load_questions(source) == before, "titles without questions do not count"
    with scripted(letter("A")) as server:
        scores, _ = asked(
            EndpointModel(server.model(), tmp_path / "j.sqlite"), source, tmp_path, ClosedBookCoT(samples=1)
        )
    assert scores["documents"] == 3 and scores["questions"] == 4


def test_an_empty_completion_is_unparsed_and_kept_as_it_is(tmp_path: Path) -> None:
    scores, answers, _ = said(tmp_path, [a_question(0)], lambda body: [""] * body.get("n", 1))
    assert answers[0].choice is None and list(answers[0].texts) == [""] * 4 and answers[0].unparsed == {NO_LINE: 4}
    assert (scores["accuracy"], scores["parse_rate"], scores["sample_parse_rate"]) == (0.0, 0.0, 0.0)


def options(count: int, **changes: Any) -> Question:
    return a_question(0, id=f"of {count}", choices=[f"choice {number}" for number in range(count)], **changes)


def test_fewer_and_more_options_than_four_are_parsed_and_guessed_for_what_they_are(tmp_path: Path) -> None:
    questions = [options(2, answer=0), options(9, answer=4)]
    scores, answers, _ = said(tmp_path, questions, letter("E"))
    assert [answer.choice for answer in answers] == [None, 4] and answers[0].unparsed == {NO_OPTION: 4}
    assert scores["chance"] == pytest.approx((1 / 2 + 1 / 9) / 2) and scores["accuracy"] == 0.5
    assert scores["pass_at"]["1"]["accuracy"] == 0.5 and scores["pass_at"]["1"]["questions"] == 2


def test_options_beyond_the_letters_are_refused_where_letters_are_asked_for(tmp_path: Path, tiny_model: Path) -> None:
    source = a_source(tmp_path, [options(27)])
    with pytest.raises(DataError, match="has 27 choices, but there are only 26 letters"):
        ClosedBookCoT().load_questions(source)
    subject = LocalModel(str(tiny_model), "cpu", 1, tiny_model, 0)
    scores, answers = asked(subject, source, tmp_path, ClosedBook())
    assert len(answers[0].scores) == 27 and scores["chance"] == pytest.approx(1 / 27)


def test_every_answer_keeps_the_hash_of_its_prompt(tmp_path: Path, tiny_model: Path) -> None:
    source = a_source(tmp_path, [a_question(0), a_question(1, text="Another?"), a_question(2, id="same")])
    subject = LocalModel(str(tiny_model), "cpu", 1, tiny_model, 0)
    _, (first, other, same) = asked(subject, source, tmp_path, ClosedBook())
    assert first.prompt_hash == same.prompt_hash != other.prompt_hash and len(first.prompt_hash) == 32


def test_every_share_has_its_interval_and_what_it_is_of(tmp_path: Path) -> None:
    def shares(found: Any, path: str = "") -> list[str]:
        """Of all numbers between nought and one, those that have neither."""
        if not isinstance(found, dict):
            return []
        known = ("chance", "stderr")
        bare = [
            f"{path}{key}"
            for key, value in found.items()
            if isinstance(value, float) and key not in known
            if not ({f"{key}_interval_90%", "interval_90%"} & {*found}) or not {"questions", "asked"} & {*found}
        ]
        return bare + [each for key, value in found.items() for each in shares(value, f"{path}{key}.")]

    questions = [a_question(number) for number in range(8)]
    scores, _, _ = said(tmp_path, questions, letter("B"))
    assert shares(scores) == [] and scores["parse_rate_interval_90%"] == [1.0, 1.0]
    low, high = scores["pass_at"]["1"]["interval_90%"]
    assert low < scores["pass_at"]["1"]["accuracy"] == 0.25 < high
