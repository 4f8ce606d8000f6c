import json
from pathlib import Path

import numpy as np
import pytest
import torch

from entigraph.errors import ConfigError, DataError
from entigraph.evaluation import stage
from entigraph.evaluation.backends.transformers_backend import TransformersBackend, batch_by_length
from entigraph.evaluation.base import Prompt, Sampling
from entigraph.evaluation.models_under_test import LocalModel
from entigraph.evaluation.scoring import clustered_error, score_likelihoods
from entigraph.evaluation.tasks.closed_book import ClosedBook, choose_by_likelihood
from entigraph.runtime.progress import SilentProgress
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer
from tests.evaluation.asked import a_question, a_source


def test_loglikelihoods_are_those_of_the_model_one_by_one(engine: TransformersBackend) -> None:
    pairs = [("The question is", " the document"), ("The answer", " is here, and it is in the document"), ("The", " x")]
    scores = engine.loglikelihoods(pairs, 64)
    for (prompt, continuation), score in zip(pairs, scores, strict=True):
        before, ids = engine.encode(prompt), engine.encode(prompt + continuation)
        with torch.no_grad():
            logprobs = engine.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = sum(float(logprobs[place - 1, ids[place]]) for place in range(len(before), len(ids)))
        assert score == pytest.approx(expected, abs=1e-4)


def test_greedy_continuation_is_transformers_own(engine: TransformersBackend) -> None:
    prompt = "The answer to the question"
    ids = torch.tensor([engine.encode(prompt)])
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    theirs = engine.model.generate(ids, attention_mask=ids.new_ones(ids.shape), **options)
    expected = engine.tokenizer.decode(theirs[0, ids.shape[1] :].tolist()).partition(".")[0]
    asked = [Prompt("a", prompt), Prompt("b", "The"), Prompt("c", prompt)]
    found = dict(engine.sample(asked, Sampling(max_tokens=6, stop=(".",))))
    assert [found[0][0].text, found[2][0].text] == [expected, expected]


def test_options_that_overflow_the_context_are_counted_as_wrong(engine: TransformersBackend) -> None:
    engine.max_length, kept = 60, engine.max_length
    try:
        questions = [a_question(0), a_question(1, text="The document " * 20)]
        answers = list(ClosedBook().answers(questions, engine))
    finally:
        engine.max_length = kept
    assert answers[0].choice is not None
    assert answers[1].choice is None and answers[1].correct is False and answers[1].scores == []
    assert score_likelihoods(answers)["overflowed"] == 1 and score_likelihoods(answers)["questions"] == 2


def test_the_choice_by_sum_and_by_length() -> None:
    question = a_question(0, choices=["aa", "bbbbbbbb", "cc", "dd"], answer=1)
    answer = choose_by_likelihood(question, "", [-3.0, -4.0, -5.0, -6.0])
    assert (answer.choice, answer.choice_norm) == (0, 1)
    assert (answer.correct, answer.correct_norm) == (False, True)
    assert choose_by_likelihood(question, "", [-1.0, -1.0, -1.0, -1.0]).choice == 0, "the first of a tie"


def test_a_thought_is_generated_and_stands_in_the_prompt(engine: TransformersBackend) -> None:
    prompts, thoughts = ClosedBook().build_prompts([a_question(0), a_question(1, thought=True)], ["", ""], engine)
    assert prompts[0] == "Question: Where is the document? Answer:" and thoughts[0] == ""
    opening = "Question: Where is the document? Thought:"
    ((_, (generated,)),) = engine.sample([Prompt("a", opening)], Sampling(max_tokens=8, stop=(".",)))
    assert prompts[1] == f"{opening}{generated.text}. Answer:" and thoughts[1] == generated.text.strip()


def test_the_stage_writes_every_answer_and_its_score(tiny_model: Path, tmp_path: Path) -> None:
    source = a_source(tmp_path, [a_question(number) for number in range(12)])
    tasks = {"all": ClosedBook(), "some": ClosedBook(limit=5)}
    subject = LocalModel(str(tiny_model), "cpu", 1, tiny_model, 0)
    out = tmp_path / "out"
    stage.run(subject, out, tasks=tasks, inputs={"all": source, "some": source}, progress=SilentProgress())
    scores = json.loads((out / "scores.json").read_text())
    answers = list(read_jsonl(out / "answers-all.jsonl", Answer))
    assert len(answers) == scores["all"]["questions"] == 12 and scores["some"]["questions"] == 5
    assert scores["all"]["accuracy"] == sum(answer.correct for answer in answers) / 12
    assert {*scores["all"]["groups"]} == {"even", "odd"} and scores["all"]["chance"] == 0.25
    assert all(len(answer.scores) == 4 for answer in answers)


def test_a_source_without_questions_or_with_one_twice_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    subject = LocalModel(str(tiny_model), "cpu", 1, tiny_model, 0)
    for questions, told in (
        ([], "holds no questions"),
        ([a_question(1), a_question(1)], "two questions with the same id"),
    ):
        source = a_source(tmp_path, questions)
        with pytest.raises(DataError, match=told):
            stage.run(subject, tmp_path, tasks={"all": ClosedBook()}, inputs={"all": source}, progress=SilentProgress())


def test_a_prompt_without_its_slot_is_refused() -> None:
    with pytest.raises(ConfigError, match="lacks {question}"):
        ClosedBook(prompt="Answer:")


def test_batches_hold_like_lengths_within_the_limit() -> None:
    lengths = [3, 50, 4, 7, 50, 200, 1]
    made = list(batch_by_length(lengths, 100))
    assert sorted(index for batch in made for index in batch) == list(range(7))
    assert all(len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= 100 for batch in made)


def test_the_clustered_interval_covers_as_often_as_it_says() -> None:
    """Questions of a document share its difficulty; an interval that ignores that covers far too seldom."""
    rng = np.random.default_rng(0)
    documents, questions, covered, naive = 40, 10, 0, 0
    clusters = [f"d{document}" for document in range(documents) for _ in range(questions)]
    for _ in range(400):
        difficulty = rng.beta(2, 2, documents).repeat(questions)
        values = (rng.random(documents * questions) < difficulty).astype(float).tolist()
        error, share = clustered_error(values, clusters), float(np.mean(values))
        covered += abs(share - 0.5) < 1.645 * error
        naive += abs(share - 0.5) < 1.645 * (share * (1 - share) / len(values)) ** 0.5
    assert 0.85 < covered / 400 < 0.95 and naive / 400 < 0.8


def test_one_document_falls_back_to_single_questions() -> None:
    assert clustered_error([1, 0, 1, 0], ["d"] * 4) == pytest.approx(0.25)
    assert clustered_error([], []) == 0.0


def test_few_documents_that_happen_to_agree_feign_no_certainty() -> None:
    agreeing = ([1.0, 0.0], ["a", "a"]), ([1.0, 0.0], ["b", "b"])
    values = [value for part, _ in agreeing for value in part]
    clusters = [cluster for _, part in agreeing for cluster in part]
    assert clustered_error(values, clusters) == pytest.approx(0.25)
