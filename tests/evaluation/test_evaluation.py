from pathlib import Path

import numpy as np
import pytest
import torch

from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import Prompt, Sampling
from entigraph.evaluation.models_under_test import LocalModel
from entigraph.evaluation.scoring import clustered_error, score_likelihoods
from entigraph.evaluation.tasks.closed_book import ClosedBook, choose_by_likelihood
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer
from tests.evaluation.sample_questions import evaluate_tasks, in_order, make_question, write_inputs


def test_loglikelihoods_match_single_forward_passes(backend: TransformersBackend) -> None:
    pairs = [("The question is", " the document"), ("The answer", " is here, and it is in the document"), ("The", " x")]
    scores = in_order(backend.loglikelihoods(pairs, 64))
    for (prompt, continuation), score in zip(pairs, scores, strict=True):
        before, ids = backend.encode(prompt), backend.encode(prompt + continuation)
        with torch.no_grad():
            logprobs = backend.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = sum(float(logprobs[position - 1, ids[position]]) for position in range(len(before), len(ids)))
        assert score == pytest.approx(expected, abs=1e-4)


def test_greedy_continuation_matches_generate(backend: TransformersBackend) -> None:
    prompt = "The answer to the question"
    ids = torch.tensor([backend.encode(prompt)])
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    theirs = backend.model.generate(ids, attention_mask=ids.new_ones(ids.shape), **options)
    expected = backend.tokenizer.decode(theirs[0, ids.shape[1] :].tolist()).partition(".")[0]
    questions = [Prompt("a", prompt), Prompt("b", "The"), Prompt("c", prompt)]
    results = dict(backend.sample(questions, Sampling(max_tokens=6, stop=(".",))))
    assert [results[0][0].text, results[2][0].text] == [expected, expected]


def test_choices_that_exceed_the_context_count_as_incorrect(backend: TransformersBackend) -> None:
    backend.max_length, kept = 60, backend.max_length
    try:
        questions = [make_question(0), make_question(1, text="The document " * 20)]
        answers = sorted(ClosedBook().answers(questions, backend), key=lambda answer: answer.question_id)
    finally:
        backend.max_length = kept
    assert answers[0].choice is not None
    assert answers[1].choice is None and answers[1].correct is False and answers[1].scores == []
    assert score_likelihoods(answers)["overflowed"] == 1 and score_likelihoods(answers)["questions"] == 2


def test_choice_by_sum_and_by_length() -> None:
    question = make_question(0, choices=["aa", "bbbbbbbb", "cc", "dd"], answer=1)
    answer = choose_by_likelihood(question, "", [-3.0, -4.0, -5.0, -6.0])
    assert (answer.choice, answer.choice_norm) == (0, 1)
    assert (answer.correct, answer.correct_norm) == (False, True)
    assert choose_by_likelihood(question, "", [-1.0, -1.0, -1.0, -1.0]).choice == 0, "the first of a tie"


def test_generated_thought_is_part_of_the_prompt(backend: TransformersBackend) -> None:
    prompts, thoughts = ClosedBook().build_prompts(
        [make_question(0), make_question(1, thought=True)], ["", ""], backend
    )
    assert prompts[0] == "Question: Where is the document? Answer:" and thoughts[0] == ""
    opening = "Question: Where is the document? Thought:"
    ((_, (generated,)),) = backend.sample([Prompt("a", opening)], Sampling(max_tokens=8, stop=(".",)))
    assert prompts[1] == f"{opening}{generated.text}. Answer:" and thoughts[1] == generated.text.strip()


def test_stage_writes_answers_and_scores(tiny_model: Path, tmp_path: Path) -> None:
    source = write_inputs(tmp_path, [make_question(number) for number in range(12)])
    tasks = {"all": ClosedBook(), "some": ClosedBook(limit=5)}
    candidate = LocalModel(str(tiny_model), "cpu", 1, tiny_model, 0)
    out = tmp_path / "out"
    scores = evaluate_tasks(candidate, out, source, **tasks)
    answers = list(read_jsonl(out / "answers-all.jsonl", Answer))
    assert len(answers) == scores["all"]["questions"] == 12 and scores["some"]["questions"] == 5
    assert scores["all"]["accuracy"] == sum(answer.correct for answer in answers) / 12
    assert {*scores["all"]["groups"]} == {"even", "odd"} and scores["all"]["chance"] == 0.25
    assert scores["all"]["groups"]["even"]["chance"] == 0.25
    assert all(len(answer.scores) == 4 for answer in answers)


def test_missing_or_duplicate_questions_raise_data_error(tiny_model: Path, tmp_path: Path) -> None:
    candidate = LocalModel(str(tiny_model), "cpu", 1, tiny_model, 0)
    for questions, message in (
        ([], "contains no questions"),
        ([make_question(1), make_question(1)], "two questions with the same id"),
    ):
        source = write_inputs(tmp_path, questions)
        with pytest.raises(DataError, match=message):
            evaluate_tasks(candidate, tmp_path, source, all=ClosedBook())


def test_prompt_without_placeholder_raises_config_error() -> None:
    with pytest.raises(ConfigError, match="lacks {question}"):
        ClosedBook(prompt="Answer:")


def test_clustered_interval_has_nominal_coverage() -> None:
    """Questions on one document share its difficulty; an interval that ignores this is too narrow."""
    rng = np.random.default_rng(0)
    documents, questions, covered, naive = 40, 10, 0, 0
    clusters = [f"d{document}" for document in range(documents) for _ in range(questions)]
    for _ in range(400):
        difficulty = rng.beta(2, 2, documents).repeat(questions)
        values = (rng.random(documents * questions) < difficulty).astype(float).tolist()
        error, mean = clustered_error(values, clusters), float(np.mean(values))
        covered += abs(mean - 0.5) < 1.645 * error
        naive += abs(mean - 0.5) < 1.645 * (mean * (1 - mean) / len(values)) ** 0.5
    assert 0.85 < covered / 400 < 0.95 and naive / 400 < 0.8


def test_error_for_one_document_assumes_independent_questions() -> None:
    assert clustered_error([1, 0, 1, 0], ["d"] * 4) == pytest.approx(0.25)
    assert clustered_error([], []) == 0.0


def test_error_for_few_documents_is_at_least_the_independent_error() -> None:
    agreeing = ([1.0, 0.0], ["a", "a"]), ([1.0, 0.0], ["b", "b"])
    values = [value for part, _ in agreeing for value in part]
    clusters = [cluster for _, part in agreeing for cluster in part]
    assert clustered_error(values, clusters) == pytest.approx(0.25)
