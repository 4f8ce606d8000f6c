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
from entigraph.analysis.referee.method_costs import CostTable, RunCost, mean_cost, pareto_front, run_cost
from entigraph.analysis.study_runs import (
    StudyRun,
    by_augmenter,
    figure_footer,
    figure_note,
    list_augmenters,
    mean_background,
    run_folders,
    study_losses,
    summarize_base_model,
)
from entigraph.config.fields import check_minimums, check_shares, runtime_field
from entigraph.errors import DataError
from entigraph.reporting.disclaimers import is_pipeline_check
from entigraph.reporting.html import embed_svg, write_static_page
from entigraph.storage.artifact import read_manifest, write_json
from entigraph.storage.data_losses import render_losses

if TYPE_CHECKING:
    from entigraph.analysis.referee.method_comparisons import CostLevel

EQUAL = {"tokens": "synthetic tokens", "trained_tokens": "trained tokens", "dollars": "dollars"}
VERDICTS = {True: "better than", False: "undecided against"}
BAND = ("tokens", "low", "high")  # a forecast and the ends of its band


@dataclass(frozen=True, kw_only=True)
class Referee:
    """Compares every pair of augmenters of a study.

    `confidence` is that of the intervals. `alpha` is the probability of declaring any false difference among all
    comparisons at equal tokens, and likewise at equal trained tokens and at equal dollars. The prices are in dollars
    per million tokens of the writer, and per 10^18 floating-point operations of training. `targets` are accuracies
    whose tokens and dollars are forecast, with bands from `resamples` draws. `merge` are output folders of other labs,
    whose runs of the same study are compared too.
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
    targets: list[float] = field(default_factory=lambda: [0.5, 0.75, 0.9])
    resamples: int = 2000
    merge: list[str] = runtime_field(default_factory=list)  # the runs are inputs and enter the cache key by content

    def __post_init__(self) -> None:
        check_shares(self, "analysis.", "confidence", "alpha", "targets", ends=False)
        check_minimums(
            self, "analysis.", resamples=1, prompt_price=0, cached_price=0, completion_price=0, training_price=0
        )

    @property
    def cost_table(self) -> CostTable:
        return CostTable(
            self.price_date, self.prompt_price, self.cached_price, self.completion_price, self.training_price
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
            losses=render_losses(result["data_losses"], up_to=True),
            figure=embed_svg(out / "referee.svg"),
        )
        columns = ("one", "other", "equal", "at", "difference", "p", "adjusted_p", "decided")
        context.tracker.log_table("referee", columns, [[row[key] for key in columns] for row in result["comparisons"]])
        return summary_lines(context.study.name, result)


def build_result(context: AnalysisContext, settings: Referee) -> dict[str, Any]:
    """Returns the content of referee.json.

    `points`: accuracy with its interval, cost and forgetting of each method and budget. `comparisons`: every pair at
    every level of cost. `pareto`: the indices of the points on the front of accuracy against dollars. `forecasts`: the
    tokens and dollars at which each method reaches the targets. `texts`: overlap and diversity of each method's texts.
    `prices`, `protocol`, `methods_protocol`, `versions`, `folders` (the runs of each): what the comparison rests on.
    """
    from entigraph.analysis.referee.cost_levels import build_levels
    from entigraph.analysis.referee.method_comparisons import compare_methods, describe_decision
    from entigraph.analysis.referee.method_texts import measure_texts, method_protocols
    from entigraph.analysis.scaling.scaling_curve import load_study_settings

    runs, excluded = join_studies(context, tuple(settings.merge))
    protocol = load_study_settings(context.study)
    costs = {run.name: run_cost(run, settings.cost_table) for run in runs}
    points = build_points(runs, costs, settings.confidence, general_text_tasks(protocol))
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
        "forecasts": forecast_targets(runs, costs, settings),
        "data_losses": study_losses(runs),
        "texts": measure_texts(runs),
        "notes": build_notes(runs, costs, families, excluded),
        "protocol": protocol,
        "methods_protocol": method_protocols(runs),
        "versions": evaluation_versions(runs),
        "folders": dict(Counter(str(run.root) for run in runs)) if settings.merge else {},
    }


def general_text_tasks(protocol: Mapping[str, Any]) -> set[str]:
    """Returns the names of the evaluation tasks that read another corpus than the study's documents."""
    return {name.removeprefix("questions.") for name in protocol if name.startswith("questions.")}


def evaluation_versions(runs: Sequence[StudyRun]) -> dict[str, list[str]]:
    """Returns the versions of the packages with which the runs were evaluated."""
    versions = [read_manifest(run.folder("evaluation")).get("versions", {}) for run in runs]
    names = sorted({name for version in versions for name in version})
    return {name: sorted({version[name] for version in versions if name in version}) for name in names}


