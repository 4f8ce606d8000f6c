"""The tables of a study's report: its points, its runs with links to their pages; and its results as Markdown."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entigraph.analysis.study_runs import StudyRun
from entigraph.reporting.figures import abbreviate
from entigraph.text.markdown import escape, escaped_table


@dataclass(frozen=True)
class TextTable:
    """Cells are text; a cell of a column that no row has is not in the table."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def drop_empty_columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> TextTable:
    used = [index for index in range(len(headings)) if any(row[index] for row in rows)]
    return TextTable([headings[index] for index in used], [[row[index] for index in used] for row in rows])


def tabulate_points(curve: Mapping[str, Any]) -> TextTable:
    """Returns a row for the base model, each baseline and each point of the curve."""
    points = curve["points"]
    groups = sorted({group for point in points for group in point["groups"]})
    groups = groups if len(groups) > 1 else []  # a single kind of question has the accuracy of all
    metrics = sorted({name for point in points for name in point["metrics"]})
    headings = [
        *("augmenter", "synthetic tokens", "accuracy", "± s.e.", "s.e. over"),
        *(group.replace("_", " ") for group in groups),
        *("background", *metrics, "seeds", "questions"),
    ]
    rows = [tabulate_point("base", curve["base"], groups, metrics, tokens="0")] if curve["base"] else []
    rows += [tabulate_point(model["name"], model, groups, metrics, tokens="") for model in curve["baselines"]]
    rows += [
        tabulate_point(point["augmenter"], point, groups, metrics, f"{point['synthetic_tokens']:,}") for point in points
    ]
    return drop_empty_columns(headings, rows)


def tabulate_point(
    name: str, point: Mapping[str, Any], groups: Sequence[str], metrics: Sequence[str], tokens: str
) -> list[str]:
    seeds = point.get("seeds")
    return [
        *(name, tokens, f"{point['accuracy']:.3f}", f"{point['stderr']:.3f}"),
        f"{seeds} seeds" if seeds and seeds > 1 else "documents",
        *(f"{point['groups'][group]:.3f}" if group in point["groups"] else "" for group in groups),
        f"{point['background']:.3f}" if point.get("background") is not None else "",
        *(f"{point['metrics'][metric]:.4f}" if metric in point.get("metrics", {}) else "" for metric in metrics),
        *(str(seeds or ""), f"{point['questions']:,}"),
    ]


def tabulate_scores(curve: Mapping[str, Any]) -> TextTable:
    """Returns a row for every number in scores.json, and a column for the base model and each point of the curve."""
    points = [*([{"augmenter": "base", **curve["base"]}] if curve["base"] else []), *curve["points"]]
    names = dict.fromkeys(name for point in points for name in point["scores"])
    headings = [f"{point['augmenter']} {abbreviate(point.get('synthetic_tokens', 0))}" for point in points]
    rows = [
        [name, *(f"{point['scores'][name]:,.6g}" if name in point["scores"] else "" for point in points)]
        for name in names
    ]
    return TextTable(["score", *headings], rows)


@dataclass(frozen=True)
class RunRow:
    """A run of the table of runs. `links` are (text, relative path) of its pages and folders."""

    cells: Sequence[str]
    links: Sequence[tuple[str, str]]


def tabulate_runs(runs: Sequence[StudyRun], study: Path) -> tuple[Sequence[str], list[RunRow]]:
    """Returns the headings and a row per run, with the settings in which the runs differ."""
    varying = sorted({key for run in runs for key in run.entry.get("varies", {})})
    headings = ["augmenter", "synthetic tokens", "seed", "accuracy", *varying]
    ordered = sorted(runs, key=lambda run: (run.augmenter, run.budget, run.seed))
    rows = [
        RunRow(
            [
                *(run.augmenter, f"{run.synthetic_tokens:,}", str(run.seed), f"{run.score['accuracy']:.3f}"),
                *(str(run.entry.get("varies", {}).get(key, "")) for key in varying),
            ],
            list_links(run, study),
        )
        for run in ordered
    ]
    return headings, rows


def list_links(run: StudyRun, study: Path) -> list[tuple[str, str]]:
    pages = {
        "answers": run.folder("evaluation") / "report.html",
        "texts": run.folder("synthesis") / "report.html",
        "model": run.folder("training") / "model",
    }
    return [(name, os.path.relpath(path, study)) for name, path in pages.items() if path.exists()]


def render_results(curve: Mapping[str, Any], figure: str = "") -> str:
    """Returns a study's notes, summary, `figure`, points and fits as Markdown."""
    table = tabulate_points(curve)
    parts = [
        "\n".join(f"> {escape(note)}" for note in curve["notes"]),
        "\n".join(f"- **{heading}**: {escape(text)}" for heading, text in curve.get("summary", {}).items()),
        figure,
        escaped_table(table.headings, table.rows),
        "± is one standard error, over seeds where there are two or more, else over documents.",
        "\n".join(f"- {escape(line)}" for line in fit_lines(curve)),
    ]
    return "\n\n".join(part for part in parts if part)


def fit_lines(curve: Mapping[str, Any]) -> list[str]:
    """Returns the fit of each augmenter, and its forecasts."""
    lines = [f"fit, {fit['augmenter']}: {fit.get('missing') or describe_line(fit)}" for fit in curve.get("fits", ())]
    return lines + [line for forecast in curve.get("forecasts", ()) for line in forecast_lines(forecast)]


def forecast_lines(forecast: Mapping[str, Any]) -> list[str]:
    """Returns the results of backtests, and the targets that the last forecast reaches."""
    lines = []
    if forecast.get("held_out"):
        # The last form of a budget is the one chosen on it; the line before it forecasts the same runs again.
        chosen = {(entry["fitted_to"], entry["times"]): entry for entry in forecast["held_out"]}.values()
        worst = max(chosen, key=lambda held_out: abs(held_out["error"]))
        inside, count = (sum(held_out[key] for held_out in chosen) for key in ("inside", "runs"))
        lines.append(
            f"backtests, {forecast['augmenter']}: {inside} of {count} runs inside their band; largest error "
            f"{100 * worst['error']:+.1f} points ({worst['form']} fitted to {worst['fitted_to']:,}, at {worst['at']:,})"
        )
    reached = [target for target in forecast.get("targets", ()) if target["tokens"] is not None]
    if reached:
        targets = ", ".join(f"{target['accuracy']:g} at {target['tokens']:,} tokens" for target in reached)
        lines.append(f"forecast, {forecast['augmenter']} ({forecast['chosen']}): {targets}")
    return lines


def describe_line(fit: Mapping[str, Any]) -> str:
    a, b = fit["parameters"]["a"], fit["parameters"]["b"]
    low, high = fit["tokens"]
    return (
        f"accuracy = {a:.3f} {b:+.4f} ln(tokens), R² {fit['r2']:.3f} over {fit['runs']} runs "
        f"of {low:,} to {high:,} tokens, {100 * fit['gain_per_doubling']:+.1f} points per doubling"
    )
