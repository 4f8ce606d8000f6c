"""The referee: compares the methods of a study at equal tokens, equal trained tokens and equal dollars.

It writes referee.json, referee.html, referee.png and referee.svg.
"""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, ClassVar

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.referee.merged_studies import join_studies
from entigraph.analysis.referee.method_costs import (
    CostTable,
    RunCost,
    list_price,
    mean_cost,
    pareto_front,
    run_cost,
    uncounted_methods,
)
from entigraph.analysis.referee.referee_table import tabulate_points
from entigraph.analysis.study_runs import (
    StudyRun,
    accuracy_label,
    by_augmenter,
    count_questions,
    figure_footer,
    list_augmenters,
    mean_background,
    run_folders,
    short_disclaimer,
    study_data_losses,
    summarize_base_model,
)
from entigraph.config.fields import check_minimums, check_shares, runtime_field
from entigraph.errors import DataError
from entigraph.reporting.disclaimers import is_pipeline_check
from entigraph.reporting.html import embed_svg, write_static_page
from entigraph.storage.artifact import read_manifest, write_json

if TYPE_CHECKING:
    from entigraph.analysis.method_comparisons import CostLevel

COST_UNITS = {"tokens": "synthetic tokens", "trained_tokens": "trained tokens", "dollars": "dollars"}
VERDICTS = {True: "better than", False: "not significantly different from"}
BAND = ("tokens", "low", "high")  # keys of a forecast and its interval bounds
SIDES = ("one", "other")
BUDGET_TOLERANCE = 0.01  # relative difference of a run's synthetic tokens from its budget above which a note states it
OTHER_PRICE = 1.05  # ratio of what a writer charged to the table's price above which a note states it


@dataclass(frozen=True, kw_only=True)
class Referee:
    """Compares every pair of augmenters of a study.

    `confidence`: level of the intervals. `alpha`: family-wise error rate within each of the three tables (equal tokens,
    trained tokens, dollars). The prices are in dollars per million tokens of the writer (None: its list price), and per
    10^18 training FLOPs.
    `targets` are accuracies whose tokens and dollars are forecast, with bands from `resamples` bootstrap resamples.
    `merge` are output folders of other labs, whose runs of the same study are compared too.
    """

    name: ClassVar[str] = "referee"
    main_files: ClassVar[Sequence[str]] = ("referee.html", "referee.png", "referee.json")
    confidence: float = 0.9
    alpha: float = 0.05
    price_date: str = "2026-06"
    prompt_price: float | None = None
    cached_price: float | None = None
    completion_price: float | None = None
    training_price: float = 2.0
    targets: list[float] = field(default_factory=lambda: [0.5, 0.75, 0.9])
    resamples: int = 2000
    merge: list[str] = runtime_field(default_factory=list)  # the runs are inputs and enter the cache key by content

    def __post_init__(self) -> None:
        check_shares(self, "analysis.", "confidence", "alpha", "targets", ends=False)
        check_minimums(
            self, "analysis.", resamples=1, prompt_price=0, cached_price=0, completion_price=0, training_price=0
        )

    def cost_table(self, writers: Sequence[str]) -> CostTable:
        """Returns the prices: those that are set, and the list prices of the study's writer for the others."""
        model, price = list_price(writers)
        own = (self.prompt_price, self.cached_price, self.completion_price)
        listed = (price.prompt, price.cached, price.completion)
        prompt, cached, completion = (
            known if given is None else given for given, known in zip(own, listed, strict=True)
        )
        return CostTable(
            self.price_date, prompt, cached, completion, self.training_price, model if None in own else None
        )

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        runs, _ = join_studies(context, tuple(self.merge))
        names = list_augmenters(runs)
        if len(names) < 2:
            raise DataError(
                f"{context.study}: runs of two or more augmenters are needed, got {', '.join(names) or 'none'}; "
                "run the study with several augmenters first"
            )
        return run_folders(runs, "corpus", "synthesis", "tokens", "training", "evaluation", "baseline")

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
            points=tabulate_points(result),
            figure=embed_svg(out / "referee.svg"),
        )
        columns = ("one", "other", "equal", "at", "difference", "p", "adjusted_p", "significant")
        context.tracker.log_table("referee", columns, [[row[key] for key in columns] for row in result["comparisons"]])
        return summary_lines(context.study.name, result)


