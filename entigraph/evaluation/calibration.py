"""Calibration: how often the answers are correct that a model finds as likely as it does (Guo et al. 2017).

The confidence in a free-form answer is the probability that the model gives to its whole text after the prompt.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import exp
from typing import Any

from entigraph.evaluation.scoring import accuracy, mean
from entigraph.storage.schemas import Answer, AnswerLikelihood

BINS = 10  # of equal width


def score_calibration(answers: Iterable[Answer], likelihoods: Iterable[AnswerLikelihood]) -> dict[str, Any]:
    """Returns the accuracy and mean confidence of each bin that has answers; empty if no likelihood is known.

    `expected_error` is the mean distance of accuracy and confidence over bins, weighted by their answers.
    """
    confidences = {record.question_id: exp(-record.nats) for record in likelihoods if record.nats is not None}
    bins: dict[int, list[Answer]] = {}
    for answer in answers:
        if answer.question_id in confidences:
            bins.setdefault(min(BINS - 1, int(BINS * confidences[answer.question_id])), []).append(answer)
    if not bins:
        return {}
    rows = [summarize_bin(number, bins[number], confidences) for number in sorted(bins)]
    total = sum(row["questions"] for row in rows)
    return {
        "questions": total,
        "confidence": sum(row["confidence"] * row["questions"] for row in rows) / total,
        "expected_error": sum(abs(row["accuracy"] - row["confidence"]) * row["questions"] for row in rows) / total,
        "bins": rows,
    }


def summarize_bin(number: int, answers: Sequence[Answer], confidences: Mapping[str, float]) -> dict[str, Any]:
    return {
        "from": number / BINS,
        "to": (number + 1) / BINS,
        "confidence": mean([confidences[answer.question_id] for answer in answers]),
        **accuracy(answers),
    }
