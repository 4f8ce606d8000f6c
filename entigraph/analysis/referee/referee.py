"""The referee: compares the methods of a study at equal tokens, equal trained tokens and equal dollars.

It writes referee.json, referee.html, referee.png and referee.svg.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, ClassVar

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.referee.method_costs import CostTable, RunCost, mean_cost, pareto_front, run_cost
from entigraph.analysis.study_runs import (
    StudyRun,
    check_confidence,
    figure_footer,
    figure_note,
    list_augmenters,
    mean_background,
    run_folders,
    study_losses,
    summarize_base_model,
)
from entigraph.errors import ConfigError, DataError
from entigraph.reporting.html import embed_svg, write_static_page
from entigraph.storage.artifact import write_json
from entigraph.storage.data_losses import render_losses

if TYPE_CHECKING:
    from entigraph.analysis.referee.method_comparisons import CostLevel, SeedAnswers

EQUAL = {"tokens": "synthetic tokens", "trained_tokens": "trained tokens", "dollars": "dollars"}
SAME_COST = 1.02  # two costs are one level up to this ratio


@dataclass(frozen=True, kw_only=True)
class Referee:
    """Compares every pair of augmenters of a study.

    `confidence` is that of the intervals. `alpha` is the probability of declaring any false difference among all
    comparisons at equal tokens, and likewise at equal trained tokens and at equal dollars. The prices are in dollars
    per million tokens of the writer, and per 10^18 floating-point operations of training.
    """

    name: ClassVar[str] = "referee"
    main_files: ClassVar[Sequence[str]] = ("referee.html", "referee.png", "referee.json")
    confidence: float = 0.9
    alpha: float = 0.05
    price_date: str = "2025-04"
    prompt_price: float = 2.5
    cached_price: float = 1.25
    completion_price: float = 10.0
    training_price: float = 2.0

    def __post_init__(self) -> None:
        check_confidence(self.confidence)
        if not 0 < self.alpha < 1:
            raise ConfigError(f"analysis.alpha: {self.alpha} found, a share between 0 and 1 expected")
        for key in ("prompt_price", "cached_price", "completion_price", "training_price"):
            if getattr(self, key) < 0:
                raise ConfigError(f"analysis.{key}: {getattr(self, key)} found, dollars of 0 or more expected")

    @property
    def cost_table(self) -> CostTable:
        return CostTable(
            self.price_date, self.prompt_price, self.cached_price, self.completion_price, self.training_price
        )

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        names = list_augmenters(context.runs)
        if len(names) < 2:
            raise DataError(
                f"{context.study}: runs of {', '.join(names) or 'no augmenter'} found, of two or more expected; "
                "run the study with several augmenters first"
            )
        return run_folders(context.runs, "corpus", "synthesis", "tokens", "training", "evaluation", "baseline")

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        from entigraph.analysis.referee.referee_figure import draw_referee

        result = build_result(context, self)
        write_json(out / "referee.json", result)
        draw_referee(result, out)
        write_static_page(
            out / "referee.html",
            "entigraph.analysis",
            "referee/referee.html.j2",
            title=context.study_name,
            result=result,
            losses=render_losses(result["data_losses"], up_to=True),
            figure=embed_svg(out / "referee.svg"),
        )
        columns = ("one", "other", "equal", "at", "difference", "p", "adjusted_p", "decided")
        context.tracker.log_table("referee", columns, [[row[key] for key in columns] for row in result["comparisons"]])
        return summary_lines(context.study.name, result)


def build_result(context: AnalysisContext, settings: Referee) -> dict[str, Any]:
    """Returns the content of referee.json.

    `points`: accuracy with its interval, cost and forgetting of each method and budget. `comparisons`: every pair at
    every level of cost. `pareto`: the indices of the points on the front of accuracy against dollars. `prices`,
    `protocol`: what the comparison rests on.
    """
    from entigraph.analysis.referee.method_comparisons import compare_methods, describe_decision
    from entigraph.analysis.scaling.scaling_curve import load_study_settings

    runs = context.runs
    costs = {run.name: run_cost(run, settings.cost_table) for run in runs}
    points = build_points(runs, costs, settings.confidence)
    families = {equal: build_levels(runs, costs, equal) for equal in EQUAL}
    comparisons = [
        asdict(difference)
        for equal, levels in families.items()
        for difference in compare_methods(levels, equal, settings.confidence, settings.alpha)
    ]
    undecided = [row for row in comparisons if not row["decided"]]
    for row in undecided:
        row["would_decide"] = describe_decision(row)
    return {
        "label": figure_note(runs),
        "footer": figure_footer(runs),
        "task": runs[0].task,
        "methods": list_augmenters(runs),
        "confidence": settings.confidence,
        "alpha": settings.alpha,
        "prices": asdict(settings.cost_table),
        "base": summarize_base_model(runs),
        "points": points,
        "pareto": pareto_front(points),
        "comparisons": comparisons,
        "data_losses": study_losses(runs),
        "notes": build_notes(runs, costs, families, context.excluded_runs),
        "protocol": load_study_settings(context.study),
    }


def build_points(runs: Sequence[StudyRun], costs: Mapping[str, RunCost], confidence: float) -> list[dict[str, Any]]:
    """Returns one point per method and budget: the mean over seeds."""
    from entigraph.analysis.referee.method_comparisons import accuracy_intervals

    cells: dict[tuple[str, int], list[StudyRun]] = {}
    for name in list_augmenters(runs):
        for run in sorted((run for run in runs if run.augmenter == name), key=lambda run: (run.budget, run.seed)):
            cells.setdefault((name, run.budget), []).append(run)
    intervals = accuracy_intervals([[seed_answers(run) for run in cell] for cell in cells.values()], confidence)
    return [
        {
            "method": name,
            "budget": budget,
            "accuracy": mean(run.score["accuracy"] for run in cell),
            "interval": interval,
            "seeds": len(cell),
            "questions": sum(run.score["questions"] for run in cell),
            "background": mean_background([run.scores for run in cell]),
            **mean_cost([costs[run.name] for run in cell]),
        }
        for ((name, budget), cell), interval in zip(cells.items(), intervals, strict=True)
    ]


def seed_answers(run: StudyRun) -> "SeedAnswers":
    import numpy as np

    from entigraph.analysis.referee.method_comparisons import SeedAnswers

    return SeedAnswers(np.array(run.correct, dtype=float), run.documents)


def build_levels(runs: Sequence[StudyRun], costs: Mapping[str, RunCost], equal: str) -> "list[CostLevel]":
    """Returns the levels of one kind of cost at which two or more methods can be compared on the same questions.

    At equal tokens these are the budgets. At other costs they are the costs of each method's largest run; a method
    that has no run at exactly that cost is interpolated between the neighboring ones, by the logarithm of the cost.
    """
    from entigraph.analysis.referee.method_comparisons import CostLevel

    if equal == "tokens":
        levels = [(float(budget), {name: exact_answers(runs, name, budget) for name in list_augmenters(runs)})
                  for budget in sorted({run.budget for run in runs})]  # fmt: skip
    else:
        levels = [
            (at, {name: interpolated_answers(runs, costs, name, equal, at) for name in list_augmenters(runs)})
            for at in largest_costs(runs, costs, equal)
        ]
    built = [CostLevel(at, comparable_methods(answers)) for at, answers in levels]
    return [level for level in built if len(level.answers) > 1]


def exact_answers(runs: Sequence[StudyRun], name: str, budget: int) -> "dict[int, SeedAnswers]":
    return {run.seed: seed_answers(run) for run in runs if run.augmenter == name and run.budget == budget}


def largest_costs(runs: Sequence[StudyRun], costs: Mapping[str, RunCost], equal: str) -> list[float]:
    """Returns the mean cost of each method's largest run, ascending; those that nearly agree once."""
    largest = []
    for name in list_augmenters(runs):
        budget = max(run.budget for run in runs if run.augmenter == name)
        matching = [run for run in runs if run.augmenter == name and run.budget == budget]
        largest.append(mean(getattr(costs[run.name], equal) for run in matching))
    distinct: list[float] = []
    for cost in sorted(largest):
        if cost > 0 and (not distinct or cost > SAME_COST * distinct[-1]):
            distinct.append(cost)
    return distinct


