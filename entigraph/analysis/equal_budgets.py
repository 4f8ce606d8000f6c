"""The answers of the methods of a study at each token budget, from the seeds and questions that they share."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from entigraph.analysis.method_comparisons import CostLevel, SeedAnswers
from entigraph.analysis.study_runs import StudyRun, by_augmenter

Answers = Mapping[str, Mapping[int, SeedAnswers]]  # by method and seed


def seed_answers(run: StudyRun) -> SeedAnswers:
    """Returns the answers of a run. A document is named with its corpus: generated corpora number theirs alike."""
    documents = [f"{run.entry.get('corpus', '')}/{document}" for document in run.documents]
    return SeedAnswers(np.array(run.correct, dtype=float), documents, run.questions_key)


def budget_levels(runs: Sequence[StudyRun]) -> list[CostLevel]:
    """Returns the budgets at which two or more methods can be compared on the same questions."""
    methods = by_augmenter(runs).items()
    levels = []
    for budget in sorted({run.budget for run in runs}):
        answers: Answers = {name: exact_answers(series, budget) for name, series in methods}
        levels.append(comparable_level(float(budget), answers, all_measured=True))
    return [level for level in levels if len(level.answers) > 1]


def exact_answers(runs: Sequence[StudyRun], budget: int) -> dict[int, SeedAnswers]:
    return {run.seed: seed_answers(run) for run in runs if run.budget == budget}


def comparable_level(at: float, answers: Answers, all_measured: bool = False) -> CostLevel:
    """Returns the methods that share seeds and questions, with these seeds alone, and notes about what is left out.

    Of the possible sets of seeds, it uses the one with the most degrees of freedom, (methods - 1)(seeds - 1), and of
    several the one with the most methods. `all_measured`: a method without answers has no run, which is noted too.
    """
    available = {
        name: {(seed, answer.questions_key) for seed, answer in by_seed.items()} for name, by_seed in answers.items()
    }
    candidates = [first & second for first in available.values() for second in available.values() if first & second]
    if not candidates:
        return CostLevel(at, {})

    def size(candidate: set[tuple[int, int]]) -> tuple[int, int, int]:
        methods = sum(candidate <= others for others in available.values())
        return (methods - 1) * (len(candidate) - 1), methods, len(candidate)

    blocks = max(candidates, key=size)
    seeds = sorted(seed for seed, _ in blocks)
    compared = {
        name: {seed: by_seed[seed] for seed in seeds} for name, by_seed in answers.items() if blocks <= available[name]
    }
    return CostLevel(at, compared, describe_left_out(available, blocks, all_measured))


def describe_left_out(
    available: Mapping[str, set[tuple[int, int]]], blocks: set[tuple[int, int]], all_measured: bool
) -> list[str]:
    """Returns a note for each method that lacks some seeds, and one for the seeds that are not used."""
    notes = []
    for name, others in available.items():
        if others and not blocks <= others:
            notes.append(f"{name} is left out: it has no run on the same questions of {name_seeds(blocks - others)}")
        elif not others and all_measured:
            notes.append(f"{name} is left out: it has no run")
    for block in sorted(set().union(*available.values()) - blocks):
        names = [name for name, others in available.items() if block in others and blocks <= others]
        if names:
            notes.append(f"{name_seeds([block])} is used for no method: only some have it ({', '.join(names)})")
    return notes


def name_seeds(blocks: Collection[tuple[int, int]]) -> str:
    return f"seed{'s' * (len(blocks) > 1)} {', '.join(str(seed) for seed in sorted(seed for seed, _ in blocks))}"
