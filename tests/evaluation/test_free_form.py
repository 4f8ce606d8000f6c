"""Short free-form answers: prompts, scores, and a judge at an endpoint with scripted replies."""

import gzip
import json
import re
from base64 import b64decode
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from lxml import html

from entigraph.errors import ConfigError, DataError, LLMError
from entigraph.evaluation import evaluation_report, stage
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import Generation, RetrievedPassages, TaskInputs
from entigraph.evaluation.evaluation_report import answer_state, score_rows
from entigraph.evaluation.models_under_test import EndpointModel
from entigraph.evaluation.tasks.answer_loss import AnswerLoss
from entigraph.evaluation.tasks.closed_book import ClosedBook
from entigraph.evaluation.tasks.free_form import FreeForm, build_answer
from entigraph.evaluation.tasks.open_book import OpenBook, OpenBookFreeForm
from entigraph.llm.offline.offline_writer import OfflineWriter
from entigraph.pipeline.cost_estimate import answer_judge_lines
from entigraph.pipeline.dry_run import engine_lines
from entigraph.pipeline.run import Run
from entigraph.retrieval.base import build_query
from entigraph.storage.data_losses import collect_data_losses, render_data_losses
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.question_files import read_questions
from entigraph.storage.schemas import Answer, AnswerLikelihood, Question
from tests.conftest import Command
from tests.evaluation.sample_questions import evaluate_tasks, make_question, write_inputs
from tests.evaluation.scripted_server import Scripted, scripted

REPLIES = ["Miriam Vale", "It was Captain Holloway", "I do not know.", "Tobias", ""]


def questions(count: int = 5) -> list[Question]:
    accepted = [["Miriam Vale", "Vale"], ["Captain Holloway"], ["Orsk"], ["the Meridian"], ["a ledger"]]
    return [
        make_question(number, text=f"What is number {number}?", choices=[], answer=[], accepted=accepted[number])
        for number in range(count)
    ]


def reply_to_question(body: dict[str, Any]) -> list[str]:
    """The model under test: returns the reply with the question's number."""
    return [REPLIES[int(body["messages"][-1]["content"].rsplit("number ", 1)[1].split("?")[0])]]


def evaluate(server: Scripted, folder: Path, judge: Any = None, **options: Any) -> dict[str, Any]:
    source = write_inputs(folder, questions())
    task = FreeForm(judge=judge, **options)
    stage.run(
        EndpointModel(server.model(), folder / "cache"),
        folder / "out",
        tasks={"short": task},
        inputs={"short": source},
        response_cache=folder / "cache",
    )
    scores: dict[str, Any] = json.loads((folder / "out" / "scores.json").read_text())["short"]
    return scores


def test_exact_match_and_f1_of_an_endpoint(tmp_path: Path) -> None:
    with scripted(reply_to_question) as server:
        scores = evaluate(server, tmp_path)
        _, body = server.requests[0]
        assert len(server.requests) == 5 and body["temperature"] == 0.0 and body["stop"] == ["\n"]
        assert body["messages"][-1]["content"].startswith("Question: Which planet is the largest")
        assert body["messages"][0]["content"].startswith("Answer the last question with the answer alone")
    assert scores["accuracy"] == scores["exact_match"]["accuracy"] == scores["metrics"]["exact_match"] == 0.2
    assert scores["f1"]["accuracy"] == scores["metrics"]["f1"] == pytest.approx((1 + 2 / 3) / 5)
    assert scores["questions"] == 5 and scores["empty"] == 1 and scores["scored_by"] == "exact match"
    assert render_data_losses(scores["data_losses"]) == "1 of 5 answers are empty (counted as incorrect)"
    first, second, *_ = read_jsonl(tmp_path / "out" / "answers-short.jsonl", Answer)
    assert first.accepted == ["Miriam Vale", "Vale"] and first.response == "Miriam Vale" and first.correct
    assert second.f1 == pytest.approx(2 / 3) and not second.correct


