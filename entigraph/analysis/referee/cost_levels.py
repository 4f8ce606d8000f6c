"""The levels of cost at which the methods of a study are compared, and their answers there."""

from collections.abc import Mapping, Sequence
from math import log
from statistics import mean

import numpy as np

from entigraph.analysis.referee.method_comparisons import CostLevel, SeedAnswers
from entigraph.analysis.referee.method_costs import RunCost
from entigraph.analysis.study_runs import StudyRun, by_augmenter, largest_runs

SAME_COST = 1.02  # two costs are one level up to this ratio


def seed_answers(run: StudyRun) -> SeedAnswers:
    return SeedAnswers(np.array(run.correct, dtype=float), run.documents)


def build_levels(runs: Sequence[StudyRun], costs: Mapping[str, RunCost], equal: str) -> list[CostLevel]:
    """Returns the levels of one kind of cost at which two or more methods can be compared on the same questions.

    At equal tokens these are the budgets. At other costs they are the costs of each method's largest run; a method
    that has no run at exactly that cost is interpolated between the neighboring ones, by the logarithm of the cost.
    """
    methods = by_augmenter(runs).items()
    if equal == "tokens":
        budgets = sorted({run.budget for run in runs})
        levels = [(float(at), {name: exact_answers(series, at) for name, series in methods}) for at in budgets]
    else:
        levels = [
            (at, {name: interpolated_answers(series, costs, equal, at) for name, series in methods})
            for at in largest_costs(runs, costs, equal)
        ]
    built = [CostLevel(at, comparable_methods(answers)) for at, answers in levels]
    return [level for level in built if len(level.answers) > 1]


def exact_answers(runs: Sequence[StudyRun], budget: int) -> dict[int, SeedAnswers]:
    return {run.seed: seed_answers(run) for run in runs if run.budget == budget}


def largest_costs(runs: Sequence[StudyRun], costs: Mapping[str, RunCost], equal: str) -> list[float]:
    """Returns the mean cost of each method's largest run, ascending; those that nearly agree once."""
    largest = [mean(getattr(costs[run.name], equal) for run in group) for group in largest_runs(runs).values()]
    distinct: list[float] = []
    for cost in sorted(largest):
        if cost > 0 and (not distinct or cost > SAME_COST * distinct[-1]):
            distinct.append(cost)
    return distinct


def interpolated_answers(
    runs: Sequence[StudyRun], costs: Mapping[str, RunCost], equal: str, at: float
) -> dict[int, SeedAnswers]:
    """Returns the answers of a method at a cost by seed, without the seeds that were not measured on both sides."""
    by_seed: dict[int, SeedAnswers] = {}
    for seed in sorted({run.seed for run in runs}):
        measured = sorted(
            ((getattr(costs[run.name], equal), run) for run in runs if run.seed == seed), key=lambda pair: pair[0]
        )
        if answers := interpolate(measured, at):
            by_seed[seed] = answers
    return by_seed


def interpolate(measured: Sequence[tuple[float, StudyRun]], at: float) -> SeedAnswers | None:
    """Returns the answers at a cost between two runs on the same questions; None outside the measured costs."""
    for cost, run in measured:
        if 1 / SAME_COST <= cost / at <= SAME_COST:
            return seed_answers(run)
    for (low, smaller), (high, larger) in zip(measured, measured[1:], strict=False):
        if 0 < low < at < high and smaller.questions_key == larger.questions_key:
            share = log(at / low) / log(high / low)
            first, second = seed_answers(smaller), seed_answers(larger)
            return SeedAnswers((1 - share) * first.correct + share * second.correct, first.documents)
    return None


def comparable_methods(answers: Mapping[str, Mapping[int, SeedAnswers]]) -> dict[str, Mapping[int, SeedAnswers]]:
    """Returns the methods that share seeds and questions with the method that has most seeds."""
    present = {name: by_seed for name, by_seed in answers.items() if by_seed}
    if not present:
        return {}
    seeds = max((set(by_seed) for by_seed in present.values()), key=len)
    complete = {name: by_seed for name, by_seed in present.items() if set(by_seed) == seeds}
    first = next(iter(complete.values()))
    return {
        name: by_seed
        for name, by_seed in complete.items()
        if all(list(by_seed[seed].documents) == list(first[seed].documents) for seed in seeds)
    }
