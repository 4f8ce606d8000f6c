"""Questions that may have several correct choices: files, prompt, parsing, scores."""

import json
from pathlib import Path
from typing import Any

import pytest

from entigraph.errors import DataError
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import Generation
from entigraph.evaluation.models_under_test import EndpointModel
from entigraph.evaluation.parsing import NO_LINE, NOT_LETTERS, OUT_OF_RANGE, parse_choices
from entigraph.evaluation.tasks.closed_book import ClosedBook
from entigraph.evaluation.tasks.closed_book_cot import AnswerProtocol, ClosedBookCoT
from entigraph.evaluation.tasks.prompt_files import read_examples
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.question_files import read_questions
from entigraph.storage.schemas import Answer, Choice
from tests.conftest import Command
from tests.evaluation.sample_questions import evaluate_tasks, make_question, write_inputs
from tests.evaluation.scripted_server import scripted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Both.\nAnswer: A, C.\n", [0, 2]),
        (" Both.\nAnswer: C, A.", [0, 2]),
        (" Both.\nAnswer: A,C.", [0, 2]),
        (" Both.\nAnswer: A and C.", [0, 2]),
        (" All.\nAnswer: A, B, and D.", [0, 1, 3]),
        (" One.\nAnswer: B.\nAnswer: A, C.\n", [1]),
        (" Both.\nAnswer: AC.", NOT_LETTERS),
        (" Both.\nAnswer: A, A.", NOT_LETTERS),
        (" Both.\nAnswer: A, C", NOT_LETTERS),
        (" Both.\nAnswer: a, c.", NOT_LETTERS),
        (" None.\nAnswer: none.", NOT_LETTERS),
        (" None.\nAnswer:\n", NOT_LETTERS),
        (" Both.\nAnswer: A, E.", OUT_OF_RANGE),
        (" It is A and C.", NO_LINE),
        ("", NO_LINE),
    ],
)
def test_parse_choices(text: str, expected: list[int] | str) -> None:
    assert parse_choices(text, 4) == expected


def test_parse_choices_with_two_and_six_choices() -> None:
    assert parse_choices("Answer: A, B.", 2) == [0, 1] and parse_choices("Answer: B, C.", 2) == OUT_OF_RANGE
    assert parse_choices("Answer: A, F.", 6) == [0, 5]


def test_prompt_examples_with_several_correct_choices() -> None:
    examples = read_examples("five_lessons")
    assert [examples.count(f"## Example {number}\n") for number in range(1, 6)] == [1] * 5
    assert examples.endswith("## Example 6") and examples.count("### Choices") == 5
    letters = [line.removeprefix("Answer: ") for line in examples.splitlines() if line.startswith("Answer: ")]
    assert [len(parse_choices(f"Answer: {scores_by_answer}", 6)) for scores_by_answer in letters] == [2, 1, 3, 3, 2]
    prompt = ClosedBookCoT().build_prompt(make_question(0, choices=list("uvwxyz"), answer=[0, 5]))
    assert prompt.startswith(examples) and "\nF. z\n" in prompt and "G." not in prompt.removeprefix(examples)
    assert not ClosedBookCoT().build_prompt(make_question(0)).startswith(examples)


def answer(samples: list[str], correct: Choice, num_choices: int = 4, **settings: Any) -> Answer:
    questions = make_question(0, answer=correct, choices=[f"option {number}" for number in range(num_choices)])
    task = ClosedBookCoT(samples=max(1, len(samples)), **settings)
    return task.build_answer(
        questions, "prompt", [Generation(f" So.\nAnswer: {scores_by_answer}.\n") for scores_by_answer in samples]
    )


def test_exact_partial_and_per_choice_scores() -> None:
    scores_by_answer = {
        "A, C": (1, 1, 1),
        "A": (0, 0.25, 0.75),
        "A, B": (0, 0, 0.5),
        "A, B, C": (0, 0, 0.75),
        "AC": (0, 0, 0),
    }
    for letters, expected in scores_by_answer.items():
        results = ClosedBookCoT().score([answer([letters], [0, 2])])
        several = results["multiple_answers"]
        assert tuple(several[name]["accuracy"] for name in ("exact", "partial", "options")) == expected, letters
        assert results["accuracy"] == expected[0] and several["exact"]["questions"] == 1


def test_list_with_one_answer_allows_several_choices() -> None:
    assert answer(["B"], [1]).correct and answer(["B"], 1).correct
    assert not answer(["A, B"], [1]).correct and answer(["A, B"], 1).choice is None, "that prompt asks for one letter"
    assert "multiple_answers" not in ClosedBookCoT().score([answer(["B"], 1)])


@pytest.mark.parametrize("correct", [[0, 2], [2, 0]])
def test_chance_level_and_majority_vote_of_sets(correct: list[int]) -> None:
    mixed = [answer(["A, C", "C, A", "A"], correct), answer(["A", "A", "B"], 0)]
    scores = ClosedBookCoT().score(mixed)
    assert scores["pass_at"]["3"]["accuracy"] == 1.0 and answer(["A, C"], correct).correct
    assert scores["chance"] == pytest.approx((1 / 15 + 1 / 4) / 2) and scores["parse_rate"] == 1.0
    assert scores["majority_vote"]["accuracy"] == 1.0 and scores["expected_accuracy"]["accuracy"] == pytest.approx(
        2 / 3
    )
    assert ClosedBookCoT().score([answer(["A"], [0], num_choices=2)])["chance"] == pytest.approx(1 / 3)
    assert answer(["A, C"], [0, 2], protocol=AnswerProtocol.authors_code).correct, "its parser reads one letter only"


