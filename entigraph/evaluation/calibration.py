"""Calibration: whether a fraction p of the answers with confidence p is correct (Guo et al. 2017).

The confidence in a free-form answer is its probability given the prompt. The confidence in a choice is its probability
among the choices of the question, or the fraction of the other samples that chose it.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import exp
from typing import Any

from entigraph.evaluation.scoring import accuracy, mean
from entigraph.storage.schemas import Answer, AnswerLikelihood, choice_set

NUM_BINS = 10  # equal-width


def score_calibration(answers: Iterable[Answer], confidences: Mapping[str, float]) -> dict[str, Any]:
    """Returns {"calibration": ...}: the accuracy and mean confidence of each nonempty bin. Empty without confidences.

    `confidences` maps question ids to confidences. `expected_error` is the expected calibration error (ECE): the mean
    |accuracy - confidence| over bins, weighted by their number of answers.
    """
    bins: dict[int, list[Answer]] = {}
    for answer in answers:
        if answer.question_id in confidences:
            bins.setdefault(min(NUM_BINS - 1, int(NUM_BINS * confidences[answer.question_id])), []).append(answer)
    if not bins:
        return {}
    rows = [summarize_bin(index, bins[index], confidences) for index in sorted(bins)]
    total = sum(row["questions"] for row in rows)
    calibration = {
        "questions": total,
        "confidence": sum(row["confidence"] * row["questions"] for row in rows) / total,
        "expected_error": sum(abs(row["accuracy"] - row["confidence"]) * row["questions"] for row in rows) / total,
        "bins": rows,
    }
    return {"calibration": calibration}


def answer_confidences(likelihoods: Iterable[AnswerLikelihood]) -> dict[str, float]:
    """Returns the confidences in the free-form answers whose likelihood is known."""
    return {record.question_id: exp(-record.nats) for record in likelihoods if record.nats is not None}


def choice_confidences(answers: Iterable[Answer]) -> dict[str, float]:
    """Returns the confidences in the chosen answers, if they have likelihoods or several parsed samples."""
    confidences = {}
    for answer in answers:
        chosen = choice_set(answer.choice)
        samples = [choice_set(choice) for choice in answer.samples if choice is not None]
        if answer.scores and isinstance(answer.choice, int):
            weights = [exp(score - max(answer.scores)) for score in answer.scores]
            confidences[answer.question_id] = weights[answer.choice] / sum(weights)
        elif chosen and len(samples) > 1:
            confidences[answer.question_id] = (samples.count(chosen) - 1) / (len(samples) - 1)
    return confidences


def summarize_bin(index: int, answers: Sequence[Answer], confidences: Mapping[str, float]) -> dict[str, Any]:
    return {
        "from": index / NUM_BINS,
        "to": (index + 1) / NUM_BINS,
        "confidence": mean([confidences[answer.question_id] for answer in answers]),
        **accuracy(answers),
    }
