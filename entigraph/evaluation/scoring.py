"""Scores of multiple-choice answers, each with its denominator and uncertainty.

A score is a mapping with the value, its interval and the number of questions and documents; or a value with the
interval beside it (`parse_rate_interval_90%`), over `questions`, `asked` or `samples` as documented.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from math import comb, sqrt
from statistics import NormalDist
from typing import Any

from entigraph.storage.schemas import Answer, choice_set

CONFIDENCE = 0.9
INTERVAL = f"interval_{CONFIDENCE:.0%}"
FEW_CLUSTERS = 10
PARTIAL_CREDIT = 0.25
AnswerScore = Callable[[Answer], float]


def score_likelihoods(answers: Sequence[Answer]) -> dict[str, Any]:
    """Returns the accuracy over all questions; one that exceeded the context counts as wrong."""
    return {
        **accuracy(answers),
        **with_interval("accuracy_norm", answers, lambda answer: bool(answer.correct_norm)),
        **chance_and_overflow(answers),
        "groups": {group: accuracy(members) for group, members in group_answers(answers).items()},
    }


def score_samples(answers: Sequence[Answer], parsed_only: bool = False) -> dict[str, Any]:
    """Returns all scores of sampled answers, each over a stated denominator.

    `accuracy` is that of the choice that counts, over all questions, where one without a valid sample is wrong; with
    `parsed_only` over those that have one, as the published code reports. Both are reported below it in any case. Of
    all questions `asked` the `parse_rate` have a valid sample; of the `samples` the `sample_parse_rate` are valid, and
    `unparsed` counts why the others are not.
    """
    parsed = [answer for answer in answers if answer.choice is not None]
    scored = parsed if parsed_only else list(answers)
    sampled = [answer for answer in answers if answer.samples]
    return {
        **accuracy(scored),
        "denominator": "parsed questions" if parsed_only else "all questions",
        "over_all": accuracy(answers),
        "over_parsed": accuracy(parsed),
        "asked": len(answers),
        **with_interval("parse_rate", answers, lambda answer: answer.choice is not None),
        "samples": sum(len(answer.samples) for answer in answers),
        **with_interval("sample_parse_rate", sampled, valid_share),
        "unparsed": dict(sum((Counter(answer.unparsed) for answer in answers), Counter())),
        "expected_accuracy": accuracy(answers, expected_accuracy),
        "majority_vote": accuracy(answers, majority_vote),
        "pass_at": {str(n): accuracy(answers, partial(pass_at, n=n)) for n in sample_counts(answers)},
        **score_several_right(answers),
        **chance_and_overflow(answers),
        "groups": {group: accuracy(members) for group, members in group_answers(scored).items()},
    }


def chance_and_overflow(answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "chance": mean([chance(answer) for answer in answers]),
        "overflowed": sum(answer.overflowed for answer in answers),
    }


def score_several_right(answers: Sequence[Answer]) -> dict[str, Any]:
    """Returns scores of the questions that may have several right answers; empty if there are none.

    `exact`: all right options and no other, which is what counts as correct everywhere. `partial`: as exact, and a
    quarter for some right options and no wrong one, as their exam defines it (L-Eval, An et al. 2023, on Coursera; the
    paper, App. A.3, states no rule). `options`: the share of the options that are rightly chosen or left out.
    """
    several = [answer for answer in answers if isinstance(answer.answer, list)]
    if not several:
        return {}
    scores: dict[str, AnswerScore] = {
        "exact": lambda answer: answer.correct,
        "partial": partial_credit,
        "options": option_accuracy,
    }
    return {"several_right": {name: accuracy(several, score) for name, score in scores.items()}}


def partial_credit(answer: Answer) -> float:
    chosen, right = choice_set(answer.choice), choice_set(answer.answer)
    return 1.0 if chosen == right else PARTIAL_CREDIT if chosen and chosen < right else 0.0


def option_accuracy(answer: Answer) -> float:
    """Returns the share of options rightly chosen or left out; 0 for an answer without a choice."""
    chosen, right = choice_set(answer.choice), choice_set(answer.answer)
    return 1 - len(chosen ^ right) / len(answer.choices) if chosen else 0.0


def chance(answer: Answer) -> float:
    """Returns the accuracy of a random option, or of a random nonempty set of options."""
    options = len(answer.choices)
    return 1 / (2**options - 1) if isinstance(answer.answer, list) else 1 / options


def group_answers(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    groups: dict[str, list[Answer]] = {}
    for answer in sorted(answers, key=lambda answer: answer.group):
        groups.setdefault(answer.group, []).append(answer)
    return groups


def accuracy(answers: Sequence[Answer], score: AnswerScore = lambda answer: answer.correct) -> dict[str, Any]:
    return mean_with_interval("accuracy", answers, score)


def mean_with_interval(name: str, answers: Sequence[Answer], score: AnswerScore) -> dict[str, Any]:
    """Returns the mean score with a standard error clustered by document: questions on one text are not independent."""
    values = [float(score(answer)) for answer in answers]
    average, error = mean(values), clustered_error(values, [answer.document_id for answer in answers])
    margin = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * error
    return {
        name: average,
        "stderr": error,
        INTERVAL: [max(0.0, average - margin), min(1.0, average + margin)],
        "questions": len(answers),
        "documents": len({answer.document_id for answer in answers}),
    }


def with_interval(name: str, answers: Sequence[Answer], score: AnswerScore) -> dict[str, Any]:
    """Returns a score and its interval under two keys, for a number beside others over the same questions."""
    result = mean_with_interval(name, answers, score)
    return {name: result[name], f"{name}_{INTERVAL}": result[INTERVAL]}


def valid_share(answer: Answer) -> float:
    """Returns the share of a question's samples that are valid; every question has equally many."""
    return mean([choice is not None for choice in answer.samples])


def expected_accuracy(answer: Answer) -> float:
    """Returns the probability that a random valid sample is right: accuracy without the variance of the choice."""
    valid = [choice for choice in answer.samples if choice is not None]
    return valid.count(answer.answer) / len(valid) if valid else 0.0


def majority_vote(answer: Answer) -> float:
    """Returns 1 if the most frequent choice is right, and its probability to be chosen at random from a tie."""
    votes = Counter(choice_set(choice) for choice in answer.samples if choice is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = [choice for choice, count in votes.items() if count == most]
    return (choice_set(answer.answer) in winners) / len(winners)


def pass_at(answer: Answer, n: int) -> float:
    """Returns the probability that one of `n` samples without replacement is right (Chen et al. 2021, eq. 1)."""
    count = len(answer.samples)
    if not count:
        return 0.0
    right = list(answer.samples).count(answer.answer)
    return 1 - comb(count - right, min(n, count)) / comb(count, min(n, count))


def sample_counts(answers: Sequence[Answer]) -> list[int]:
    """Returns 1, 2, 4 ... up to the number of samples per question, and that number."""
    most = max((len(answer.samples) for answer in answers), default=0)
    return sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | ({most} if most else set()))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def clustered_error(values: Sequence[float], clusters: Sequence[str]) -> float:
    """Returns the standard error of the mean with errors summed within clusters first.

    With fewer than ten clusters their spread is unreliable and may by chance be nearly zero; the result is then at
    least the standard error of independent questions.
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