def judged(verdicts: dict[str, str]) -> Any:
    """The judge: returns the verdict on an answer. Questions for the model get the model's replies."""

    def answers(body: dict[str, Any]) -> list[str]:
        prompt = body["messages"][-1]["content"]
        if "### Answer to judge\n" not in prompt:
            return reply_to_question(body)
        return [verdicts[prompt.rsplit("### Answer to judge\n", 1)[1]]]

    return answers


VERDICTS = {
    "It was Captain Holloway": '{"reason": "the same person", "verdict": "correct"}',
    "I do not know.": '```json\n{"reason": "it does not know", "verdict": "not attempted"}\n```',
    "Tobias": '{"reason": "another name", "verdict": "incorrect"}',
}


def test_verdicts_of_the_judge_determine_accuracy(tmp_path: Path) -> None:
    with scripted(judged(VERDICTS)) as server:
        scores = evaluate(server, tmp_path, server.model(model="judge"))
        assert len(server.requests) == 5 + 3, "neither exact matches nor empty answers are judged"
        (tmp_path / "out" / "scores.json").unlink()
        assert evaluate(server, tmp_path, server.model(model="judge")) == scores
        assert len(server.requests) == 5 + 3, "replies come from the response cache"
    assert scores["accuracy"] == 0.4 and scores["exact_match"]["accuracy"] == 0.2 and scores["scored_by"] == "judge"
    assert scores["judged"]["verdicts"] == {"correct": 2, "not_attempted": 2, "incorrect": 1}
    assert scores["metrics"]["attempt_rate"] == 0.6 and scores["judged"]["abstention_rate"] == 0.4
    assert scores["metrics"]["correct_if_attempted"] == pytest.approx(2 / 3)
    answers = list(read_jsonl(tmp_path / "out" / "answers-short.jsonl", Answer))
    assert [answer.verdict for answer in answers] == [
        "correct",
        "correct",
        "not_attempted",
        "incorrect",
        "not_attempted",
    ]
    assert [answer_state(answer) for answer in answers] == [0, 0, 4, 1, 4]
    assert [row.label for row in score_rows(scores)][:3] == ["correct, judged by judge", "exact match", "F1"]


def test_refusal_counts_as_not_attempted(tmp_path: Path) -> None:
    refusal = "I'm sorry, but I can't help with that request."
    with scripted(lambda body: [refusal]) as server:
        scores = evaluate(server, tmp_path, server.model(model="judge"))
        assert len(server.requests) == 5, "the judge is not asked"
    assert scores["judged"]["verdicts"] == {"not_attempted": 5} and scores["judged"]["abstention_rate"] == 1.0
    rows = {row.label: row.score for row in score_rows(scores)}
    assert rows["attempted, of those with a verdict"] == 0.0 and "correct if attempted" not in rows


def test_report_lists_accepted_answers_and_verdicts(tmp_path: Path) -> None:
    with scripted(judged(VERDICTS)) as server:
        evaluate(server, tmp_path, server.model(model="judge"))
    source = TaskInputs(tmp_path / "questions.jsonl", tmp_path / "documents.jsonl")
    page = html.fromstring(evaluation_report.write(tmp_path / "out", {"short": source}, name="a run").read_text())
    listing, (*_, last) = (unpack(page, name) for name in ("questions-0", "details-0-0"))
    assert listing["choices"][0] == ["Miriam Vale", "Vale"] and listing["answer"][0] == [0, 1]
    assert listing["state"] == [0, 0, 4, 1, 4] and last["verdict"] == "not_attempted" and last["f1"] == 0.0
    assert "correct, judged by judge" in page.text_content()


def unpack(page: Any, name: str) -> Any:
    return json.loads(gzip.decompress(b64decode(page.get_element_by_id(name).text)))


def test_missing_verdict_is_a_data_loss(tmp_path: Path) -> None:
    with scripted(judged({**VERDICTS, "Tobias": "I think that this one is wrong."})) as server:
        scores = evaluate(server, tmp_path, server.model(model="judge"))
    assert scores["judged"]["missing"] == {"no verdict in the reply": 1} and scores["accuracy"] == 0.4
    lost = render_data_losses(scores["data_losses"])
    assert "1 of 5 answers have no verdict of the judge (counted as incorrect)" in lost