def interpolated_answers(
    runs: Sequence[StudyRun], costs: Mapping[str, RunCost], name: str, equal: str, at: float
) -> "dict[int, SeedAnswers]":
    """Returns the answers of a method at a cost by seed, without the seeds that were not measured on both sides."""
    by_seed: dict[int, SeedAnswers] = {}
    for seed in sorted({run.seed for run in runs if run.augmenter == name}):
        measured = sorted(
            ((getattr(costs[run.name], equal), run) for run in runs if run.augmenter == name and run.seed == seed),
            key=lambda pair: pair[0],
        )
        if answers := interpolate(measured, at):
            by_seed[seed] = answers
    return by_seed


def interpolate(measured: Sequence[tuple[float, StudyRun]], at: float) -> "SeedAnswers | None":
    """Returns the answers at a cost between two runs on the same questions; None outside the measured costs."""
    from math import log

    from entigraph.analysis.referee.method_comparisons import SeedAnswers

    for cost, run in measured:
        if 1 / SAME_COST <= cost / at <= SAME_COST:
            return seed_answers(run)
    for (low, smaller), (high, larger) in zip(measured, measured[1:], strict=False):
        if 0 < low < at < high and smaller.questions_key == larger.questions_key:
            share = log(at / low) / log(high / low)
            first, second = seed_answers(smaller), seed_answers(larger)
            return SeedAnswers((1 - share) * first.correct + share * second.correct, first.documents)
    return None


