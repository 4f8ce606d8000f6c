"""Scores of answers, with denominators and confidence intervals.

A score is either a mapping with the value, its interval and the numbers of questions and documents, or a value and its
interval under two keys (`parse_rate`, `parse_rate_interval_90%`).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from math import comb, sqrt
from statistics import NormalDist
from typing import Any

from entigraph.storage.schemas import Answer, choice_set
from entigraph.text.answer_matching import exact_match

CONFIDENCE = 0.9
INTERVAL = f"interval_{CONFIDENCE:.0%}"
FEW_CLUSTERS = 10
PARTIAL_CREDIT = 0.25
AnswerScore = Callable[[Answer], float]


def score_likelihoods(answers: Sequence[Answer]) -> dict[str, Any]:
    """Returns the accuracy over all questions; prompts that exceed the context count as incorrect."""
    return {
        **accuracy(answers),
        **with_interval("accuracy_norm", answers, lambda answer: bool(answer.correct_norm)),
        **chance_and_overflow(answers),
        "groups": score_groups(answers),
    }


def score_samples(answers: Sequence[Answer], parsed_only: bool = False) -> dict[str, Any]:
    """Returns all scores of sampled answers.

    `accuracy` is computed from the selected sample of each question. Questions without a valid sample count as
    incorrect; with `parsed_only` they are excluded, as in the published code. `over_all` and `over_parsed` report both.
    `parse_rate` is the fraction of questions with a valid sample, `sample_parse_rate` is the fraction of valid samples,
    and `unparsed` counts the reasons why samples are invalid.
    """
    parsed = [answer for answer in answers if answer.choice is not None]
    scored = parsed if parsed_only else list(answers)
    sampled = [answer for answer in answers if answer.samples]
    return {
        **accuracy(scored),
        "denominator": "parsed questions" if parsed_only else "all questions",
        "over_all": accuracy(answers),
        "over_parsed": accuracy(parsed),
        "total_questions": len(answers),
        **with_interval("parse_rate", answers, lambda answer: answer.choice is not None),
        "samples": sum(len(answer.samples) for answer in answers),
        **with_interval("sample_parse_rate", sampled, valid_fraction),
        "unparsed": dict(sum((Counter(answer.unparsed) for answer in answers), Counter())),
        "expected_accuracy": accuracy(answers, expected_accuracy),
        "majority_vote": accuracy(answers, majority_vote),
        "pass_at": {str(n): accuracy(answers, partial(pass_at, n=n)) for n in sample_counts(answers)},
        **score_multiple_answers(answers),
        **chance_and_overflow(answers),
        "groups": score_groups(scored),
    }


def score_free_form(answers: Sequence[Answer], judge: str | None) -> dict[str, Any]:
    """Returns the scores of free-form answers. `accuracy` uses the verdicts of the judge, or exact match without one.

    Empty answers, and answers without a verdict, count as incorrect.
    """
    exact = accuracy(answers, lambda answer: exact_match(answer.response, answer.accepted))
    f1 = accuracy(answers, lambda answer: answer.f1 or 0.0)
    judged = (
        {"judged": score_verdicts(answers, judge)}
        if judge and any(answer.verdict or answer.verdict_missing for answer in answers)
        else {}
    )
    rates = ("attempt_rate", "correct_if_attempted")
    return {
        **accuracy(answers),
        "scored_by": judge if judged else "exact match",
        "exact_match": exact,
        "f1": f1,
        **judged,
        "metrics": {
            "exact_match": exact["accuracy"],
            "f1": f1["accuracy"],
            **{name: score[name] for score in judged.values() for name in rates},
        },
        "empty": sum(not answer.response and not answer.overflowed for answer in answers),
        "unfinished": dict(sum((Counter(answer.unparsed) for answer in answers), Counter())),
        **chance_and_overflow(answers),
        "groups": score_groups(answers),
    }


def score_groups(answers: Sequence[Answer]) -> dict[str, dict[str, Any]]:
    """Returns the accuracy and the chance level of each group of questions."""
    return {
        group: {**accuracy(members), "chance": mean([chance(answer) for answer in members])}
        for group, members in group_answers(answers).items()
    }


def score_verdicts(answers: Sequence[Answer], judge: str) -> dict[str, Any]:
    """Returns the counts of the verdicts, and rates. `correct_if_attempted` is the accuracy over attempted answers."""
    verdicts = Counter(answer.verdict for answer in answers if answer.verdict)
    judged = [answer for answer in answers if answer.verdict]
    attempted = [answer for answer in judged if answer.verdict != "not_attempted"]
    rated = len(judged)
    return {
        "judge": judge,
        "verdicts": dict(verdicts),
        "missing": dict(Counter(answer.verdict_missing for answer in answers if answer.verdict_missing)),
        "attempt_rate": len(attempted) / rated if rated else 0.0,
        "abstention_rate": verdicts["not_attempted"] / rated if rated else 0.0,
        "correct_if_attempted": mean([float(answer.correct) for answer in attempted]),
        "attempted": accuracy(attempted),
        "attempts": accuracy(judged, lambda answer: answer.verdict != "not_attempted"),
    }


def chance_and_overflow(answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "chance": mean([chance(answer) for answer in answers]),
        "overflowed": sum(answer.overflowed for answer in answers),
    }


def score_multiple_answers(answers: Sequence[Answer]) -> dict[str, Any]:
    """Returns the scores of the questions that may have several correct choices; empty if there are none.

    `exact`: 1 for exactly the correct choices, as in `accuracy`. `partial`: also 0.25 for a proper subset of the
    correct choices, L-Eval's rule for Coursera's exams (An et al. 2023; the paper, App. A.3, states no rule).
    `options`: the fraction of choices that are correctly chosen or correctly not chosen.
    """
    multiple = [answer for answer in answers if isinstance(answer.answer, list)]
    if not multiple:
        return {}
    scores: dict[str, AnswerScore] = {
        "exact": lambda answer: answer.correct,
        "partial": partial_credit,
        "options": accuracy_by_choice,
    }
    return {"multiple_answers": {name: accuracy(multiple, score) for name, score in scores.items()}}


def partial_credit(answer: Answer) -> float:
    chosen, correct = choice_set(answer.choice), choice_set(answer.answer)
    return 1.0 if chosen == correct else PARTIAL_CREDIT if chosen and chosen < correct else 0.0


def accuracy_by_choice(answer: Answer) -> float:
    """Returns the fraction of choices that are correctly chosen or not chosen; 0 for an answer without a choice."""
    chosen, correct = choice_set(answer.choice), choice_set(answer.answer)
    return 1 - len(chosen ^ correct) / len(answer.choices) if chosen else 0.0


def chance(answer: Answer) -> float:
    """Returns the accuracy of a random choice, or of a random nonempty set of choices; 0 without choices."""
    count = len(answer.choices)
    if not count:
        return 0.0
    return 1 / (2**count - 1) if isinstance(answer.answer, list) else 1 / count


def group_answers(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    groups: dict[str, list[Answer]] = {}
    for answer in sorted(answers, key=lambda answer: answer.group):
        groups.setdefault(answer.group, []).append(answer)
    return groups


def accuracy(answers: Sequence[Answer], score: AnswerScore = lambda answer: answer.correct) -> dict[str, Any]:
    return mean_with_interval("accuracy", answers, score)


def mean_with_interval(name: str, answers: Sequence[Answer], score: AnswerScore) -> dict[str, Any]:
    """Returns the mean score and its standard error, clustered by document: its questions are not independent."""
    values = [float(score(answer)) for answer in answers]
    average, error = mean(values), clustered_error(values, [answer.document_id for answer in answers])
    return {
        name: average,
        "stderr": error,
        INTERVAL: score_interval(average, error, len(answers)),
        "questions": len(answers),
        "documents": len({answer.document_id for answer in answers}),
    }


def score_interval(average: float, error: float, count: int) -> list[float]:
    """Returns the normal interval of a mean, or Wilson's (1927) if all answers are correct or all are incorrect."""
    quantile = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    if count and average in (0, 1):
        width = quantile**2 / (count + quantile**2)
        return [0.0, width] if average == 0 else [1 - width, 1.0]
    return [max(0.0, average - quantile * error), min(1.0, average + quantile * error)]


