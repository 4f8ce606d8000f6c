"""Question files as people and programs write them."""

import json
from pathlib import Path
from typing import Any

import pytest

from entigraph.errors import DataError
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.question_files import UNSTATED, find_unstated, list_unstated, read_questions
from entigraph.storage.schemas import Document, Question

GOOD: dict[str, Any] = {"document": "a.txt", "question": "Who rang?", "choices": ["Ilse", "Jonas"], "answer": 0}


def write(folder: Path, *lines: Any) -> Path:
    file = folder / "q.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"choices": [None, "Jonas"]},
            "choices must be at least two non-empty strings or numbers, got [None, 'Jonas']",
        ),
        (
            {"choices": [{"text": "Ilse"}, {"text": "Jonas"}]},
            "choices must be at least two non-empty strings or numbers, got [{'text': 'Ilse'}",
        ),
        ({"choices": [["Ilse"], ["Jonas"]]}, "choices must be at least two non-empty strings or numbers, got"),
        ({"choices": [True, False]}, "choices must be at least two non-empty strings or numbers, got"),
        ({"choices": {"A": "Ilse", "B": "Jonas"}}, "choices must be at least two non-empty strings or numbers, got"),
        ({"choices": "IJ"}, "choices must be at least two non-empty strings or numbers, got"),
        ({"choices": ["Ilse", "\u200b"]}, "choices must be at least two non-empty strings or numbers, got"),
        ({"choices": ["Caf\u00e9", "Cafe\u0301"]}, "choices must differ after normalization"),
        ({"choices": ["Ilse Kern", "Ilse\u00a0 Kern "]}, "choices must differ after normalization"),
        ({"choices": ["Ilse", "Il\u200bse"]}, "choices must differ after normalization"),
        ({"choices": ["10", 10]}, "choices must differ after normalization"),
        ({"question": "\ufeff\u2060"}, "question must be a non-empty string, got '\\ufeff\\u2060'"),
        ({"question": None}, "question must be a non-empty string, got None"),
        ({"document": None}, "document must be a document of this corpus (a.txt, ...), got None"),
        ({"answer": "A"}, "answer must be between 0 and 1, got 'A'"),
        ({"answer": None}, "answer must be between 0 and 1, got None"),
        ({"answer": [0, 0]}, "answer must list the index of each correct choice once"),
        ({"answers": ["Ilse"]}, "choices and answers exclude each other"),
        ({"group": ["x"]}, "group must be a string, got ['x']"),
        ({"evidence": {"text": "x"}}, "evidence must be a string or a list of strings, got {'text': 'x'}"),
    ],
)
def test_bad_values_are_reported_together(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = write(tmp_path, {**GOOD, **changes}, GOOD, "[" * 100_000, '{"answer": ' + "1" * 5000 + "}", "torn", "5")
    with pytest.raises(DataError) as error:
        read_questions(file, {"a.txt"})
    text = str(error.value)
    assert "5 bad of 6 questions" in text and "line 1: " in text and message in text
    assert "line 3: not JSON (nested too deeply)" in text and "line 4: not JSON (Exceeds the limit" in text
    assert "line 5: not JSON" in text and "line 6: missing document" in text


def test_all_bad_values_of_a_line_are_reported(tmp_path: Path) -> None:
    bad = {"document": "b.txt", "question": " ", "choices": ["Ilse", "Ilse"], "answer": 2, "group": []}
    with pytest.raises(DataError) as error:
        read_questions(write(tmp_path, bad), {"a.txt"})
    for message in (
        "document must be a document of this corpus",
        "question must be a non-empty string, got ' '",
        "choices must differ after normalization",
        "answer must be between 0 and 1",
        "group must be a string, got []",
    ):
        assert message in str(error.value)


def test_questions_are_normalized(tmp_path: Path) -> None:
    line = {
        "document": "cafe\u0301.txt",
        "question": "\ufeffWho\r\nrang?",
        "choices": ["Ilse\u200b", 12, 1.5],
        "answer": 0,
        "group": None,
        "evidence": ["Ilse rang\u2028the bell.", " "],
    }
    file = tmp_path / "q.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(line, ensure_ascii=False).encode() + b"\r\n\xe2\x80\x8b\n")
    (question,) = read_questions(file, {"caf\u00e9.txt"})
    assert (question.document_id, question.text, question.group) == ("caf\u00e9.txt", "Who\nrang?", "ungrouped")
    assert question.choices == ["Ilse", "12", "1.5"] and question.evidence == ["Ilse rang\nthe bell."]


def test_file_in_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_bytes((json.dumps(GOOD) + "\n").encode("utf-16"))
    assert len(read_questions(file, {"a.txt"})) == 1
    file.write_bytes(b'{"document": "M\xfchle.txt"}')
    with pytest.raises(DataError, match="not UTF-8"):
        read_questions(file, {"a.txt"})
    with pytest.raises(DataError, match="No such file"):
        read_questions(tmp_path / "none.jsonl", {"a.txt"})


DOCUMENTS = {
    "a.txt": "The mill of Orsk was built in 1,912 by Miriam\nVale.",
    "b.txt": "The  lamp cost $5. Ilse-Marie keeps it.",
    "c.txt": "\u674e\u660e\u5728\u84dd\u78e8\u574a\u9047\u89c1\u4e86\u6258\u6bd4\u3002",
}


def short(number: int, document: str, *accepted: str) -> Question:
    return Question(id=f"q{number}", document_id=document, text="?", group="all", accepted=accepted)


def write_documents(folder: Path) -> Path:
    documents = [Document(id=name, title=f"Title of {name[0]}", text=text) for name, text in DOCUMENTS.items()]
    write_jsonl(folder / "documents.jsonl", documents)
    return folder / "documents.jsonl"


def test_short_answers_are_looked_up_in_all_documents(tmp_path: Path) -> None:
    stated = [
        short(0, "a.txt", "miriam vale"),
        short(1, "a.txt", "the Mill of Orsk"),
        short(2, "a.txt", "1,912"),
        short(3, "a.txt", "lamp"),  # of another document
        short(4, "b.txt", "five dollars", "5"),
        short(5, "b.txt", "Ilse-Marie"),
        short(6, "c.txt", "\u84dd\u78e8\u574a"),
        short(7, "b.txt", "title of b"),
    ]
    unstated = [short(8, "a.txt", "Mir"), short(9, "b.txt", "Jonas"), short(10, "c.txt", "\u6e2f\u53e3")]
    result = find_unstated([*stated, *unstated], write_documents(tmp_path))
    assert sorted(question.id for question in result) == ["q10", "q8", "q9"]


def test_unstated_answers_are_listed_unless_they_are_all(tmp_path: Path) -> None:
    documents, missing = write_documents(tmp_path), [short(0, "a.txt", "Jonas"), short(1, "b.txt", "Greta")]
    choice = Question(id="c", document_id="a.txt", text="?", choices=["x", "y"], answer=0, group="all")
    implied = short(2, "a.txt", "Yes")
    assert list_unstated([choice, implied, short(3, "a.txt", "Vale")], documents, tmp_path, "q.jsonl") == {}
    assert not (tmp_path / UNSTATED).exists()
    some = [*missing, choice, implied, short(3, "a.txt", "Vale")]
    assert list_unstated(some, documents, tmp_path, "q.jsonl") == {"unstated_answers": 2}
    assert [question.id for question in read_jsonl(tmp_path / UNSTATED, Question)] == ["q0", "q1"]
    with pytest.raises(DataError, match="q.jsonl: none of its 2 short answers is in a document, such as 'Jonas' to"):
        list_unstated(missing, documents, tmp_path, "q.jsonl")
    assert list_unstated([*missing, choice], documents, tmp_path, "q.jsonl") == {"unstated_answers": 2}
    with pytest.raises(DataError, match="none of its 5 short answers is in a document"):
        several = [short(number, "a.txt", "Jonas") for number in range(5)]
        list_unstated([*several, choice], documents, tmp_path, "q.jsonl")
    assert list_unstated(missing, documents, tmp_path) == {"unstated_answers": 2}, "a benchmark as released"


def test_contradictory_questions_are_one_error_with_both_lines(tmp_path: Path) -> None:
    swapped = {**GOOD, "choices": ["Jonas", "Ilse"], "answer": 1, "question": "Who  rang?"}  # the same answer
    other = {**GOOD, "question": "Who sang?"}
    file = write(tmp_path, GOOD, swapped, other, "", {**other, "answer": 1})
    with pytest.raises(DataError) as error:
        read_questions(file, {"a.txt"})
    assert "1 of 4 questions are asked before with another answer" in str(error.value)
    assert "lines 3 and 5: 'Who sang?'" in str(error.value)
    assert len(read_questions(write(tmp_path, GOOD, swapped, other), {"a.txt"})) == 3  # dropped when the corpus is read
