"""Agreement of judges and of a person on the free-form answers of a study."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entigraph.analysis.answer_judges import AnswerJudges
from entigraph.analysis.base import analysis_output, run_analysis
from entigraph.analysis.factuality.judges import JudgedConfiguration
from entigraph.config.fields import content_fields
from entigraph.errors import ConfigError, DataError, LLMError
from entigraph.pipeline.cost_estimate import judge_lines
from entigraph.storage.artifact import write_json
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Answer
from tests.analysis.studies import make_context, make_run, study_folder
from tests.evaluation.scripted_server import scripted

RESPONSES = ["Miriam Vale", "", "I'm sorry, but I can't help with that request.", *(f"name {n}" for n in range(17))]


def study(root: Path, judged: bool = True) -> Any:
    """A run with twenty short answers, of which a judge decided the last seventeen: the even ones are correct."""
    run = make_run(root, "entigraph", 25_000, 0, 0.5, np.random.default_rng(0))
    folder = root / run.entry["evaluation"]
    verdicts = [
        "correct",
        "not_attempted",
        "not_attempted",
        *("correct" if n % 2 == 0 else "incorrect" for n in range(17)),
    ]
    answers = [
        Answer(
            question_id=f"q{number:02}", document_id="d", group="g", question="Who?", choices=(), answer=[],
            choice=None, correct=verdict == "correct", accepted=["Miriam Vale"], response=response, f1=0.0,
            verdict=verdict if judged else None,
        )
        for number, (response, verdict) in enumerate(zip(RESPONSES, verdicts, strict=True))
    ]  # fmt: skip
    write_jsonl(folder / "answers-free_form.jsonl", answers)
    scores = {"accuracy": 0.5, "questions": 20, "scored_by": "gpt-4o-mini" if judged else "exact match"}
    write_json(folder / "scores.json", {"free_form": scores})
    manifest = {"stage": "evaluation", "key": "k", "cache_key": {}, "inputs": {}, "files": {}, "counts": {}}
    write_json(folder / "manifest.json", manifest)
    return make_context(root, study_folder(root), [run])


def analyze(context: Any, **options: Any) -> tuple[dict[str, Any], Path, list[str]]:
    analysis = AnswerJudges(**options)
    fields = {name: value for name, value in content_fields(analysis).items() if name not in ("judge", "second")}
    output = analysis_output(analysis, context, fields)
    lines = run_analysis(analysis, output, context)
    return json.loads((output.folder / "answer_judges.json").read_text()), output.folder, lines


def verdict_by_number(body: dict[str, Any]) -> list[str]:
    """A judge that finds the names 0 to 7 correct and all others wrong."""
    number = int(body["messages"][-1]["content"].rsplit("name ", 1)[1])
    return [json.dumps({"reason": "", "verdict": "correct" if number < 8 else "incorrect"})]


def test_two_judges_and_a_person_agree(tmp_path: Path) -> None:
    context = study(tmp_path)
    with scripted(verdict_by_number) as server:
        first, folder, _ = analyze(context, judge=server.model(model="other"))
        assert len(server.requests) == 17, "exact matches, empty answers and refusals are not judged"
        (pair,) = first["agreement"]
        assert (pair["one"], pair["other"], pair["compared"]) == ("evaluation", "judge", 17)
        assert pair["agreed"] == pytest.approx(8 / 17) and pair["pairs"]["correct, correct"] == 4
        expected = (9 * 8 + 8 * 9) / 17**2
        assert pair["kappa"] == pytest.approx((8 / 17 - expected) / (1 - expected))
        with (folder / "to_label.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 17 and {row["verdict"] for row in rows} == {""} and rows[0]["accepted"] == "Miriam Vale"
        labels = tmp_path / "labels.csv"
        lines = [f"{row['id']},{'correct' if n < 5 else 'incorrect' if n < 10 else ''}" for n, row in enumerate(rows)]
        labels.write_text("\n".join(["id,verdict", *lines]))
        second, other, printed = analyze(context, judge=server.model(model="other"), labels=str(labels))
        assert other != folder and len(server.requests) == 17, "replies come from the response cache"
    assert [(pair["one"], pair["other"]) for pair in second["agreement"]][1:] == [
        ("evaluation", "person"),
        ("judge", "person"),
    ]
    assert second["agreement"][1]["compared"] == 10 and second["no_verdict"] == {"person": {"not labeled": 7}}
    assert any(line.startswith("judge and person: agree on") and "kappa" in line for line in printed)


def test_labels_alone_need_no_judge(tmp_path: Path) -> None:
    context = study(tmp_path, judged=False)
    result, folder, _ = analyze(context, answers=5)
    assert result["answers"] == 5 and result["verdicts"] == {"evaluation": {"incorrect": 5}} and not result["agreement"]
    labels = tmp_path / "labels.csv"
    labels.write_text((folder / "to_label.csv").read_text().replace(",,Who?", ",correct,Who?", 1))
    (pair,) = analyze(context, answers=5, labels=str(labels))[0]["agreement"]
    assert pair["compared"] == 1 and pair["agreed"] == 0.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,verdict\nnothing,correct\n", "row 2: answer 'nothing' is not of this sample"),
        ("id,verdict\n{id},right\n", "verdict must be empty or one of correct, incorrect, not_attempted"),
        ("id,verdict\n{id},\n{id},\n", "row 3: answer .* is labeled twice"),
    ],
)
def test_bad_labels_raise_one_error(text: str, message: str, tmp_path: Path) -> None:
    context = study(tmp_path)
    labels = tmp_path / "labels.csv"
    labels.write_text(text.format(id="entigraph-25000-0/q05"))
    with pytest.raises(DataError, match=message):
        analyze(context, labels=str(labels))


def test_judge_in_prose_and_missing_answers_are_errors(tmp_path: Path) -> None:
    context = study(tmp_path)
    with (
        scripted(lambda body: ["Looks right to me."]) as server,
        pytest.raises(LLMError, match="no verdict on 17 of 17"),
    ):
        analyze(context, judge=server.model(model="prose"))
    with pytest.raises(DataError, match=r"analysis\.task must be one of free_form, got 'closed_book'"):
        analyze(context, task="closed_book")
    with pytest.raises(ConfigError, match=r"analysis\.labels: 'nowhere' is not a file"):
        AnswerJudges(labels="nowhere")
    write_json(tmp_path / "evaluation/entigraph-25000-0/scores.json", {"closed_book": {"accuracy": 0.5}})
    del context.runs[0].__dict__["scores"]
    with pytest.raises(DataError, match="evaluation=free_form"):
        analyze(context, answers=3)


def test_plan_states_the_cost_of_the_judges() -> None:
    with scripted(verdict_by_number) as server:
        analysis = AnswerJudges(
            judge=server.model(prices={"scripted": {"prompt": 1.0, "cached": 1.0, "completion": 2.0}})
        )
    (line,) = judge_lines(analysis, analysis.estimate_usage(JudgedConfiguration([100.0], {}, 2)))
    assert line.startswith("analysis.judge with scripted: 200 requests for answers of the study")