def build_result(context: AnalysisContext, settings: Referee) -> dict[str, Any]:
    """Returns the content of referee.json.

    `points`: accuracy with its interval, cost, forgetting and omissions of each method and budget. `comparisons`: every
    pair of methods at every cost level. `pareto`: indices of the points on the accuracy-dollars Pareto front.
    `forecasts`: the tokens and dollars at which each method reaches the targets. `texts`: overlap and diversity of each
    method's texts. `prices`, `writers`, `protocol`, `methods_protocol`, `versions`, `folders` (the runs of each): how
    the results were produced.
    """
    from entigraph.analysis.method_comparisons import compare_methods, describe_needed_data, seed_variance
    from entigraph.analysis.referee.cost_levels import build_levels
    from entigraph.analysis.referee.method_texts import measure_texts, method_protocols
    from entigraph.analysis.scaling.scaling_curve import describe_settings
    from entigraph.analysis.scaling.study_summary import list_writers

    runs, excluded = join_studies(context, tuple(settings.merge))
    protocol = describe_settings(context.study)
    writers = list_writers(runs)
    cost_table = settings.cost_table(writers)
    costs = {run.name: run_cost(run, cost_table) for run in runs}
    points = build_points(runs, costs, settings.confidence, general_text_tasks(protocol))
    uncounted = uncounted_methods(runs, costs)
    priced = [run for run in runs if run.augmenter not in uncounted]
    families = {unit: build_levels(priced if unit == "dollars" else runs, costs, unit) for unit in COST_UNITS}
    run_variance = seed_variance(families["tokens"])
    comparisons = [
        asdict(difference)
        for cost_unit, levels in families.items()
        for difference in compare_methods(
            levels, cost_unit, settings.confidence, settings.alpha, run_variance if run_variance[1] else None
        )
    ]
    for row in comparisons:
        row["needed_data"] = None if row["significant"] else describe_needed_data(row)
    base = summarize_base_model(runs)
    return {
        "label": short_disclaimer(runs),
        "footer": figure_footer(runs),
        "task": runs[0].task,
        "accuracy_label": accuracy_label(runs[0]),
        "methods": list_augmenters(runs),
        "confidence": settings.confidence,
        "alpha": settings.alpha,
        "prices": asdict(cost_table),
        "writers": writers,
        "base": base,
        "points": points,
        "pareto": pareto_front(points, uncounted, base["accuracy"] if base else 0.0),
        "comparisons": comparisons,
        "forecasts": forecast_targets(runs, costs, settings),
        "data_losses": study_data_losses(runs),
        "texts": measure_texts(runs),
        "notes": build_notes(runs, costs, uncounted, families, excluded),
        "protocol": protocol,
        "methods_protocol": method_protocols(runs),
        "versions": evaluation_versions(runs),
        "folders": dict(Counter(str(run.root) for run in runs)) if settings.merge else {},
    }


def general_text_tasks(protocol: Mapping[str, Any]) -> set[str]:
    """Returns the names of the evaluation tasks that do not use the study's documents."""
    return {name.removeprefix("questions.") for name in protocol if name.startswith("questions.")}


def evaluation_versions(runs: Sequence[StudyRun]) -> dict[str, list[str]]:
    """Returns the package versions used to evaluate the runs."""
    versions = [read_manifest(run.folder("evaluation")).get("versions", {}) for run in runs]
    names = sorted({name for version in versions for name in version})
    return {name: sorted({version[name] for version in versions if name in version}) for name in names}


def build_points(
    runs: Sequence[StudyRun], costs: Mapping[str, RunCost], confidence: float, general_text: Container[str] = ()
) -> list[dict[str, Any]]:
    """Returns one point per method and budget: the mean over seeds. `general_text` names the tasks that measure the
    loss on text other than the documents.

    Accuracy is over all questions, as in the comparisons, even where the task's own leaves out unparsed answers.
    """
    from entigraph.analysis.equal_budgets import seed_answers
    from entigraph.analysis.method_comparisons import accuracy_intervals, mean_accuracy

    cells: dict[tuple[str, int], list[StudyRun]] = {}
    for name, series in by_augmenter(runs).items():
        for run in sorted(series, key=lambda run: (run.budget, run.seed)):
            cells.setdefault((name, run.budget), []).append(run)
    answers = [[seed_answers(run) for run in cell] for cell in cells.values()]
    intervals = accuracy_intervals(answers, confidence)
    return [
        {
            "method": name,
            "budget": budget,
            "accuracy": mean_accuracy(of_cell),
            "interval": interval,
            "seeds": len(cell),
            "questions": count_questions(cell),
            "data_losses": study_data_losses(cell),
            "background": mean_background([run.scores for run in cell]),
            "loss_change": mean_loss_change(cell, general_text),
            **mean_cost([costs[run.name] for run in cell]),
        }
        for ((name, budget), cell), of_cell, interval in zip(cells.items(), answers, intervals, strict=True)
    ]