def write_question_file(folder: Path, *lines: dict[str, Any]) -> Path:
    questions = {"document": "a.txt", "question": "Which?", "choices": ["one", "two", "three"]}
    file = folder / "questions.jsonl"
    file.write_text("".join(json.dumps({**questions, **line}) + "\n" for line in lines))
    return file


def test_question_file_with_single_and_multiple_answers(tmp_path: Path) -> None:
    many_choices = [f"choice {number}" for number in range(26)]
    file = write_question_file(
        tmp_path,
        {"answer": [2, 0]},
        {"answer": 1, "question": "Which is it?"},
        {"answer": [1], "question": "Which are?"},
        {"answer": [25], "choices": many_choices},
    )
    assert [item.answer for item in read_questions(file, {"a.txt"})] == [[0, 2], 1, [1], [25]]
    assert [item.multiple_answers for item in read_questions(file, {"a.txt"})] == [True, False, True, True]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"answer": []}, "answer must list the index of each correct choice once"),
        ({"answer": [0, 0]}, "answer must list the index of each correct choice once"),
        ({"answer": [0, 3]}, "answer must be between 0 and 2"),
        ({"answer": [0, True]}, "answer must be between 0 and 2"),
        ({"answer": ["A"]}, "answer must be between 0 and 2"),
        ({"answer": "AC"}, "answer must be between 0 and 2"),
        ({"answer": {"0": 1}}, "answer must be between 0 and 2"),
        ({"answer": [0], "choices": ["same", "same "]}, "choices must differ after normalization"),
        ({"answer": [0], "choices": ["one"]}, "choices must be at least two non-empty strings or numbers"),
    ],
)
def test_malformed_question_is_reported_with_its_line(line: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"1 bad of 2 questions(.|\n)*line 2: .*{message}"):
        read_questions(write_question_file(tmp_path, {"answer": [0]}, line), {"a.txt"})


def test_closed_book_rejects_multiple_answers(tmp_path: Path) -> None:
    source = write_inputs(tmp_path, [make_question(0), make_question(1, answer=[0, 1])])
    with pytest.raises(DataError, match=r"1 of 2 questions may have several correct choices \(q1\).*closed_book_cot"):
        ClosedBook().load_questions(source)


def test_closed_book_with_two_and_six_choices(backend: TransformersBackend) -> None:
    questions = [make_question(number, choices=list("uvwxyz")[:count]) for number, count in enumerate((2, 6, 4))]
    results = list(ClosedBook().answers(questions, backend))
    assert [len(item.scores) for item in results] == [2, 6, 4] and all(item.choice is not None for item in results)
    assert ClosedBook().score(results)["chance"] == pytest.approx((1 / 2 + 1 / 6 + 1 / 4) / 3)


def answer_even_options(body: dict[str, Any]) -> list[str]:
    """Answers A and C, but A for question 2, and a single letter if the system prompt asks for one."""
    system, text = body["messages"][0]["content"], body["messages"][1]["content"]
    number = int(text.rsplit("number ", 1)[1].split("?")[0])
    if "X, Y" not in system:
        return [" One.\nAnswer: A.\n"] * body.get("n", 1)
    return [f" Several.\nAnswer: {'A' if number == 2 else 'A, C'}.\n"] * body.get("n", 1)


def test_endpoint_answers_single_and_multiple_choice(tmp_path: Path) -> None:
    correct: list[Choice] = [[0, 2], 0, [0, 2], [0, 2], 1]
    questions = [
        make_question(number, text=f"What is number {number}?", answer=item) for number, item in enumerate(correct)
    ]
    source = write_inputs(tmp_path, questions)
    with scripted(answer_even_options) as server:
        candidate = EndpointModel(server.model(), tmp_path / "cache")
        scores = evaluate_tasks(candidate, tmp_path / "out", source, cot=ClosedBookCoT(samples=4))["cot"]
    assert scores["accuracy"] == 3 / 5 and scores["parse_rate"] == 1.0 and scores["samples"] == 20
    several = scores["multiple_answers"]
    assert several["exact"]["questions"] == 3 and several["exact"]["accuracy"] == 2 / 3
    assert several["partial"]["accuracy"] == pytest.approx(2.25 / 3) and len(several["partial"]["interval_90%"]) == 2
    results = list(read_jsonl(tmp_path / "out" / "answers-cot.jsonl", Answer))
    assert [item.choice for item in results] == [[0, 2], 0, [0], [0, 2], 0] and results[0].samples == [[0, 2]] * 4


def test_command_with_question_file(command_here: Command, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("One and three are odd.")
    write_question_file(
        tmp_path, {"answer": [0, 2], "question": "What is number 0?"}, {"answer": [1], "question": "number 2?"}
    )
    with scripted(answer_even_options) as server:
        options = [
            "corpus=text_files", "corpus.path=docs", "questions=file", "questions.path=questions.jsonl",
            "evaluation=closed_book_cot", "baselines=[openai]", f"baselines.openai.base_url={server.base_url}",
            "baselines.openai.model=scripted", "logger=none",
        ]  # fmt: skip
        for item in ("corpus", "questions", "baselines"):
            result = command_here(*options, f"stage={item}")
            assert result.returncode == 0, result.stderr
    assert "accuracy 0.500 over 2 questions, 100.0% of 2 answered" in result.stdout
    refused = command_here("run", *options[:4], "evaluation=closed_book", "logger=none")
    assert refused.returncode == 1 and "evaluation=closed_book_cot" in refused.stderr
    assert not (tmp_path / "outputs" / "synthesis").exists(), "reported before anything is generated or trained"
