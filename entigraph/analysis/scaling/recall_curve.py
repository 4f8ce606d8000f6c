"""Accuracy against recall, with the closed book beside it: what retrieval is worth to each model as it gets worse."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import PercentFormatter

from entigraph.analysis.study_runs import FinishedRun, augmenters, error_of
from entigraph.reporting.figures import BLACK, GRAY, LABELS, prepare, save, share_axis, style

Scores = Mapping[str, Any]
FILES = ("recall.json", "recall.png", "recall.svg")
WORDS = {"evidence": "questions whose evidence is shown", "article": "questions whose article is shown"}


def by_recall(runs: Sequence[FinishedRun]) -> dict[str, Any] | None:
    """The base and, of each augmenter, the runs of its largest budget; None where no task was open-book.

    Recall is that of the passages which were shown: by evidence where that is known, else by article.
    """
    open_book = [name for name, score in runs[0].scores.items() if "retrieval" in score]
    if not open_book:
        return None
    first = runs[0].scores[open_book[0]]["retrieval"]
    known = "evidence" if first["evidence"]["recall"] is not None else "article"
    closed = next(
        (name for name, score in runs[0].scores.items() if "overflowed" in score and name not in open_book), None
    )
    bases = [scores for scores in {run.seed: run.baseline for run in runs}.values() if scores]
    models: list[tuple[str, int | None, Sequence[Scores]]] = [("base", None, bases)]
    for name in augmenters(runs):
        most = max(run.budget for run in runs if run.augmenter == name)
        own = [run for run in runs if run.augmenter == name and run.budget == most]
        models.append((name, most, [run.scores for run in own]))
    return {
        "recall_of": known,
        "closed_task": closed,
        "chance": runs[0].scores[open_book[0]]["chance"],
        "models": [
            {
                "name": name,
                "budget": budget,
                "closed": averaged(scores, closed) if closed else None,
                "open": sorted(
                    ({"task": task, **shown(scores, task, known), **averaged(scores, task)} for task in open_book),
                    key=lambda point: point["recall"] or 0.0,
                ),
            }
            for name, budget, scores in models
            if scores
        ],
    }


def averaged(scores: Sequence[Scores], task: str) -> dict[str, Any]:
    accuracies = [found[task]["accuracy"] for found in scores]
    return {
        "accuracy": mean(accuracies),
        "stderr": error_of(accuracies, scores[0][task]["stderr"]),
        "questions": sum(found[task]["questions"] for found in scores),
        "overflowed": sum(found[task]["overflowed"] for found in scores),
        "seeds": len(scores),
    }


def shown(scores: Sequence[Scores], task: str, known: str) -> dict[str, Any]:
    found = [each[task]["retrieval"][known]["recall"] for each in scores]
    return {"recall": mean(found) if None not in found else None}


def recall_figure(found: Mapping[str, Any], out: Path, title: str, label: str) -> None:
    """A line with points for the open book, a dashed one of the same color for the closed; PNG and SVG."""
    prepare()
    figure, axes = plt.subplots(figsize=(6.2, 4.4), layout="constrained")
    for number, model in enumerate(found["models"]):
        color, marker = (BLACK, "D") if model["name"] == "base" else style(model["name"], number)
        points = [point for point in model["open"] if point["recall"] is not None]
        name = "Base model" if model["name"] == "base" else LABELS.get(model["name"], model["name"])
        axes.errorbar(
            [point["recall"] for point in points],
            [point["accuracy"] for point in points],
            yerr=[point["stderr"] for point in points],
            color=color,
            marker=marker,
            markersize=4,
            linewidth=1.2,
            capsize=3,
            label=f"{name}, open book",
        )
        if model["closed"]:
            axes.axhline(
                model["closed"]["accuracy"], color=color, linestyle="--", linewidth=1, label=f"{name}, closed book"
            )
    axes.axhline(found["chance"], color=GRAY, linestyle=":", linewidth=1, label="Chance", zorder=1)
    axes.set_xlabel(f"recall: {WORDS[found['recall_of']]}")
    axes.set_ylabel("accuracy")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    share_axis(axes)
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(title, fontsize=10)
    if label:
        figure.supxlabel(label, fontsize=8, color=GRAY)
    save(figure, out, "recall")


def told(found: Mapping[str, Any]) -> list[str]:
    """The figure as a table."""
    lines = ["", f"{'accuracy at recall':20}" + "".join(f"{point['recall'] or 0:>8.1%}" for point in opened(found))]
    lines[-1] += f"{'closed':>9}"
    for model in found["models"]:
        values = "".join(f"{point['accuracy']:>8.3f}" for point in model["open"])
        lines.append(
            f"{model['name']:20}{values}" + (f"{model['closed']['accuracy']:>9.3f}" if model["closed"] else "")
        )
    return lines


def opened(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    points: list[Mapping[str, Any]] = found["models"][0]["open"]
    return points