def mean_loss_change(runs: Sequence[StudyRun], general_text: Container[str]) -> float | None:
    """Returns the change in loss on general text due to training, in bits per byte; None if it was not evaluated."""
    from entigraph.analysis.scaling.loss_curves import measure_loss_changes

    changes = [
        entry["change"] for entry in measure_loss_changes(runs) if entry["task"] in general_text and "change" in entry
    ]
    return mean(changes) if changes else None


def forecast_targets(runs: Sequence[StudyRun], costs: Mapping[str, RunCost], settings: Referee) -> list[dict[str, Any]]:
    """Returns for each method the tokens and dollars of each target with their bands, or, in `missing`, the reason why
    there is no forecast.

    Dollars are the tokens times the method's mean cost per token. Pipeline checks have no forecasts.
    """
    from entigraph.analysis.document_bootstrap import Resampling
    from entigraph.analysis.scaling.forecast import build_forecasts

    if is_pipeline_check(short_disclaimer(runs)):
        return []
    results = []
    for forecast in build_forecasts(
        runs, Resampling(settings.confidence, settings.resamples), targets=settings.targets
    ):
        method = forecast["augmenter"]
        measured = [costs[run.name] for run in runs if run.augmenter == method and run.synthetic_tokens]
        price = mean(cost.dollars / cost.tokens for cost in measured)
        targets = [
            {**target, "dollars": [None if target[key] is None else target[key] * price for key in BAND]}
            for target in forecast.get("targets", ())
        ]
        results.append({"method": method, "missing": forecast.get("missing"), "targets": targets})
    return results


def build_notes(
    runs: Sequence[StudyRun],
    costs: Mapping[str, RunCost],
    uncounted: Sequence[str],
    families: "Mapping[str, Sequence[CostLevel]]",
    excluded: Sequence[str],
) -> list[str]:
    notes = []
    names = list_augmenters(runs)
    if all(costs[run.name].writing_dollars == 0 for run in runs):
        notes.append("No writer reported token usage (the offline writer never does), so dollars cover training only.")
    notes += [
        f"The texts of {name} were written at an unknown cost: it is not compared at equal dollars, and is not on the "
        "Pareto front."
        for name in uncounted
    ]
    paid = [cost for cost in costs.values() if cost.dollars_paid and cost.writing_dollars]
    ratio = sum(cost.dollars_paid or 0.0 for cost in paid) / sum(cost.writing_dollars for cost in paid) if paid else 1.0
    if not 1 / OTHER_PRICE <= ratio <= OTHER_PRICE:
        notes.append(f"The writers charged {ratio:.2g} times the price of their tokens in the price table.")
    measured = {run.augmenter for run in runs if costs[run.name].measuring_flops}
    for name in sorted(measured):
        method_costs = [costs[run.name] for run in runs if run.augmenter == name]
        fraction = sum(cost.measuring_flops for cost in method_costs) / sum(
            cost.training_flops for cost in method_costs
        )
        notes.append(
            f"The training FLOPs of {name} include the students of earlier rounds and measuring their losses "
            f"({fraction:.1%} of the FLOPs)."
        )
    notes += unmet_budgets(runs)
    for cost_unit, levels in families.items():
        compared = {name for level in levels for name in level.methods}
        expected = [name for name in names if cost_unit != "dollars" or name not in uncounted]
        missing = [name for name in expected if name not in compared]
        if missing:
            verb, pronoun = ("is", "its") if len(missing) == 1 else ("are", "their")
            notes.append(
                f"At equal {COST_UNITS[cost_unit]}, {' and '.join(missing)} {verb} not compared: none of {pronoun} "
                f"runs reaches this cost, or {pronoun} seeds or questions differ from the others'."
            )
        notes += [f"At {level.at:,.6g} {COST_UNITS[cost_unit]}, {note}." for level in levels for note in level.notes]
    if len({run.seed for run in runs}) == 1:
        notes.append("One seed: the differences between training runs are unknown, and intervals are too narrow.")
    return notes + [f"excluded: {reason}" for reason in excluded]


