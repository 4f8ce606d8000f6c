"""Two evaluations question by question: what the second lost and the first gained, and whether that may be chance."""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from entigraph.analysis.scaling.bootstrap import Block
from entigraph.analysis.settings import ScalingCurve
from entigraph.analysis.study_runs import FinishedRun, answers_of, augmenters
from entigraph.errors import DataError
from entigraph.storage.schemas import Answer, choice_text
from entigraph.tracking.base import Tracker

GAINED, LOST = "gained", "lost"
COLUMNS = ("one", "other", "task", "questions", GAINED, LOST, "both_right", "both_wrong", "difference", "p")
CHANGED = ("question_id", "document_id", "group", "change")


@dataclass(frozen=True)
class Answered:
    """What one model answered to a task. `name` is for people, `folder` is the evaluation's."""

    name: str
    folder: Path
    task: str

    @cached_property
    def answers(self) -> list[Answer]:
        return answers_of(self.folder, self.task)


def of_study(runs: Sequence[FinishedRun], settings: ScalingCurve) -> list[dict[str, Any]]:
    """The best run of each augmenter beside the base model, and beside the best run of each less processed one that was
    asked the same questions; the most processed first. `best_of`: from how many each was chosen, by these questions.
    """
    found = []
    counts = Counter(run.augmenter for run in runs)
    names = augmenters(runs)
    for place in reversed(range(len(names))):
        own = best([run for run in runs if run.augmenter == names[place]])
        mine = answered(own)
        for other in reversed(names[:place]):
            same = [run for run in runs if run.augmenter == other and run.questions_key == own.questions_key]
            if same:
                pair = compared(mine, answered(best(same)), settings.confidence, settings.resamples)
                found.append({**pair, "best_of": [counts[names[place]], len(same)]})
        if own.baseline is not None:
            before = Answered("base", own.folder("baseline"), own.task)
            pair = compared(mine, before, settings.confidence, settings.resamples)
            found.append({**pair, "best_of": [counts[names[place]], 1]})
    return found


def best(runs: Sequence[FinishedRun]) -> FinishedRun:
    return max(runs, key=lambda run: (run.score["accuracy"], run.name))


def answered(run: FinishedRun) -> Answered:
    name = f"{run.augmenter}, {run.synthetic_tokens:,} tokens, seed {run.seed}"
    return Answered(name, run.folder("evaluation"), run.task)


def compared(one: Answered, other: Answered, confidence: float, resamples: int) -> dict[str, Any]:
    """Over the questions that both were asked, in the same words; one that was not answered is wrong.

    `p` is McNemar's exact test (1947): of the questions that changed, as many gained as lost, each on its own. The
    interval of the `difference` draws whole documents. Raises DataError where no question is the same.
    """
    from scipy.stats import binomtest

    theirs = {(answer.question_id, answer.question): answer for answer in other.answers}
    both = [(mine, theirs[key]) for mine in one.answers if (key := (mine.question_id, mine.question)) in theirs]
    if not both:
        raise DataError(f"{one.folder.name} and {other.folder.name} have no question in common")
    difference = np.array([mine.correct - their.correct for mine, their in both], dtype=float)
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    right = sum(mine.correct and their.correct for mine, their in both)
    return {
        "one": one.name,
        "other": other.name,
        "task": one.task,
        "folders": [one.folder.name, other.folder.name],
        "questions": len(both),
        "documents": len({mine.document_id for mine, _ in both}),
        "left_out": [len(one.answers) - len(both), len(other.answers) - len(both)],
        "accuracy": [(right + gained) / len(both), (right + lost) / len(both)],
        "both_right": right,
        GAINED: gained,
        LOST: lost,
        "both_wrong": len(both) - right - gained - lost,
        "difference": float(difference.mean()),
        "confidence": confidence,
        "interval": interval(difference, [mine.document_id for mine, _ in both], confidence, resamples),
        "p": float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
        "groups": groups(both),
        "changed": [changed(mine, their) for mine, their in both if mine.correct != their.correct],
    }


def interval(difference: "np.ndarray[Any, Any]", documents: Sequence[str], confidence: float, resamples: int) -> Any:
    numbers = np.unique(documents, return_inverse=True)[1]
    block = Block(zlib.crc32("\n".join(documents).encode()), np.array([0]), difference[None], numbers)
    drawn = difference.mean() + block.deviations(resamples)[:, 0]
    return np.quantile(drawn, ((1 - confidence) / 2, (1 + confidence) / 2)).tolist()


def groups(both: Sequence[tuple[Answer, Answer]]) -> dict[str, dict[str, int]]:
    """By kind of question: how many there are, gained and lost."""
    found: dict[str, dict[str, int]] = {}
    for mine, their in sorted(both, key=lambda pair: pair[0].group):
        own = found.setdefault(mine.group, {"questions": 0, GAINED: 0, LOST: 0})
        own["questions"] += 1
        own[GAINED] += mine.correct > their.correct
        own[LOST] += mine.correct < their.correct
    return found


def changed(mine: Answer, their: Answer) -> dict[str, Any]:
    """`one` and `other`: the option that each chose; null where it gave none."""
    return {
        "change": GAINED if mine.correct else LOST,
        "question_id": mine.question_id,
        "document_id": mine.document_id,
        "group": mine.group,
        "question": mine.question,
        "right": choice_text(mine.choices, mine.answer),
        "one": option(mine),
        "other": option(their),
    }


def option(answer: Answer) -> str | None:
    return None if answer.choice is None else choice_text(answer.choices, answer.choice)


def track(tracker: Tracker, pairs: Sequence[Mapping[str, Any]]) -> None:
    """As tables: one row a pair, and one a question that changed; its words only where texts may be uploaded."""
    columns = [*CHANGED, *(("question", "right") if tracker.log_texts else ())]
    tracker.table("paired", COLUMNS, [[pair[column] for column in COLUMNS] for pair in pairs])
    rows = [
        [pair["one"], pair["other"], *(each[column] for column in columns)]
        for pair in pairs
        for each in pair["changed"]
    ]
    tracker.table("changed_questions", ["one", "other", *columns], rows)


def told(pair: Mapping[str, Any]) -> list[str]:
    (low, high), (mine, theirs) = pair["interval"], pair["accuracy"]
    left_out = sum(pair["left_out"])
    return [
        f"{pair['one']} minus {pair['other']}",
        f"{pair['task']}: {pair['questions']:,} questions about {pair['documents']:,} documents"
        + (f"; {left_out:,} that only one was asked are left out" if left_out else ""),
        f"accuracy {mine:.3f} and {theirs:.3f}, difference {100 * pair['difference']:+.1f} "
        f"points ({100 * low:+.1f} to {100 * high:+.1f}, {pair['confidence']:.0%}, by document)",
        f"gained {pair[GAINED]:,}, lost {pair[LOST]:,}, right in both {pair['both_right']:,}, "
        f"wrong in both {pair['both_wrong']:,}; McNemar's exact test: p = {pair['p']:.2g}",
        *([f"note: {pair['label']}"] if pair["label"] else []),
    ]
