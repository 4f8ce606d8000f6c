"""The curve of a study: accuracy against the log of the synthetic tokens, with fits, forecasts and a report.

It is written to the study's own folder, next to the list of its runs: curve.json, report.html, paired.json and figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import log10
from pathlib import Path
from typing import Any, ClassVar

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.scaling.study_tables import fit_lines
from entigraph.analysis.series import describe_differences
from entigraph.analysis.study_runs import (
    StudyRun,
    accuracy_label,
    build_points,
    figure_footer,
    finished_references,
    reference_data_loss_lines,
    run_folders,
    short_disclaimer,
    study_data_losses,
    summarize_base_model,
    summarize_references,
)
from entigraph.config.fields import check_minimums, check_shares
from entigraph.errors import ConfigError
from entigraph.reporting.disclaimers import PIPELINE_CHECK, is_fictional, is_pipeline_check
from entigraph.reporting.figures import FIGURE_FORMATS
from entigraph.storage.artifact import read_json, write_json
from entigraph.storage.data_losses import render_data_losses
from entigraph.storage.fingerprints import digest, flatten
from entigraph.storage.scores import scalar_scores
from entigraph.tracking.base import Tracker

CURVE = "curve.json"
NAME_LISTS = (".sources", ".exclude_documents")  # settings that name documents
OPTIONAL_OUTPUTS = (
    "recall.json",
    *(f"{figure}.{suffix}" for figure in ("forecast", "losses", "recall") for suffix in FIGURE_FORMATS),
)


@dataclass(frozen=True, kw_only=True)
class ScalingCurve:
    """accuracy = a + b·ln(synthetic tokens), fitted to single runs whose budget lies in the stated range (null: open).

    `confidence`: level of the intervals, from `resamples` bootstrap resamples of documents and runs. Forecasts extend
    to `forecast_to` times the largest budget and state the tokens for each accuracy in `targets`. The report shows
    `samples_shown` synthetic texts with their source. `stop_at_half_width`: the half width at which the sweep stopped
    adding seeds.
    """

    name: ClassVar[str] = "scaling_curve"
    writes_to_study: ClassVar[bool] = True
    main_files: ClassVar[Sequence[str]] = ("report.html", "curve.png", "recall.png", CURVE)
    fit_from_tokens: int | None = None
    fit_to_tokens: int | None = None
    confidence: float = 0.9
    resamples: int = 2000
    forecast_to: float = 4.0
    targets: list[float] = field(default_factory=lambda: [0.5, 0.75, 0.9])
    samples_shown: int = 3
    stop_at_half_width: float | None = None

    def __post_init__(self) -> None:
        check_shares(self, "analysis.", "confidence", "targets", ends=False)
        check_minimums(self, "analysis.", resamples=1, samples_shown=0, forecast_to=1)
        low, high = self.fit_from_tokens, self.fit_to_tokens
        if low is not None and high is not None and low >= high:
            raise ConfigError(f"analysis.fit_from_tokens must be below fit_to_tokens, which is {high:,}, got {low:,}")

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        runs = context.required_runs
        references = {folder.name: folder for _, folder in finished_references(context.study, context.root)}
        return run_folders(runs, "training", "evaluation", "baseline") | references

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        from entigraph.analysis.document_bootstrap import Resampling
        from entigraph.analysis.paired.paired_tests import log_pairs, pair_study
        from entigraph.analysis.scaling.curve_figure import draw_curve, draw_forecasts
        from entigraph.analysis.scaling.loss_curves import draw_loss_curves
        from entigraph.analysis.scaling.recall_curve import build_recall_curve, draw_recall_curve
        from entigraph.analysis.scaling.study_report import write_report
        from entigraph.analysis.scaling.study_summary import summarize_study

        for name in OPTIONAL_OUTPUTS:  # of an earlier curve
            (out / name).unlink(missing_ok=True)
        runs, title = context.runs, context.study_name
        curve = build_curve(context, self)
        resampling = Resampling(self.confidence, self.resamples)
        pairs = [] if is_pipeline_check(curve["label"]) else pair_study(runs, resampling)
        curve["summary"] = summarize_study(runs, curve, pairs, self.confidence)
        write_json(out / CURVE, curve)
        draw_curve(curve, out, title)
        draw_forecasts(curve, out)
        draw_loss_curves(runs, out, curve["footer"])
        recall = build_recall_curve(runs)
        if recall:
            write_json(out / "recall.json", recall)
            draw_recall_curve(recall, out, title, curve["footer"])
        write_json(out / "paired.json", pairs)
        write_report(context, out, curve, pairs, self.samples_shown)
        log_curve(context.tracker, curve, out)
        log_pairs(context.tracker, pairs)
        return summary_lines(context.study.name, curve, recall)


def build_curve(context: AnalysisContext, settings: ScalingCurve) -> dict[str, Any]:
    """Returns the content of curve.json.

    `points`: one per augmenter and budget, means over seeds (see CurvePoint). `runs`: the single runs.
    `chance`, `chance_by_group`: the chance level, of all questions and by kind of question.
    `base`, `baselines`: the base model and other models on the same questions. `data_losses`: what the runs leave out.
    `fits`: the log-linear fit of each augmenter. `forecasts`: its best form, with bands and backtests.
    `comparisons`: differences between augmenters. `losses`: perplexity before and after. `label`: the disclaimer.
    `notes`: remarks. `accuracy_label`: what the curve shows. `footer`: the text below its figures. `settings`: what the
    runs have in common. `varies`: what may differ. The caller adds `summary`, the study in five lines.
    """
    from entigraph.analysis.document_bootstrap import Resampling
    from entigraph.analysis.scaling.comparison import compare_augmenters
    from entigraph.analysis.scaling.forecast import build_forecasts, fit_augmenters
    from entigraph.analysis.scaling.loss_curves import measure_loss_changes

    runs, resampling = context.runs, Resampling(settings.confidence, settings.resamples)
    fitted_runs = [] if is_pipeline_check(short_disclaimer(runs)) else runs
    forecasts = build_forecasts(fitted_runs, resampling, settings.forecast_to, settings.targets)
    groups = runs[0].score["groups"]
    base, references = summarize_base_model(runs), summarize_references(context.study, context.root, runs[0].task)
    reference_data_losses = reference_data_loss_lines(base, references)
    return {
        "label": short_disclaimer(runs),
        "accuracy_label": accuracy_label(runs[0]),
        "points": [asdict(point) for point in build_points(runs)],
        "base": base,
        "baselines": references,
        "chance": runs[0].score["chance"],
        "chance_by_group": {name: group["chance"] for name, group in groups.items() if "chance" in group},
        "data_losses": study_data_losses(runs),
        "footer": "\n".join(filter(None, (figure_footer(runs), *reference_data_losses))),
        "losses": measure_loss_changes(runs),
        "settings": describe_settings(context.study),
        "varies": sorted({key for run in runs for key in run.entry.get("varies", {})}),
        "fits": fit_augmenters(fitted_runs, resampling, settings.fit_from_tokens, settings.fit_to_tokens),
        "forecasts": forecasts,
        "comparisons": compare_augmenters(fitted_runs, forecasts, resampling),
        "notes": [*build_notes(runs, context.excluded_runs, settings.stop_at_half_width), *reference_data_losses],
        "runs": [
            {
                "augmenter": run.augmenter,
                "budget": run.budget,
                "seed": run.seed,
                "synthetic_tokens": run.synthetic_tokens,
                "accuracy": run.score["accuracy"],
                "accuracy_norm": run.score.get("accuracy_norm"),
                "data_losses": run.score.get("data_losses", {}),
                "scores": scalar_scores(run.scores),
            }
            for run in runs
        ],
    }


def build_notes(runs: Sequence[StudyRun], excluded: Sequence[str], stop_at_half_width: float | None) -> list[str]:
    disclaimers = {run.entry["label"] for run in runs}
    notes = [PIPELINE_CHECK] if any(map(is_pipeline_check, disclaimers)) else sorted(filter(is_fictional, disclaimers))
    repeated = {run.augmenter for run in runs if run.entry["repeats"] and run.passes > 1}
    notes += [f"{name}: the documents are repeated up to the budget." for name in sorted(repeated)]
    notes += describe_differences([run.entry for run in runs])
    notes += [f"excluded: {reason}" for reason in excluded]
    if stop_at_half_width is not None:
        notes.append(
            f"Seeds were added until the interval of each point's mean was ±{stop_at_half_width:g}, or none was left. "
            "Intervals that met this limit are narrow by selection and cover slightly less often than stated."
        )
    return notes


def load_study_settings(study: Path) -> dict[str, Any]:
    """Returns what all runs of the study have in common, with dotted keys."""
    file = study / "settings.json"
    return flatten(read_json(file)) if file.exists() else {}


def describe_settings(study: Path) -> dict[str, Any]:
    """Returns the shared settings for reports, which are published: without the names of documents."""
    return {
        name: f"{len(value)} names ({digest(value)})" if name.endswith(NAME_LISTS) and value else value
        for name, value in load_study_settings(study).items()
    }


def load_curve(study: Path) -> dict[str, Any]:
    return dict(read_json(study / CURVE))


def log_curve(tracker: Tracker, curve: Mapping[str, Any], out: Path) -> None:
    columns = ["augmenter", "synthetic_tokens", "accuracy", "stderr", "seeds", "questions"]
    scores = list(dict.fromkeys(name for point in curve["points"] for name in point["scores"]))
    rows = [
        [
            *(point[column] for column in columns),
            render_data_losses(point["data_losses"]),
            *(point["scores"].get(name) for name in scores),
        ]
        for point in curve["points"]
    ]
    tracker.log_table("curve", [*columns, "data_losses", *scores], rows)
    lines = [(log10(point["synthetic_tokens"]), point["accuracy"], point["augmenter"]) for point in curve["points"]]
    tracker.log_line_plot("accuracy_by_tokens", ("log10_tokens", "accuracy", "augmenter"), lines)
    tracker.log_image("scaling_curve", out / "curve.png")
    if (out / "forecast.png").exists():
        tracker.log_image("forecast", out / "forecast.png")
    tracker.summarize({f"{fit['augmenter']}/r2": fit["r2"] for fit in curve["fits"] if "r2" in fit})


def summary_lines(title: str, curve: Mapping[str, Any], recall: Mapping[str, Any] | None) -> list[str]:
    """Returns the table that the command prints."""
    from entigraph.analysis.scaling.loss_curves import loss_change_lines
    from entigraph.analysis.scaling.recall_curve import recall_lines

    base, points = curve["base"], curve["points"]
    width = max(12, *(len(point["augmenter"]) + 2 for point in points))
    lines = ["", title, f"{'':{width}}{'tokens':>10}{'accuracy':>10}{'± s.e.':>9}{'seeds':>7}"]
    if base:
        lines.append(f"{'base':{width}}{0:>10,}{base['accuracy']:>10.3f}{base['stderr']:>9.3f}{base['seeds']:>7}")
    lines += [
        f"{model['name']:{width}}{'':>10}{model['accuracy']:>10.3f}{model['stderr']:>9.3f}"
        for model in curve["baselines"]
    ]
    lines += [
        f"{point['augmenter']:{width}}{point['synthetic_tokens']:>10,}{point['accuracy']:>10.3f}"
        f"{point['stderr']:>9.3f}{point['seeds']:>7}"
        for point in points
    ]
    lines += fit_lines(curve)
    if base:
        lines += [f"base, {name}: {accuracy:.3f}" for name, accuracy in base["tasks"].items()]
    lines += [
        f"{point['augmenter']} at {point['synthetic_tokens']:,}, {name}: {value:.4f}"
        for point in points
        for name, value in point["metrics"].items()
    ]
    lines += recall_lines(recall) if recall else []
    lines += loss_change_lines(curve["losses"])
    losses = render_data_losses(curve["data_losses"], up_to=len(curve["runs"]) > 1)
    lines += [f"data losses in a run: {losses}"] if losses else []
    return lines + [f"note: {note}" for note in curve["notes"]]
