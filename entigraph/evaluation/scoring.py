"""From answers to numbers, each with what it is a share of and how uncertain it is.

A share is a mapping with its interval, and the questions and documents that it is of; or it has its interval beside it
(`parse_rate_interval_90%`), and is of `questions`, `asked` or `samples` as it is described.
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
QUARTER = 0.25
Judge = Callable[[Answer], float]


def scored_likelihoods(answers: Sequence[Answer]) -> dict[str, Any]:
    """Accuracy over all questions; one that did not fit the context counts as wrong, and is counted."""
    return {
        **accuracy(answers),
        **with_interval("accuracy_norm", answers, lambda answer: bool(answer.correct_norm)),
        **circumstances(answers),
        "groups": {group: accuracy(members) for group, members in by_group(answers).items()},
    }


def scored_samples(answers: Sequence[Answer], parsed_only: bool = False) -> dict[str, Any]:
    """Every number that can be told from the samples, each over a stated denominator.

    `accuracy` is that of the choice that counts: over all questions, one without a valid sample wrong; with
    `parsed_only` over those that have one, as the published code reports. Both stand below it in any case. Of all
    questions `asked` the `parse_rate` have a valid sample; of the `samples` the `sample_parse_rate` are valid, and
    `unparsed` tells why the others are not.
    """
    asked = [answer for answer in answers if answer.choice is not None] if parsed_only else list(answers)
    sampled = [answer for answer in answers if answer.samples]
    return {
        **accuracy(asked),
        "denominator": "parsed questions" if parsed_only else "all questions",
        "over_all": accuracy(answers),
        "over_parsed": accuracy([answer for answer in answers if answer.choice is not None]),
        "asked": len(answers),
        **with_interval("parse_rate", answers, lambda answer: answer.choice is not None),
        "samples": sum(len(answer.samples) for answer in answers),
        **with_interval("sample_parse_rate", sampled, valid_share),
        "unparsed": dict(sum((Counter(answer.unparsed) for answer in answers), Counter())),
        "expected_accuracy": accuracy(answers, expected),
        "majority_vote": accuracy(answers, majority),
        "pass_at": {str(n): accuracy(answers, partial(pass_at, n=n)) for n in powers(answers)},
        **several_right(answers),
        **circumstances(answers),
        "groups": {group: accuracy(members) for group, members in by_group(asked).items()},
    }


def circumstances(answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "chance": mean([chance(answer) for answer in answers]),
        "overflowed": sum(answer.overflowed for answer in answers),
    }


def several_right(answers: Sequence[Answer]) -> dict[str, Any]:
    """Of the questions that may have several right answers; nothing where there is none.

    `exact`: all of the right options and no other, which is what counts as correct everywhere. `partial`: that is 1,
    and some of them with no wrong one a quarter, as their exam defines it (L-Eval, An et al. 2023, on Coursera; the
    paper, App. A.3, states no rule). `options`: the share of the options that are rightly chosen or left out.
    """
    several = [answer for answer in answers if isinstance(answer.answer, list)]
    if not several:
        return {}
    judges: dict[str, Judge] = {
        "exact": lambda answer: answer.correct,
        "partial": partly_right,
        "options": options_right,
    }
    return {"several_right": {name: accuracy(several, judge) for name, judge in judges.items()}}


def partly_right(answer: Answer) -> float:
    chosen, right = choice_set(answer.choice), choice_set(answer.answer)
    return 1.0 if chosen == right else QUARTER if chosen and chosen < right else 0.0


def options_right(answer: Answer) -> float:
    """An answer that names none is right about none."""
    chosen, right = choice_set(answer.choice), choice_set(answer.answer)
    return 1 - len(chosen ^ right) / len(answer.choices) if chosen else 0.0


def chance(answer: Answer) -> float:
    """Of an option drawn at random, or of a set of options that is not empty."""
    options = len(answer.choices)
    return 1 / (2**options - 1) if isinstance(answer.answer, list) else 1 / options


def by_group(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {}
    for answer in sorted(answers, key=lambda answer: answer.group):
        found.setdefault(answer.group, []).append(answer)
    return found


def accuracy(answers: Sequence[Answer], judge: Judge = lambda answer: answer.correct) -> dict[str, Any]:
    return share("accuracy", answers, judge)


def share(name: str, answers: Sequence[Answer], judge: Judge) -> dict[str, Any]:
    """With a standard error clustered by document: questions about one text are not independent."""
    values = [float(judge(answer)) for answer in answers]
    found, error = mean(values), clustered_error(values, [answer.document_id for answer in answers])
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * error
    return {
        name: found,
        "stderr": error,
        INTERVAL: [max(0.0, found - reach), min(1.0, found + reach)],
        "questions": len(answers),
        "documents": len({answer.document_id for answer in answers}),
    }


def with_interval(name: str, answers: Sequence[Answer], judge: Judge) -> dict[str, Any]:
    """For a number that stands among others of the same questions."""
    found = share(name, answers, judge)
    return {name: found[name], f"{name}_{INTERVAL}": found[INTERVAL]}


def valid_share(answer: Answer) -> float:
    """Of a question's samples; each has as many as every other."""
    return mean([choice is not None for choice in answer.samples])


def expected(answer: Answer) -> float:
    """The chance that one valid sample, drawn at random, is right: the drawn choice without the luck of the draw."""
    valid = [choice for choice in answer.samples if choice is not None]
    return valid.count(answer.answer) / len(valid) if valid else 0.0


def majority(answer: Answer) -> float:
    """Whether most valid samples are right; a tie is the share of it that would be drawn right."""
    votes = Counter(choice_set(choice) for choice in answer.samples if choice is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    first = [choice for choice, count in votes.items() if count == most]
    return (choice_set(answer.answer) in first) / len(first)


def pass_at(answer: Answer, n: int) -> float:
    """The chance that one of `n` samples, drawn without replacement, is right (Chen et al. 2021, eq. 1)."""
    count = len(answer.samples)
    if not count:
        return 0.0
    right = list(answer.samples).count(answer.answer)
    return 1 - comb(count - right, min(n, count)) / comb(count, min(n, count))


def powers(answers: Sequence[Answer]) -> list[int]:
    """1, 2, 4 ... up to the samples of a question, and those."""
    most = max((len(answer.samples) for answer in answers), default=0)
    return sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | ({most} if most else set()))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def clustered_error(values: Sequence[float], clusters: Sequence[str]) -> float:
    """The standard error of the mean, errors summed within a cluster first.

    Of fewer than ten clusters their spread says little, and may by chance be nearly none: then at least that of
    independent questions.
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