def test_judge_that_replies_in_prose_raises_one_error(tmp_path: Path) -> None:
    with (
        scripted(judged(dict.fromkeys(VERDICTS, "The answer looks fine to me."))) as server,
        pytest.raises(LLMError, match=r"no verdict on 3 of 3 answers .* 'The answer looks fine to me.'.* in JSON"),
    ):
        evaluate(server, tmp_path, server.model(model="judge"))
    assert not (tmp_path / "out" / "scores.json").exists()


def test_next_run_retries_a_judge_that_was_down(tmp_path: Path) -> None:
    down = ["Tobias"]

    def answers(body: dict[str, Any]) -> list[str] | int:
        failing = any(body["messages"][-1]["content"].endswith(f"judge\n{text}") for text in down)
        return 500 if failing else judged(VERDICTS)(body)

    with scripted(answers) as server:
        judge = server.model(model="judge", attempts=1)
        with pytest.raises(LLMError, match="left 1 of 3 answers without an answer"):
            evaluate(server, tmp_path, judge)
        down.clear()
        before = len(server.requests)
        assert evaluate(server, tmp_path, judge)["accuracy"] == 0.4
        assert len(server.requests) == before + 1


def test_offline_judge_is_labeled_as_simulated(tmp_path: Path) -> None:
    with scripted(reply_to_question) as server:
        scores = evaluate(server, tmp_path, OfflineWriter())
    assert scores["judged"]["judge"] == "offline (simulated: compares words)"
    assert scores["judged"]["verdicts"] == {"correct": 2, "not_attempted": 2, "incorrect": 1}


def test_local_model_answers_with_and_without_passages(backend: TransformersBackend) -> None:
    task = FreeForm(max_tokens=4, stop=["."])
    answers = list(task.answers(questions(3), backend))
    assert sorted(answer.question_id for answer in answers) == ["q0", "q1", "q2"]
    assert all("." not in answer.response for answer in answers)
    passages = RetrievedPassages(["The lamp of Orsk."], True, None)
    (open_book,) = OpenBookFreeForm(max_tokens=4).answers(questions(1), backend, lambda question: passages)
    assert open_book.retrieved == 1 and open_book.article_shown
    prompt = OpenBookFreeForm(examples=None).build_prompt(questions(1)[0], ["The lamp of Orsk."])
    assert prompt == "Passage: The lamp of Orsk.\n\nQuestion: What is number 0?\nAnswer:"
    (overflowed,) = FreeForm(max_tokens=5_000).answers(questions(1), backend)
    assert overflowed.overflowed and not overflowed.correct


def test_multiple_choice_questions_are_asked_without_their_choices(tmp_path: Path) -> None:
    question = make_question(1)
    answer = build_answer(question, "", [Generation(" In the document.")], None)
    assert answer.correct and answer.correct_text == "in the document"
    (loaded,) = OpenBookFreeForm().load_questions(write_inputs(tmp_path, [question]))
    assert build_query(loaded, with_choices=True) == question.text, "the choices would reveal the answer"
    assert OpenBookFreeForm().question_selection != OpenBook().question_selection
    assert "nowhere at all" not in FreeForm().build_prompt(question)


def test_questions_without_a_short_answer_are_rejected(tmp_path: Path) -> None:
    source = write_inputs(tmp_path, [make_question(0, answer=[0, 2])])
    with pytest.raises(DataError, match="q0 may have several correct choices"):
        FreeForm().load_questions(source)
    source = write_inputs(tmp_path, questions(1))
    with pytest.raises(DataError, match="q0 has no choices; .*evaluation=free_form"):
        ClosedBook().load_questions(source)
    assert FreeForm().estimate_usage(source).max_completion_tokens == 32


@pytest.mark.parametrize("options", [{"prompt": "?"}, {"examples": "nothing"}, {"max_tokens": 0}, {"judge": "gpt"}])
def test_invalid_settings_raise_config_error(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="evaluation"):
        FreeForm(**options)


