"""The levels of cost at which the methods of a study are compared, and their answers there."""

from collections.abc import Mapping, Sequence
from math import log

from entigraph.analysis.equal_budgets import Answers, budget_levels, comparable_level, seed_answers
from entigraph.analysis.method_comparisons import CostLevel, SeedAnswers
from entigraph.analysis.referee.method_costs import SAME_COST, RunCost
from entigraph.analysis.study_runs import StudyRun, by_augmenter, largest_runs


def build_levels(runs: Sequence[StudyRun], costs: Mapping[str, RunCost], cost_unit: str) -> list[CostLevel]:
    """Returns the levels of one kind of cost at which two or more methods can be compared on the same questions.

    At equal tokens these are the budgets. At other costs they are the costs of each method's largest run; a method
    that has no run at exactly that cost is interpolated between the neighboring ones, by the logarithm of the cost.
    """
    if cost_unit == "tokens":
        return budget_levels(runs)
    methods = by_augmenter(runs).items()
    levels = []
    for at in largest_costs(runs, costs, cost_unit):
        answers: Answers = {name: interpolated_answers(series, costs, cost_unit, at) for name, series in methods}
        levels.append(comparable_level(at, answers))
    return [level for level in levels if len(level.answers) > 1]


def largest_costs(runs: Sequence[StudyRun], costs: Mapping[str, RunCost], cost_unit: str) -> list[float]:
    """Returns the cost that every seed of a method reaches, of each method, ascending; those that nearly agree once."""
    largest = [min(getattr(costs[run.name], cost_unit) for run in group) for group in largest_runs(runs).values()]
    distinct: list[float] = []
    for cost in sorted(largest):
        if cost > 0 and (not distinct or cost > SAME_COST * distinct[-1]):
            distinct.append(cost)
    return distinct


def interpolated_answers(
    runs: Sequence[StudyRun], costs: Mapping[str, RunCost], cost_unit: str, at: float
) -> dict[int, SeedAnswers]:
    """Returns the answers of a method at a cost by seed, without the seeds that were not measured on both sides."""
    by_seed: dict[int, SeedAnswers] = {}
    for seed in sorted({run.seed for run in runs}):
        measured = sorted(
            ((getattr(costs[run.name], cost_unit), run) for run in runs if run.seed == seed), key=lambda pair: pair[0]
        )
        if answers := interpolate(measured, at):
            by_seed[seed] = answers
    return by_seed


def interpolate(measured: Sequence[tuple[float, StudyRun]], at: float) -> SeedAnswers | None:
    """Returns the answers at a cost between two runs on the same questions; None outside the measured costs.

    Of several runs at that cost, such as budgets that are trained for equally many steps, it is the largest.
    """
    for cost, run in sorted(measured, key=lambda pair: -pair[1].budget):
        if 1 / SAME_COST <= cost / at <= SAME_COST:
            return seed_answers(run)
    for (low, smaller), (high, larger) in zip(measured, measured[1:], strict=False):
        if 0 < low < at < high and smaller.questions_key == larger.questions_key:
            fraction = log(at / low) / log(high / low)
            first, second = seed_answers(smaller), seed_answers(larger)
            correct = (1 - fraction) * first.correct + fraction * second.correct
            return SeedAnswers(correct, first.documents, first.questions_key)
    return None