def unmet_budgets(runs: Sequence[StudyRun]) -> list[str]:
    """Returns a note for each method whose synthetic tokens differ from a budget by more than BUDGET_TOLERANCE."""
    notes = []
    for name, series in by_augmenter(runs).items():
        run = max(series, key=lambda run: abs(run.synthetic_tokens - run.budget) / run.budget)
        difference = run.synthetic_tokens / run.budget - 1
        if abs(difference) > BUDGET_TOLERANCE:
            notes.append(
                f"{name} has up to {abs(difference):.1%} {'fewer' if difference < 0 else 'more'} synthetic tokens than "
                f"its budget (at {run.budget:,}), because texts are never cut."
            )
    return notes


def summary_lines(title: str, result: Mapping[str, Any]) -> list[str]:
    folders = [f"{folder}: {count} runs" for folder, count in result["folders"].items()]
    lines = ["", title, *folders, f"{'':24}{'budget':>12}{'accuracy':>10}{'interval':>18}{'dollars':>12}"]
    for index, point in enumerate(result["points"]):
        low, high = point["interval"]
        front = "  Pareto front" if index in result["pareto"] else ""
        lines.append(
            f"{point['method']:24}{point['budget']:>12,}{point['accuracy']:>10.3f}{f'{low:.3f} to {high:.3f}':>18}"
            f"{point['dollars']:>12,.3g}{front}"
        )
    for forecast in result["forecasts"]:
        reached = [target for target in forecast["targets"] if target["tokens"] is not None]
        lines += [f"forecast, {forecast['method']}: {describe_target(target, result)}" for target in reached]
    for cost_unit, heading in COST_UNITS.items():
        rows = [row for row in result["comparisons"] if row["equal"] == cost_unit]
        count = sum(row["significant"] for row in rows)
        lines.append(
            f"at equal {heading}: {count} of {len(rows)} differences are significant (Holm, {result['alpha']:.0%})"
        )
        lines += describe_ranking(rows, result["methods"])
    return lines + [f"note: {note}" for note in filter(None, [result["label"], *result["notes"]])]


def describe_ranking(rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> list[str]:
    """Returns one line per method, at the highest of the cost levels that compare the most methods: the lower-ranked
    methods, split by whether the difference is significant.

    All pairs at all costs are in referee.html and referee.json.
    """
    levels: dict[float, list[Mapping[str, Any]]] = {}
    for row in rows:
        levels.setdefault(row["at"], []).append(row)
    if not levels:
        return []
    highest = max(levels, key=lambda at: (len(levels[at]), at))
    by_pair = {frozenset((row["one"], row["other"])): row for row in levels[highest]}
    accuracy = {row[side]: row["accuracy"][index] for row in by_pair.values() for index, side in enumerate(SIDES)}
    ranked = sorted(accuracy, key=accuracy.__getitem__, reverse=True)
    absent = [name for name in methods if name not in accuracy]
    without = f", without {', '.join(absent)}" if absent else ""
    lines = [f"  at {highest:,.6g}{without} (differences in percentage points):"]
    for rank, name in enumerate(ranked):
        pairs = [(other, by_pair[frozenset((name, other))]) for other in ranked[rank + 1 :]]
        verdicts = []
        for significant, verdict in VERDICTS.items():
            lower = [
                f"{other} {100 * abs(row['difference']):+.1f}"
                for other, row in pairs
                if row["significant"] == significant
            ]
            verdicts += [f"{verdict} {', '.join(lower)}"] if lower else []
        lines.append(f"  {name:22}{accuracy[name]:.3f}  {'; '.join(verdicts)}".rstrip())
    return lines


def describe_target(target: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    low, high = (f"{target[key]:,.0f}" if target[key] is not None else "more" for key in ("low", "high"))
    return (
        f"{target['accuracy']:.0%} at {target['tokens']:,.0f} tokens ({low} to {high}, {result['confidence']:.0%} band)"
        f", ${target['dollars'][0]:,.3g}"
    )
