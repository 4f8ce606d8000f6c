"""SQuAD-like passages and L-Eval's closed-ended tasks, in small files of the released format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entigraph.corpus import stage
from entigraph.corpus.readers.leval import LEval
from entigraph.corpus.readers.squad import Squad
from entigraph.errors import DataError
from entigraph.pipeline.run import Run
from entigraph.storage.schemas import Question

PASSAGE = {
    "title": "Lamp_of/Orsk",
    "context": "The lamp of Orsk was lit in 1901.\r\nMiriam Vale kept it.",
    "questions": [
        {"question": "When was it lit?", "answer": "1901"},
        {"question": "Who kept it?", "answer": ["Miriam Vale", "Vale", "Vale"]},
        {"question": "Who built it?", "answer": []},
    ],
}


def write_json(file: Path, value: Any) -> Path:
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


def test_squad_passages_with_accepted_answers(tmp_path: Path) -> None:
    other = {**PASSAGE, "context": "Tobias came in spring.", "questions": [{"question": "Who?", "answer": "Tobias"}]}
    reader = Squad(path=str(write_json(tmp_path / "squad.json", [PASSAGE, other, {**other, "questions": []}])))
    content = reader.read()
    assert [document.id for document in content.documents] == ["squad-Lamp_of_Orsk-1", "squad-Lamp_of_Orsk-2"]
    first, second, third = content.questions
    assert first.text == "Lamp of/Orsk: When was it lit?" and first.accepted == ["1901"] and not first.choices
    assert second.accepted == ["Miriam Vale", "Vale"] and third.document_id == "squad-Lamp_of_Orsk-2"
    assert "\r" not in list(content.documents)[0].text
    counts = stage.run(reader, tmp_path)
    (loss,) = [loss for loss in stage.data_losses(counts) if loss.count]
    assert (loss.description, loss.count, loss.total) == ("questions are left out (no answer)", 1, 4)
    limited = Squad(path=reader.path, documents=1, cite_document=False).read()
    assert len(list(limited.documents)) == 1 and limited.questions[0].text == "When was it lit?"


def test_squad_titles_that_differ_only_in_signs_are_two_documents(tmp_path: Path) -> None:
    passages = [{**PASSAGE, "title": title, "context": f"About {title}."} for title in ("AC/DC", "AC DC", "???")]
    content = Squad(path=str(write_json(tmp_path / "squad.json", passages))).read()
    assert [document.id for document in content.documents] == ["squad-AC_DC-1", "squad-AC_DC-2", "squad-_-1"]


def test_squad_as_released(tmp_path: Path) -> None:
    answers = [{"text": "1901", "answer_start": 29}, {"text": "1901", "answer_start": 29}]
    questions = [{"question": "When?", "id": "1", "answers": answers}, {"question": "Who?", "id": "2", "answers": []}]
    article = {"title": "Orsk", "paragraphs": [{"context": "It was lit in 1901.", "qas": questions}]}
    content = Squad(path=str(write_json(tmp_path / "train.json", {"version": "2.0", "data": [article]}))).read()
    assert [question.accepted for question in content.questions] == [["1901"]]
    assert content.counts == {"questions_left_out": {"no answer": 1}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"title": "a"}, "the file is a JSON dict"),
        ([], "contains no passages"),
        ([{**PASSAGE, "context": " "}], "passage 1: context must be a non-empty string, got ' '"),
        ([{**PASSAGE, "questions": None}], "passage 1: questions must be a list, got None"),
        ([{**PASSAGE, "questions": [{"question": "Who?"}]}], "passage 1, question 1: answer must be .*, got None"),
        ([{**PASSAGE, "questions": ["Who?"]}], "passage 1, question 1: question must be a non-empty string, got None"),
        (["text"], "passage 1: title must be a non-empty string, got None"),
        ({"data": ["text"]}, "paragraphs must be a list, got None"),
        ({"data": [{"title": "a", "paragraphs": ["text"]}]}, "passage 1: title must be a non-empty string, got None"),
    ],
)
def test_bad_squad_files_report_the_location(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        Squad(path=str(write_json(tmp_path / "squad.json", value))).read()


def read_leval(folder: Path, task: str, questions: dict[str, str], **changes: Any) -> list[Question]:
    line = {"input": "The Lamp\nIt was lit.", "instructions": [*questions], "outputs": [*questions.values()]}
    file = folder / f"{task}.first.jsonl"
    file.write_text(json.dumps({**line, "evaluation": "exam", **changes}) + "\n\n")
    return LEval(path=str(file)).read().questions


def test_leval_questions_with_several_correct_options(tmp_path: Path) -> None:
    questions = read_leval(
        tmp_path,
        "coursera",
        {
            "Question 1. Which are lamps?\nA. a lamp\nB. the moon\nC. a lantern\nD. ink": "AC",
            "Question 2. Which is ink?\nA. a lamp\nB. ink": "B",
        },
    )
    assert questions[0].text == "Which are lamps?" and questions[0].answer == [0, 2]
    assert list(questions[0].choices) == ["a lamp", "the moon", "a lantern", "ink"]
    assert questions[1].answer == [1] and questions[1].multiple_answers, "one correct option in a multiple-answer task"
    assert questions[0].id == "leval-coursera-1-1" and questions[0].group == "coursera"


def test_leval_questions_with_one_correct_option(tmp_path: Path) -> None:
    text = "Why is it (A. or B.) dark?\n\n (A) The oil\n was bad. \n (B) A storm. \n (C) Ink, see (D) below. "
    (question,) = read_leval(tmp_path, "quality", {text: "(B) A storm.\n"})
    assert question.text == "Why is it (A. or B.) dark?" and question.answer == 1
    assert list(question.choices) == ["The oil\n was bad.", "A storm.", "Ink, see (D) below."]
    (question,) = read_leval(tmp_path, "tpo", {"who wrote\nA. vale\nB. tobias": "A"})
    assert question.answer == 0 and list(question.choices) == ["vale", "tobias"]
    assert not read_leval(tmp_path, "tpo", {"Which? A. one B. two C. three D. four": "B"}), (
        "no options at lines' beginnings"
    )


def test_leval_true_or_false_relative_to_the_document(tmp_path: Path) -> None:
    first, second = read_leval(
        tmp_path, "sci_fi", {"1.\tInk glows, True or False?": "True [fact: False]", "2. Sky?": "False"}
    )
    assert (first.text, list(first.choices), first.answer) == ("Ink glows, True or False?", ["True", "False"], 0)
    assert (first.group, second.group, second.answer) == ("sci_fi_other_than_fact", "sci_fi", 1)


def test_leval_questions_without_options_are_free_form(tmp_path: Path) -> None:
    (question,) = read_leval(tmp_path, "gsm100", {"Question: 16 eggs less 7?": "9"})
    assert question.accepted == ["9"] and not question.choices and question.text == "Question: 16 eggs less 7?"


def test_leval_counts_what_it_leaves_out(tmp_path: Path) -> None:
    questions = read_leval(tmp_path, "quality", {"Who?\nA. Vale\nB. Tobias": "E", "What?\nA. ink\nB. oil": "A"})
    assert len(questions) == 1
    reader = LEval(path=str(tmp_path))
    assert reader.read().counts == {"questions_left_out": {"the answer is none of the options": 1}}
    assert read_leval(tmp_path, "summaries", {"Summarize.": "A lamp."}, evaluation="rouge") == []
    assert LEval(path=str(tmp_path)).read().counts["questions_left_out"]["evaluated by rouge"] == 1


@pytest.mark.parametrize("evaluation", ["f1", "LLM"])
def test_leval_open_ended_questions_are_free_form(evaluation: str, tmp_path: Path) -> None:
    (question,) = read_leval(tmp_path, "nq", {"Who owns the cat?": "Mira Vale"}, evaluation=evaluation)
    assert question.accepted == ["Mira Vale"] and not question.choices


def test_leval_options_and_answers_in_other_forms(tmp_path: Path) -> None:
    stem = "Who?\nA. Vale\nB. Tobias\nC. Ilse"
    answers = {stem: "A, C", f"{stem} ": "B. Tobias", "A. Smith said what?\nA. ink\nB. oil": "B"}
    questions = read_leval(tmp_path, "tpo", answers)
    assert [question.answer for question in questions] == [[0, 2], [1], [1]]
    assert questions[2].text == "A. Smith said what?" and questions[2].choices == ["ink", "oil"]
    for number, text in enumerate(("Who?\nA. Vale\nB. Vale", "Who?\nA. \nB. Vale", "Who?\na. Vale\nb. Ilse")):
        assert read_leval(tmp_path, f"bad{number}", {text: "a" if number == 2 else "A"}) == [], text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": ""}, "jsonl:1: no input"),
        ({"outputs": ["A", "B"]}, "1 instructions and 2 outputs"),
        ({"instructions": "Who?"}, "instructions must be a list of strings, got 'Who"),
    ],
)
def test_bad_leval_lines_report_the_location(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_leval(tmp_path, "coursera", {"Who?\nA. Vale\nB. Tobias": "A"}, **changes)


def test_configured_readers(configured: Callable[..., Run], tmp_path: Path) -> None:
    file = write_json(tmp_path / "squad.json", [PASSAGE])
    run = configured("corpus=squad", f"corpus.path={file}", "evaluation=free_form", "augmenter=rephrase")
    assert isinstance(run.corpus, Squad) and run.corpus.has_questions
    run = configured("corpus=leval", f"corpus.path={tmp_path}", "evaluation=closed_book_cot")
    assert isinstance(run.corpus, LEval)
