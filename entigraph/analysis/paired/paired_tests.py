"""Compares two evaluations question by question: which answers changed, and whether the difference is significant."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from entigraph.analysis.document_bootstrap import Resampling, Vector, difference_deviations
from entigraph.analysis.study_runs import StudyRun, by_augmenter, load_answers
from entigraph.errors import DataError
from entigraph.storage.schemas import Answer
from entigraph.tracking.base import Tracker

GAINED, LOST = "gained", "lost"
COLUMNS = ("one", "other", "task", "questions", GAINED, LOST, "both_right", "both_wrong", "difference", "p")
CHANGE_COLUMNS = ("group", "change")
TEXT_COLUMNS = ("question_id", "document_id", "question", "right")  # IDs of your own documents are their file names

AnswerPairs = Sequence[tuple[Answer, Answer]]


@dataclass(frozen=True)
class AnsweredTask:
    """The answers of one model to a task. `name` is printed; `folder` is the evaluation's."""

    name: str
    folder: Path
    task: str

    @cached_property
    def answers(self) -> list[Answer]:
        return load_answers(self.folder, self.task)


def pair_study(runs: Sequence[StudyRun], resampling: Resampling) -> list[dict[str, Any]]:
    """Compares the best run of each augmenter with the best run of each less processed one and with the base model.

    Only runs with the same questions are compared; the most processed augmenter comes first. `best_of`
    states from how many runs each was chosen, by these same questions.
    """
    pairs = []
    series = [*by_augmenter(runs).values()]
    for index, candidates in reversed([*enumerate(series)]):
        run = best_run(candidates)
        others = [
            (answered_by(best_run(peers)), len(peers))
            for other in reversed(series[:index])
            if (peers := [peer for peer in other if peer.questions_key == run.questions_key])
        ]
        if base := run.finished_folder("baseline"):
            others.append((AnsweredTask("base", base, run.task), 1))
        answered = answered_by(run)
        pairs += [
            {**compare_answers(answered, other, resampling), "best_of": [len(candidates), count]}
            for other, count in others
        ]
    return pairs


def best_run(runs: Sequence[StudyRun]) -> StudyRun:
    return max(runs, key=lambda run: (run.score["accuracy"], run.name))


def answered_by(run: StudyRun) -> AnsweredTask:
    name = f"{run.augmenter}, {run.synthetic_tokens:,} tokens, seed {run.seed}"
    return AnsweredTask(name, run.folder("evaluation"), run.task)


def compare_answers(one: AnsweredTask, other: AnsweredTask, resampling: Resampling) -> dict[str, Any]:
    """Compares two models over the questions that both have, with the same text; a missing answer counts as incorrect.

    Raises DataError if no question is shared.
    """
    pairs = pair_answers(one, other)
    return {
        "one": one.name,
        "other": other.name,
        "task": one.task,
        "folders": [one.folder.name, other.folder.name],
        "left_out": [len(one.answers) - len(pairs), len(other.answers) - len(pairs)],
        **compare_pairs(pairs, resampling),
        "changed": [describe_change(first, second) for first, second in pairs if first.correct != second.correct],
    }


def pair_answers(one: AnsweredTask, other: AnsweredTask) -> AnswerPairs:
    """Returns the answers to the questions that both have. Raises DataError if there are none."""
    other_answers = {(answer.question_id, answer.question): answer for answer in other.answers}
    pairs = [
        (answer, other_answers[key])
        for answer in one.answers
        if (key := (answer.question_id, answer.question)) in other_answers
    ]
    if not pairs:
        raise DataError(f"{one.folder.name} and {other.folder.name} have no question in common")
    return pairs


def compare_pairs(pairs: AnswerPairs, resampling: Resampling) -> dict[str, Any]:
    """Returns accuracies, gained and lost questions, and the difference with its interval and p-value.

    `p` is McNemar's exact test (1947): under the null hypothesis, as many of the changed questions are gained as lost,
    independently. The interval of the `difference` resamples whole documents (see `difference_deviations`).
    """
    from scipy.stats import binomtest

    difference = np.array([first.correct - second.correct for first, second in pairs], dtype=float)
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    both_correct = sum(first.correct and second.correct for first, second in pairs)
    documents = [first.document_id for first, _ in pairs]
    return {
        "questions": len(pairs),
        "documents": len(set(documents)),
        "accuracy": [(both_correct + gained) / len(pairs), (both_correct + lost) / len(pairs)],
        "both_right": both_correct,
        GAINED: gained,
        LOST: lost,
        "both_wrong": len(pairs) - both_correct - gained - lost,
        "difference": float(difference.mean()),
        "confidence": resampling.confidence,
        "interval": difference_interval(difference, documents, resampling),
        "p": float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
        "groups": count_by_group(pairs),
    }


def difference_interval(difference: Vector, documents: list[str], resampling: Resampling) -> list[float]:
    key = zlib.crc32("\n".join(documents).encode())
    return resampling.interval(difference.mean() + difference_deviations(key, difference, documents, resampling))


def count_by_group(pairs: AnswerPairs) -> dict[str, dict[str, int]]:
    """Returns the number of questions, gained and lost, by kind of question."""
    groups: dict[str, dict[str, int]] = {}
    for first, second in sorted(pairs, key=lambda pair: pair[0].group):
        counts = groups.setdefault(first.group, {"questions": 0, GAINED: 0, LOST: 0})
        counts["questions"] += 1
        counts[GAINED] += first.correct > second.correct
        counts[LOST] += first.correct < second.correct
    return groups


def describe_change(first: Answer, second: Answer) -> dict[str, Any]:
    """`one` and `other` are the options or free-form answers that each gave; null if it gave none."""
    return {
        "change": GAINED if first.correct else LOST,
        "question_id": first.question_id,
        "document_id": first.document_id,
        "group": first.group,
        "question": first.question,
        "right": first.correct_text,
        "one": first.given_text,
        "other": second.given_text,
    }


def log_pairs(tracker: Tracker, pairs: Sequence[Mapping[str, Any]]) -> None:
    """Logs one row per pair, and one per changed question; what it is only if texts may be uploaded."""
    columns = [*CHANGE_COLUMNS, *(TEXT_COLUMNS if tracker.log_texts else ())]
    tracker.log_table("paired", COLUMNS, [[pair[column] for column in COLUMNS] for pair in pairs])
    rows = [
        [pair["one"], pair["other"], *(change[column] for column in columns)]
        for pair in pairs
        for change in pair["changed"]
    ]
    tracker.log_table("changed_questions", ["one", "other", *columns], rows)


def pair_lines(pair: Mapping[str, Any]) -> list[str]:
    (low, high), (first, second) = pair["interval"], pair["accuracy"]
    left_out = sum(pair["left_out"])
    return [
        f"{pair['one']} minus {pair['other']}",
        f"{pair['task']}: {pair['questions']:,} questions about {pair['documents']:,} documents"
        + (f"; {left_out:,} that only one answered are left out" if left_out else ""),
        f"accuracy {first:.3f} and {second:.3f}, difference {100 * pair['difference']:+.1f} "
        f"points ({100 * low:+.1f} to {100 * high:+.1f}, {pair['confidence']:.0%}, by document)",
        f"gained {pair[GAINED]:,}, lost {pair[LOST]:,}, correct in both {pair['both_right']:,}, "
        f"incorrect in both {pair['both_wrong']:,}; McNemar's exact test: p = {pair['p']:.2g}",
        *pair.get("data_losses", ()),
        *([f"note: {pair['label']}"] if pair["label"] else []),
    ]
