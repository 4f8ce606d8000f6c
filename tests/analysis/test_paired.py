"""Paired comparison of two evaluations: changed answers, significance and reports."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from entigraph.analysis.document_bootstrap import Resampling
from entigraph.analysis.paired.paired_tests import AnsweredTask, compare_answers, difference_interval, pair_study
from entigraph.errors import DataError
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Answer
from entigraph.tracking.base import Tracker
from tests.analysis.studies import make_context, make_run, run_scaling_curve
from tests.conftest import Command, study_of

FAST = Resampling(resamples=200)


def write_answers(
    folder: Path, correct: list[bool], documents: int = 5, first: int = 0, **changes: Any
) -> AnsweredTask:
    folder.mkdir(parents=True, exist_ok=True)
    answers = [
        Answer(
            **{
                "question_id": f"q{number:04}",
                "document_id": f"d{number % documents}",
                "group": "odd" if number % 2 else "even",
                "question": f"What is {number}?",
                "choices": ["this", "that"],
                "answer": 0,
                "choice": 0 if right else 1,
                "correct": right,
                **changes,
            }
        )
        for number, right in enumerate(correct, first)
    ]
    write_jsonl(folder / "answers-t.jsonl", answers)
    return AnsweredTask(folder.name, folder, "t")


def test_gained_lost_and_mcnemar_p_value(tmp_path: Path) -> None:
    one = write_answers(tmp_path / "one", [True] * 9 + [False] * 1 + [True] * 5 + [False] * 5)
    other = write_answers(tmp_path / "other", [False] * 9 + [True] * 1 + [True] * 5 + [False] * 5)
    pair = compare_answers(one, other, FAST)
    assert (pair["gained"], pair["lost"], pair["both_right"], pair["both_wrong"]) == (9, 1, 5, 5)
    assert pair["p"] == pytest.approx(2 * binom.cdf(1, 10, 0.5)), "two-sided, of the ten that changed"
    assert pair["accuracy"] == [0.7, 0.3] and pair["difference"] == pytest.approx(0.4)
    assert pair["groups"] == {
        "even": {"questions": 10, "gained": 5, "lost": 0},
        "odd": {"questions": 10, "gained": 4, "lost": 1},
    }
    changes = {item["question_id"]: item for item in pair["changed"]}
    assert len(changes) == 10 and changes["q0009"]["change"] == "lost"
    assert (changes["q0009"]["right"], changes["q0009"]["one"], changes["q0009"]["other"]) == ("this", "that", "this")
    swapped = compare_answers(other, one, FAST)
    assert swapped["difference"] == -pair["difference"] and swapped["p"] == pair["p"]


def test_identical_answers_have_no_difference(tmp_path: Path) -> None:
    same = [write_answers(tmp_path / name, [True, False] * 10) for name in ("one", "other")]
    pair = compare_answers(*same, FAST)
    assert (pair["p"], pair["difference"], pair["interval"], pair["changed"]) == (1.0, 0.0, [0.0, 0.0], [])


def test_questions_of_only_one_model_are_excluded(tmp_path: Path) -> None:
    pair = compare_answers(
        write_answers(tmp_path / "a", [True] * 10),
        write_answers(tmp_path / "b", [True] * 8, first=5),
        Resampling(resamples=50),
    )
    assert pair["questions"] == 5 and pair["left_out"] == [5, 3]
    other_questions = write_answers(tmp_path / "c", [True] * 10, question="Something else?")
    with pytest.raises(DataError, match="no question in common"):
        compare_answers(write_answers(tmp_path / "a", [True] * 10), other_questions, FAST)


def test_unanswered_question_counts_as_wrong(tmp_path: Path) -> None:
    unanswered = write_answers(tmp_path / "silent", [False] * 4, choice=None)
    pair = compare_answers(write_answers(tmp_path / "one", [True] * 4), unanswered, FAST)
    assert pair["gained"] == 4 and {item["other"] for item in pair["changed"]} == {None}


@pytest.mark.parametrize(("documents", "least"), [(4, 0.82), (30, 0.84)])
def test_interval_over_documents_has_its_stated_coverage(documents: int, least: float) -> None:
    """The difference varies from document to document; resampling questions instead of documents would undercover."""
    rng, covered, trials, questions_per_document = np.random.default_rng(0), 0, 200, 10
    names = [f"d{number % documents}" for number in range(questions_per_document * documents)]
    for _ in range(trials):
        gain = rng.uniform(-0.4, 0.8, documents)
        other = rng.random((questions_per_document, documents)) < 0.4
        one = np.where(rng.random((questions_per_document, documents)) < abs(gain), gain > 0, other)
        low, high = difference_interval((one.astype(float) - other).reshape(-1), names, Resampling(resamples=400))
        covered += low <= mean_gain() <= high
    assert least < covered / trials < 0.96


def test_interval_over_few_documents_is_not_narrower_than_over_questions() -> None:
    """Three documents with the same difference have no variance, but 90 questions are only 90 questions."""
    difference = np.tile([1.0, 0.0, 0.0, 0.0, 0.0, -1.0], 15)
    documents = [f"d{number // 30}" for number in range(90)]
    low, high = difference_interval(difference, documents, Resampling())
    independent = 1.645 * difference.std() / np.sqrt(len(difference))
    assert high - low == pytest.approx(2 * independent, rel=0.1)


def mean_gain() -> float:
    """Expected difference for a gain g, uniform in [-0.4, 0.8]: 0.6 g become correct, or 0.4 |g| incorrect."""
    return (0.6 * 0.8**2 / 2 - 0.4 * 0.4**2 / 2) / 1.2


def test_study_pairs_the_best_runs_on_the_same_questions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = [
        make_run(tmp_path, augmenter, budget, 0, accuracy, rng)
        for augmenter, budget, accuracy in (
            ("rephrase", 1_000, 0.5),
            ("entigraph", 1_000, 0.4),
            ("entigraph", 2_000, 0.9),
        )
    ]
    (pair,) = pair_study(runs, FAST)
    assert (pair["one"], pair["other"]) == ("entigraph, 2,000 tokens, seed 0", "rephrase, 1,000 tokens, seed 0")
    assert pair["gained"] > 5 * pair["lost"] and pair["p"] < 1e-6


class RecordingTracker(Tracker):
    def __init__(self, log_texts: bool) -> None:
        self.log_texts = log_texts
        self.tables: dict[str, tuple[list[str], list[list[Any]]]] = {}

    def log_table(self, name: str, columns: Any, rows: Any) -> None:
        self.tables[name] = [*columns], [[*row] for row in rows]


@pytest.mark.parametrize("log_texts", [False, True])
def test_study_report_and_tables_list_changed_questions(smoke: Path, tmp_path: Path, log_texts: bool) -> None:
    root = tmp_path / "moved"
    shutil.copytree(smoke, root)
    study = study_of(root)
    (study / "manifest.json").unlink()
    tracker = RecordingTracker(log_texts)
    run_scaling_curve(make_context(root, study), tracker)
    pairs = json.loads((study / "paired.json").read_text())
    names = {(pair["one"].split(",")[0], pair["other"].split(",")[0]) for pair in pairs}
    assert names == {
        ("entigraph", "rephrase"),
        ("entigraph", "raw"),
        ("rephrase", "raw"),
        *((name, "base") for name in ("entigraph", "rephrase", "raw")),
    }
    assert "paired.json" in json.loads((study / "manifest.json").read_text())["files"]
    columns, rows = tracker.tables["paired"]
    assert len(rows) == 6 and {"gained", "lost", "p", "difference"} <= {*columns}
    columns, rows = tracker.tables["changed_questions"]
    assert len(rows) == sum(pair["gained"] + pair["lost"] for pair in pairs) > 0
    assert ("question" in columns) == ("document_id" in columns) == log_texts
    page = (study / "report.html").read_text()
    assert "Question by question" in page
    for pair in pairs:
        for folder in pair["folders"]:
            assert (study / f"../../evaluation/{folder}/report.html").exists()
        for item in pair["changed"][:1]:
            assert f"evaluation/{pair['folders'][0]}/report.html#closed_book/{item['question_id']}" in page


def test_command_compares_two_finished_evaluations(smoke: Path, tmp_path: Path, command_here: Command) -> None:
    shutil.copytree(smoke, tmp_path / "outputs")
    options = ("analyze", "analysis=paired", "logger=none")
    names = sorted(folder.name for folder in (smoke / "evaluation").iterdir())
    raw, entigraph = (next(name for name in names if part in name) for part in ("-raw-", "-entigraph-"))
    result = command_here(*options, f"analysis.one={entigraph}", f"analysis.other={raw[:-3]}")
    assert result.returncode == 0, result.stderr
    assert f"{entigraph} minus {raw}" in result.stdout and "McNemar's exact test: p = " in result.stdout
    (folder,) = (tmp_path / "outputs" / "analysis").glob("paired-*")
    assert {"paired.html", "paired.json", "paired.png", "paired.svg"} <= {file.name for file in folder.iterdir()}
    rerun = command_here(*options, f"analysis.one={entigraph}", f"analysis.other={raw}")
    assert rerun.stdout == result.stdout, "the finished analysis is reused"
    for overrides, message in (
        ([], "analysis.one: not set, and this configuration has none"),
        (["analysis.one=nothing"], "analysis.one: 'nothing' is not a finished evaluation; name one of"),
        ([f"analysis.one={raw}", f"analysis.other={raw}"], f"both are {raw}"),
        ([f"analysis.one={raw}", f"analysis.other={entigraph}", "analysis.task=essay"], "analysis.task=essay: "),
        ([f"analysis.one={raw}", "analysis.other=smoke"], "analysis.other: 'smoke'"),
    ):
        failed = command_here(*options, *overrides)
        assert failed.returncode == 1 and message in failed.stderr, failed.stderr