def build_points(
    runs: Sequence[StudyRun], costs: Mapping[str, RunCost], confidence: float, general_text: Container[str] = ()
) -> list[dict[str, Any]]:
    """Returns one point per method and budget: the mean over seeds. `general_text` names the tasks that measure the
    loss on text other than the documents.
    """
    from entigraph.analysis.referee.cost_levels import seed_answers
    from entigraph.analysis.referee.method_comparisons import accuracy_intervals

    cells: dict[tuple[str, int], list[StudyRun]] = {}
    for name, series in by_augmenter(runs).items():
        for run in sorted(series, key=lambda run: (run.budget, run.seed)):
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
            "loss_change": mean_loss_change(cell, general_text),
            **mean_cost([costs[run.name] for run in cell]),
        }
        for ((name, budget), cell), interval in zip(cells.items(), intervals, strict=True)
    ]


def mean_loss_change(runs: Sequence[StudyRun], general_text: Container[str]) -> float | None:
    """Returns by how many bits per byte training raised the loss on general text; None if it was not evaluated."""
    from entigraph.analysis.scaling.loss_curves import measure_loss_changes

    changes = [
        entry["change"] for entry in measure_loss_changes(runs) if entry["task"] in general_text and "change" in entry
    ]
    return mean(changes) if changes else None


def forecast_targets(runs: Sequence[StudyRun], costs: Mapping[str, RunCost], settings: Referee) -> list[dict[str, Any]]:
    """Returns for each method the tokens and dollars of each target with their bands, or `missing`: why there are none.

    Dollars are the tokens at the mean cost per token of the method's runs. A check of the pipeline has none.
    """
    from entigraph.analysis.document_bootstrap import Resampling
    from entigraph.analysis.scaling.forecast import build_forecasts

    if is_pipeline_check(figure_note(runs)):
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
    families: "Mapping[str, Sequence[CostLevel]]",
    excluded: Sequence[str],
) -> list[str]:
    notes = []
    names = list_augmenters(runs)
    if all(costs[run.name].writing_dollars == 0 for run in runs):
        notes.append(
            "No writer counted its tokens (the offline writer does not), so dollars are those of training alone."
        )
    measured = {run.augmenter for run in runs if costs[run.name].measuring_flops}
    for name in sorted(measured):
        of_method = [costs[run.name] for run in runs if run.augmenter == name]
        share = sum(cost.measuring_flops for cost in of_method) / sum(cost.training_flops for cost in of_method)
        notes.append(
            f"The training FLOPs of {name} include the students of earlier rounds and measuring their losses "
            f"({share:.1%} of the FLOPs)."
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
    for equal, name in EQUAL.items():
        rows = [row for row in result["comparisons"] if row["equal"] == equal]
        decided = sum(row["decided"] for row in rows)
        lines.append(f"at equal {name}: {decided} of {len(rows)} differences are decided (Holm, {result['alpha']:.0%})")
        lines += describe_ranking(rows)
    return lines + [f"note: {note}" for note in filter(None, [result["label"], *result["notes"]])]


def describe_ranking(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line for each method at the highest cost that all of `rows` share: which others it is better than.

    All pairs at all costs are in referee.html and referee.json.
    """
    highest = max((row["at"] for row in rows), default=0)
    rows = [row for row in rows if row["at"] == highest]
    accuracy = {
        name: value for row in rows for name, value in zip((row["one"], row["other"]), row["accuracy"], strict=True)
    }
    ranked = sorted(accuracy, key=accuracy.__getitem__, reverse=True)
    lines = []
    for place, name in enumerate(ranked):
        better: dict[bool, list[str]] = {True: [], False: []}
        for other in ranked[place + 1 :]:
            row = next(row for row in rows if {row["one"], row["other"]} == {name, other})
            better[row["decided"]].append(f"{other} {100 * abs(row['difference']):+.1f}")
        verdicts = [
            f"{verdict} {', '.join(better[decided])}" for decided, verdict in VERDICTS.items() if better[decided]
        ]
        lines.append(f"  {name:22}{accuracy[name]:.3f}  {'; '.join(verdicts)}".rstrip())
    return [f"  at {highest:,.6g}, differences in points:", *lines] if lines else []


def describe_target(target: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    low, high = (f"{target[key]:,.0f}" if target[key] is not None else "more" for key in ("low", "high"))
    return (
        f"{target['accuracy']:.0%} at {target['tokens']:,.0f} tokens ({low} to {high}, {result['confidence']:.0%} band)"
        f", ${target['dollars'][0]:,.3g}"
    )