def comparable_methods(answers: "Mapping[str, Mapping[int, SeedAnswers]]") -> "dict[str, Mapping[int, SeedAnswers]]":
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


def build_notes(
    runs: Sequence[StudyRun],
    costs: Mapping[str, RunCost],
    families: "Mapping[str, Sequence[CostLevel]]",
    excluded: Sequence[str],
) -> list[str]:
    notes = []
    names = list_augmenters(runs)
    if all(costs[run.name].writing_dollars == 0 for run in runs):
        notes.append(
            "No writer counted its tokens (the offline writer does not), so dollars are those of training alone."
        )
    for equal, levels in families.items():
        compared = {name for level in levels for name in level.methods}
        missing = [name for name in names if name not in compared]
        if missing:
            notes.append(
                f"At equal {EQUAL[equal]}, {', '.join(missing)} is not compared: no run of it costs as much, or its "
                "seeds or questions differ from those of the others."
            )
    if len({run.seed for run in runs}) == 1:
        notes.append("One seed: the differences between training runs are unknown, and intervals are too narrow.")
    return notes + [f"excluded: {reason}" for reason in excluded]


def summary_lines(title: str, result: Mapping[str, Any]) -> list[str]:
    lines = ["", title, f"{'':24}{'budget':>12}{'accuracy':>10}{'interval':>18}{'dollars':>12}"]
    for index, point in enumerate(result["points"]):
        low, high = point["interval"]
        front = "  Pareto front" if index in result["pareto"] else ""
        lines.append(
            f"{point['method']:24}{point['budget']:>12,}{point['accuracy']:>10.3f}{f'{low:.3f} to {high:.3f}':>18}"
            f"{point['dollars']:>12,.4f}{front}"
        )
    for equal, name in EQUAL.items():
        rows = [row for row in result["comparisons"] if row["equal"] == equal]
        decided = sum(row["decided"] for row in rows)
        lines.append(f"at equal {name}: {decided} of {len(rows)} differences are decided (Holm, {result['alpha']:.0%})")
        lines += [f"  {describe_row(row)}" for row in rows]
    return lines + [f"note: {note}" for note in filter(None, [result["label"], *result["notes"]])]


def describe_row(row: Mapping[str, Any]) -> str:
    low, high = row["interval"]
    verdict = "decided" if row["decided"] else f"undecided, {row['would_decide']} would decide"
    return (
        f"{row['one']} minus {row['other']} at {row['at']:,.6g}: {100 * row['difference']:+.1f} points "
        f"({100 * low:+.1f} to {100 * high:+.1f}), p = {row['adjusted_p']:.2g}: {verdict}"
    )