def with_interval(name: str, answers: Sequence[Answer], score: AnswerScore) -> dict[str, Any]:
    """Returns a score and its interval under two keys, to be merged into a score over the same questions."""
    result = mean_with_interval(name, answers, score)
    return {name: result[name], f"{name}_{INTERVAL}": result[INTERVAL]}


def valid_fraction(answer: Answer) -> float:
    """Returns the fraction of a question's samples that are valid. All questions have the same number of samples."""
    return mean([choice is not None for choice in answer.samples])


def expected_accuracy(answer: Answer) -> float:
    """Returns the fraction of valid samples that are correct: the accuracy without the variance of selecting one."""
    valid = [choice_set(choice) for choice in answer.samples if choice is not None]
    return valid.count(choice_set(answer.answer)) / len(valid) if valid else 0.0


def majority_vote(answer: Answer) -> float:
    """Returns 1 if the most frequent choice is correct, or 1/n if the correct choice is one of n tied choices."""
    votes = Counter(choice_set(choice) for choice in answer.samples if choice is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = [choice for choice, count in votes.items() if count == most]
    return (choice_set(answer.answer) in winners) / len(winners)


def pass_at(answer: Answer, n: int) -> float:
    """Returns pass@n: the probability that at least one of `n` samples is correct (Chen et al. 2021, eq. 1)."""
    count = len(answer.samples)
    if not count:
        return 0.0
    correct = list(map(choice_set, answer.samples)).count(choice_set(answer.answer))
    return 1 - comb(count - correct, min(n, count)) / comb(count, min(n, count))


def sample_counts(answers: Sequence[Answer]) -> list[int]:
    """Returns the powers of two up to the number of samples per question, and that number."""
    largest = max((len(answer.samples) for answer in answers), default=0)
    return sorted({2**power for power in range(largest.bit_length())} | {largest}) if largest else []


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def clustered_error(values: Sequence[float], clusters: Sequence[str]) -> float:
    """Returns the cluster-robust standard error of the mean.

    With fewer than ten clusters, it is unreliable and may be close to zero by chance. The result is then at least the
    standard error for independent questions.
    """
    if not values:
        return 0.0
    average = mean(values)
    independent = sqrt(average * (1 - average) / len(values))
    sums: dict[str, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value - average
    count = len(sums)
    if count < 2:
        return independent
    clustered = sqrt(count / (count - 1) * sum(total**2 for total in sums.values())) / len(values)
    return max(clustered, independent) if count < FEW_CLUSTERS else clustered
