"""The levels of cost at which the methods of a study are compared, and their answers there."""

from collections.abc import Collection, Mapping, Sequence
from math import log

import numpy as np

from entigraph.analysis.referee.method_comparisons import CostLevel, SeedAnswers
from entigraph.analysis.referee.method_costs import SAME_COST, RunCost
from entigraph.analysis.study_runs import StudyRun, by_augmenter, largest_runs

Answers = Mapping[str, Mapping[int, SeedAnswers]]  # by method and seed


def seed_answers(run: StudyRun) -> SeedAnswers:
    """Returns the answers of a run. A document is named with its corpus: generated corpora number theirs alike."""
    documents = [f"{run.entry.get('corpus', '')}/{document}" for document in run.documents]
    return SeedAnswers(np.array(run.correct, dtype=float), documents, run.questions_key)


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
    built = [CostLevel(at, *comparable_methods(answers, equal == "tokens")) for at, answers in levels]
    return [level for level in built if len(level.answers) > 1]


def exact_answers(runs: Sequence[StudyRun], budget: int) -> dict[int, SeedAnswers]:
    return {run.seed: seed_answers(run) for run in runs if run.budget == budget}


def largest_costs(runs: Sequence[StudyRun], costs: Mapping[str, RunCost], equal: str) -> list[float]:
    """Returns the cost that every seed of a method reaches, of each method, ascending; those that nearly agree once."""
    largest = [min(getattr(costs[run.name], equal) for run in group) for group in largest_runs(runs).values()]
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
            correct = (1 - share) * first.correct + share * second.correct
            return SeedAnswers(correct, first.documents, first.questions_key)
    return None


def comparable_methods(answers: Answers, all_measured: bool) -> tuple[Answers, list[str]]:
    """Returns the methods that share seeds and questions, with these seeds alone, and notes about what is left out.

    Of the possible sets of seeds, it uses the one with the most degrees of freedom, (methods - 1)(seeds - 1), and of
    several the one with the most methods. `all_measured`: a method without answers has no run, which is noted too.
    """
    asked = {
        name: {(seed, answer.questions_key) for seed, answer in by_seed.items()} for name, by_seed in answers.items()
    }
    candidates = [one & other for one in asked.values() for other in asked.values() if one & other]
    if not candidates:
        return {}, []

    def size(candidate: set[tuple[int, int]]) -> tuple[int, int, int]:
        methods = sum(candidate <= others for others in asked.values())
        return (methods - 1) * (len(candidate) - 1), methods, len(candidate)

    blocks = max(candidates, key=size)
    seeds = sorted(seed for seed, _ in blocks)
    compared = {
        name: {seed: by_seed[seed] for seed in seeds} for name, by_seed in answers.items() if blocks <= asked[name]
    }
    return compared, describe_left_out(asked, blocks, all_measured)


def describe_left_out(
    asked: Mapping[str, set[tuple[int, int]]], blocks: set[tuple[int, int]], all_measured: bool
) -> list[str]:
    """Returns a note for each method that lacks some seeds, and one for the seeds that are not used."""
    notes = []
    for name, others in asked.items():
        if others and not blocks <= others:
            notes.append(f"{name} is left out: it has no run on the same questions of {name_seeds(blocks - others)}")
        elif not others and all_measured:
            notes.append(f"{name} is left out: it has no run")
    for block in sorted(set().union(*asked.values()) - blocks):
        names = [name for name, others in asked.items() if block in others and blocks <= others]
        if names:
            notes.append(f"{name_seeds([block])} is used for no method: only some have it ({', '.join(names)})")
    return notes


def name_seeds(blocks: Collection[tuple[int, int]]) -> str:
    return f"seed{'s' * (len(blocks) > 1)} {', '.join(str(seed) for seed in sorted(seed for seed, _ in blocks))}"
