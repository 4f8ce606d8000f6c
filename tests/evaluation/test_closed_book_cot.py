"""Sampled chains of thought: parsing, both protocols, scores, and endpoints with scripted answers."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entigraph.errors import ConfigError, LLMError
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import Generation, Prompt, Sampling
from entigraph.evaluation.models_under_test import EndpointModel
from entigraph.evaluation.parsing import NO_LINE, NOT_ONE_LETTER, OUT_OF_RANGE, parse_choice, parse_choice_as_authors
from entigraph.evaluation.scoring import accuracy, expected_accuracy, majority_vote, pass_at
from entigraph.evaluation.tasks.closed_book_cot import AnswerProtocol, ClosedBookCoT
from entigraph.evaluation.tasks.prompt_files import read_examples
from entigraph.evaluation.tasks.question_task import TitleSplit
from entigraph.llm.wire_format import Api
from entigraph.storage.data_losses import collect_data_losses, render_data_losses
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer
from tests.evaluation.sample_questions import evaluate_tasks, make_question, write_inputs
from tests.evaluation.scripted_server import Scripted, scripted


@pytest.mark.parametrize(
    ("text", "ours", "theirs"),
    [
        (" He left.\nAnswer: C.\n", 2, 2),
        (" He left.\nAnswer: C.", 2, NO_LINE),
        (" He left.\nAnswer: AB.\n", NOT_ONE_LETTER, 1),
        (" He left.\nAnswer: CAB.\n", NOT_ONE_LETTER, 1),
        (" He left.\nAnswer: AA.\n", NOT_ONE_LETTER, NO_LINE),
        (" He left.\nAnswer: C\n", NOT_ONE_LETTER, NO_LINE),
        (" He left.\nAnswer: E.\n", OUT_OF_RANGE, NO_LINE),
        (" He left.\nAnswer: c.\n", NOT_ONE_LETTER, NO_LINE),
        (" He left.\nAnswer: C. He left.\n", NOT_ONE_LETTER, NO_LINE),
        (" He left.\nAnswer:\n", NOT_ONE_LETTER, NO_LINE),
        (" The answer is C.", NO_LINE, NO_LINE),
        ("Answer: B.\nAnswer: C.\n", 1, 1),
        ("", NO_LINE, NO_LINE),
    ],
)
def test_parse_choice(text: str, ours: int | str, theirs: int | str) -> None:
    assert parse_choice(text, 4) == ours
    assert parse_choice_as_authors(text, 4) == theirs


def test_parse_choice_rejects_letters_out_of_range() -> None:
    assert parse_choice("Answer: E.", 5) == 4 and parse_choice("Answer: C.", 2) == OUT_OF_RANGE


def test_prompt_has_the_same_structure_as_the_papers() -> None:
    examples = read_examples("five_books")
    assert [examples.count(f"## Example {number}\n") for number in range(1, 6)] == [1] * 5
    assert examples.endswith("## Example 6")
    assert [line[8] for line in examples.splitlines() if line.startswith("Answer: ")] == list("CBAAD")
    assert examples.count("### Choices") == 4 and examples.count("\nChoices:") == 1
    assert examples.count("There is only one correct choice.") == 2
    assert examples.count("\nThought process: ") == 5
    prompt = ClosedBookCoT().build_prompt(make_question(0, choices=["one", "two", "three"]), passages=["Found text."])
    target = prompt.removeprefix(examples)
    assert target.index("Found text.") < target.index("Where is the document?") < target.index("C. three")
    assert "D." not in target and target.endswith("Thought process:")


def answer(samples: Sequence[int | None], correct: int = 0, document: str = "d") -> Answer:
    evaluate = make_question(0, answer=correct, document_id=document)
    texts = [Generation(f"\nAnswer: {'ABCD'[choice]}.\n" if choice is not None else "who knows") for choice in samples]
    return ClosedBookCoT(samples=max(1, len(samples))).build_answer(evaluate, "prompt", texts)


def test_scores_of_one_question() -> None:
    mixed = answer([0, 1, 0, None])
    assert expected_accuracy(mixed) == pytest.approx(2 / 3) and majority_vote(mixed) == 1.0
    assert pass_at(mixed, 1) == 0.5 and pass_at(mixed, 2) == pytest.approx(5 / 6) and pass_at(mixed, 4) == 1.0
    assert majority_vote(answer([0, 1])) == 0.5, "a tie counts with its probability of being correct"
    silent = answer([None, None])
    assert (silent.choice, silent.correct) == (None, False)
    assert expected_accuracy(silent) == majority_vote(silent) == pass_at(silent, 2) == 0.0
    overflowed = answer([])
    assert overflowed.overflowed and expected_accuracy(overflowed) == pass_at(overflowed, 1) == 0.0


def test_select_choice_by_protocol() -> None:
    task, theirs = ClosedBookCoT(), ClosedBookCoT(protocol=AnswerProtocol.authors_code)
    finals = [task.select_choice([0, 1, 1, 1], make_question(0, id=f"q{number}")) for number in range(400)]
    assert 0.68 < np.mean(finals) < 0.82
    assert finals == [task.select_choice([0, 1, 1, 1], make_question(0, id=f"q{number}")) for number in range(400)]
    assert theirs.select_choice([3, 1, 1], make_question(0)) == 3 and theirs.select_choice([], make_question(0)) is None


def test_denominators_by_protocol() -> None:
    answers = [answer([0], document="a"), answer([1], document="b"), answer([None], document="c"), answer([])]
    paper = ClosedBookCoT().score(answers)
    assert (paper["accuracy"], paper["questions"], paper["denominator"]) == (0.25, 4, "all questions")
    theirs = ClosedBookCoT(protocol=AnswerProtocol.authors_code).score(answers)
    assert (theirs["accuracy"], theirs["questions"], theirs["denominator"]) == (0.5, 2, "parsed questions")
    for scores in (paper, theirs):
        assert scores["over_all"]["accuracy"] == 0.25 and scores["over_all"]["questions"] == 4
        assert scores["over_parsed"]["accuracy"] == 0.5 and scores["over_parsed"]["questions"] == 2
        assert scores["total_questions"] == 4 and scores["parse_rate"] == 0.5 and scores["overflowed"] == 1
        assert scores["samples"] == 3 and scores["sample_parse_rate"] == pytest.approx(2 / 3)
        assert scores["unparsed"] == {NO_LINE: 1} and scores["expected_accuracy"]["accuracy"] == 0.25


def test_data_losses_report_how_unanswered_questions_count() -> None:
    answers = [answer([0], document="a"), answer([1], document="b"), answer([None], document="c"), answer([])]
    for protocol, counted in ((AnswerProtocol.paper, "incorrect"), (AnswerProtocol.authors_code, "left out")):
        task = ClosedBookCoT(protocol=protocol)
        losses = render_data_losses(collect_data_losses(task.data_losses(task.score(answers))))
        assert losses == (
            f"1 of 4 prompts exceed the model's context (counted as {counted}); "
            f"1 of 4 questions have no answer that can be parsed (counted as {counted})"
        )


def test_model_without_answers_has_zero_accuracy() -> None:
    for protocol in AnswerProtocol:
        scores = ClosedBookCoT(protocol=protocol).score([answer([None, None]), answer([])])
        assert scores["accuracy"] == 0.0 and scores["parse_rate"] == 0.0 and scores["over_all"]["questions"] == 2
        assert scores["over_parsed"]["questions"] == 0


def test_expected_accuracy_has_less_variance() -> None:
    rng, accuracies, over_samples = random.Random(0), [], []
    for seed in range(60):
        task, answers = ClosedBookCoT(seed=seed), []
        for number in range(40):
            generations = [Generation(f"\nAnswer: {rng.choice('AAB')}.\n") for _ in range(8)]
            answers.append(
                task.build_answer(make_question(0, id=f"q{number}", document_id=f"d{number}"), "", generations)
            )
        accuracies.append(accuracy(answers)["accuracy"])
        over_samples.append(accuracy(answers, expected_accuracy)["accuracy"])
    assert np.std(over_samples) < 0.6 * np.std(accuracies)
    assert np.mean(over_samples) == pytest.approx(2 / 3, abs=0.02) == pytest.approx(np.mean(accuracies), abs=0.05)


def test_title_splits_of_the_published_code(tmp_path: Path) -> None:
    questions = [make_question(number, document_id=f"d{number:02}") for number in range(10)]
    source = write_inputs(tmp_path, questions)
    test = ClosedBookCoT(protocol=AnswerProtocol.authors_code).load_questions(source)
    validation = ClosedBookCoT(titles=TitleSplit.validation).load_questions(source)
    assert [question.document_id for question in validation] == ["d00", "d01"]
    assert [question.document_id for question in test] == [f"d{number:02}" for number in range(2, 10)]
    assert len(ClosedBookCoT().load_questions(source)) == 10


@pytest.mark.parametrize("options", [{"samples": 0}, {"temperature": -1.0}, {"max_tokens": 0}, {"examples": "nothing"}])
def test_invalid_settings_raise_config_error(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="evaluation"):
        ClosedBookCoT(**options)


def test_local_model_answers_every_question(backend: TransformersBackend) -> None:
    """The model never answers with a choice; its questions stay in the denominator."""
    questions = [make_question(number) for number in range(3)]
    task = ClosedBookCoT(samples=2, max_tokens=8, texts_kept=1)
    answers = list(task.answers(questions, backend))
    assert sorted(results.question_id for results in answers) == ["q0", "q1", "q2"]
    assert all(len(results.samples) == 2 and len(results.texts) == 1 for results in answers)
    assert task.score(answers)["parse_rate"] == 0.0 and sum(answers[0].unparsed.values()) == 2


# --- endpoints with scripted answers ---


def answers_all_but(*lost: int) -> Any:
    """Returns correct answers to all questions but the ones with these numbers, as many as requested."""

    def answers(body: dict[str, Any]) -> list[str]:
        text = body.get("prompt") or body["messages"][-1]["content"]
        number = int(text.rsplit("number ", 1)[1].split("?")[0])
        letter = "ABCD"[(number + (number in lost)) % 4]
        return [f" I remember.\nAnswer: {letter}.\n"] * body.get("n", 1)

    return answers


def numbered(count: int) -> list[Any]:
    return [make_question(number, text=f"What is number {number}?") for number in range(count)]


def evaluate(server: Scripted, folder: Path, task: ClosedBookCoT, count: int = 12, **options: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    source = write_inputs(folder, numbered(count))
    candidate = EndpointModel(server.model(**options), folder / "cache")
    scores: dict[str, Any] = evaluate_tasks(candidate, folder / "out", source, cot=task)["cot"]
    return scores


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_endpoint_gets_one_request_per_question(api: str, tmp_path: Path) -> None:
    with scripted(answers_all_but(3, 7)) as server:
        scores = evaluate(server, tmp_path, ClosedBookCoT(samples=16), api=api)
        assert scores["accuracy"] == 10 / 12 and scores["samples"] == 12 * 16 and scores["parse_rate"] == 1.0
        assert scores["groups"]["odd"]["accuracy"] == 4 / 6 and scores["groups"]["even"]["accuracy"] == 1.0
        assert len(server.requests) == 12, "one request per question"
        path, body = server.requests[0]
        prompt = ClosedBookCoT().build_prompt(numbered(12)[0])
        prompt_text = body["prompt"] if api == "completions" else body["messages"][1]["content"]
        assert path.endswith("/completions") and (path.endswith("/chat/completions") is (api == "chat"))
        assert prompt_text.split("\n### Question")[0] == prompt.split("\n### Question")[0] and body["n"] == 16
        evaluate(server, tmp_path, ClosedBookCoT(samples=16), api=Api(api))
        assert len(server.requests) == 12, "answers come from the response cache"


def test_local_backend_and_endpoint_agree(backend: TransformersBackend, tmp_path: Path) -> None:
    def answers(body: dict[str, Any]) -> list[str]:
        greedy = Sampling(max_tokens=body["max_tokens"], stop=body["stop"])
        ((_, (sample,)),) = backend.sample([Prompt("any", body["prompt"])], greedy)
        return [sample.text]

    task = ClosedBookCoT(samples=1, temperature=0.0, max_tokens=10)
    local_answers = sorted(task.answers(numbered(4), backend), key=lambda results: results.question_id)
    with scripted(answers) as server:
        evaluate(server, tmp_path, task, count=4, api=Api.completions, concurrency=1)
    there = list(read_jsonl(tmp_path / "out" / "answers-cot.jsonl", Answer))
    assert [results.texts for results in there] == [list(results.texts) for results in local_answers] and local_answers[
        0
    ].texts[0]
    assert [results.prompt_hash for results in there] == [results.prompt_hash for results in local_answers]


def test_missing_samples_are_requested_again(tmp_path: Path) -> None:
    with scripted(lambda body: answers_all_but()(body)[:1]) as server:
        scores = evaluate(server, tmp_path, ClosedBookCoT(samples=3), count=4)
        assert scores["samples"] == 12 and scores["accuracy"] == 1.0
        assert len(server.requests) == 12 and {body["seed"] for _, body in server.requests} == {0, 1, 2}


def test_rejected_prompt_counts_as_wrong(tmp_path: Path) -> None:
    def answers(body: dict[str, Any]) -> list[str] | int:
        return 400 if "number 2?" in str(body) else answers_all_but()(body)

    with scripted(answers) as server:
        scores = evaluate(server, tmp_path, ClosedBookCoT(samples=4), count=4)
    assert scores["accuracy"] == 0.75 and scores["questions"] == 4 and scores["unparsed"] == {"error: HTTP 400": 4}


def test_unanswered_questions_are_retried_by_the_next_run(tmp_path: Path) -> None:
    down = {"number 2?"}

    def answers(body: dict[str, Any]) -> list[str] | int:
        return 500 if any(item in str(body) for item in down) else answers_all_but()(body)

    with scripted(answers) as server:
        with pytest.raises(LLMError, match="1 of 4 prompts were not answered"):
            evaluate(server, tmp_path, ClosedBookCoT(samples=2), count=4, attempts=1)
        assert not (tmp_path / "out" / "scores.json").exists()
        down.clear()
        before = len(server.requests)
        assert evaluate(server, tmp_path, ClosedBookCoT(samples=2), count=4, attempts=1)["accuracy"] == 1.0
        assert len(server.requests) == before + 1
    results = list(read_jsonl(tmp_path / "out" / "answers-cot.jsonl", Answer))
    assert [item.question_id for item in results] == ["q0", "q1", "q2", "q3"]