def test_question_file_with_accepted_answers(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    line = {"document": "a.txt", "question": "Who?", "answers": ["Miriam Vale", "Vale"]}
    file.write_text(json.dumps(line) + "\n" + json.dumps({**line, "question": "Who else?", "answers": "Tobias"}) + "\n")
    first, second = read_questions(file, ["a.txt"])
    assert first.accepted == ["Miriam Vale", "Vale"] and second.accepted == ["Tobias"] and not first.choices
    assert not first.multiple_answers
    file.write_text(json.dumps({**line, "answers": []}) + "\n")
    with pytest.raises(DataError, match=r"answers must be .*, got \[\]"):
        read_questions(file, ["a.txt"])


def test_plan_reports_a_judge_without_a_key(command_here: Command) -> None:
    """The judge is part of the configuration: a missing key is reported before anything runs."""
    overrides = ["evaluation=free_form", "llm@evaluation.free_form.judge=openai", "logger=none"]
    result = command_here("run", *overrides, "evaluation.free_form.judge.model=gpt-4o-mini", OPENAI_API_KEY="")
    assert result.returncode == 1 and "OPENAI_API_KEY" in result.stderr and "outputs" not in result.stdout


def test_plan_shows_the_cost_of_the_judge(configured: Callable[..., Run], tmp_path: Path) -> None:
    judge = ["llm@evaluation.free_form.judge=openai", "evaluation.free_form.judge.model=gpt-4o-mini"]
    run = configured("evaluation=free_form", *judge, "evaluation.free_form.limit=2")
    assert list(answer_judge_lines([run])) == [
        "evaluation.free_form.judge: its cost is unknown until the questions exist (run stage=corpus)"
    ]
    folder = run.artifacts.corpus.folder
    folder.mkdir(parents=True)
    write_inputs(folder, questions())
    (line,) = answer_judge_lines([run])
    assert re.fullmatch(
        r"evaluation\.free_form\.judge with gpt-4o-mini: up to 2 answers of each of 1 models, \$0\.0\d+; "
        r"stopped at max_cost_usd = 5\.0",
        line,
    )


def test_plan_shows_the_number_of_engines(configured: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    run = configured("llm=vllm", "engine=vllm", "engine.tensor_parallel_size=2", "llm.data_parallel_size=1")
    assert list(engine_lines(run)) == [
        "engine: 2 vLLM engines with 2 GPUs each (engine.data_parallel_size, engine.tensor_parallel_size)"
    ]


def test_complete_answers_have_no_data_losses() -> None:
    answers = [build_answer(question, "", [Generation("Vale")], None) for question in questions(1)]
    task = FreeForm()
    assert collect_data_losses(task.data_losses(task.score(answers))) == {}
    assert task.describe(task.score(answers)) == "exact match 1.000, F1 1.000 over 1 questions"


def test_loss_of_the_most_likely_accepted_answer(backend: TransformersBackend, tmp_path: Path) -> None:
    source = write_inputs(tmp_path, questions(2))
    evaluate_tasks(FixedBackend(backend), tmp_path / "out", source, loss=AnswerLoss(examples=None))
    first, _ = read_jsonl(tmp_path / "out" / "likelihoods-loss.jsonl", AnswerLikelihood)
    prompt = "Question: What is number 0?\nAnswer:"
    likelihoods = dict(backend.loglikelihoods([(prompt, " Miriam Vale"), (prompt, " Vale")], 512))
    assert first.nats == pytest.approx(-max(likelihoods.values()), abs=1e-4) and first.bytes == len(" Vale")
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["loss"]
    assert scores["questions"] == 2 and scores["metrics"]["nats_per_answer"] == scores["nats_per_answer"] > 0


class FixedBackend:
    """A model under test that is already loaded."""

    def __init__(self, backend: TransformersBackend) -> None:
        self.backend = backend

    def connect(self, notify: Any) -> Any:
        return nullcontext(self.backend)
