"""Open-book accuracy against the recall of retrieval, with the closed-book accuracy: what retrieval adds to a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from entigraph.analysis.study_runs import StudyRun, count_questions, largest_runs, load_base_scores, standard_error
from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, DISPLAY_NAMES, GRAY

Scores = Mapping[str, Any]
AXIS_LABELS = {
    "evidence": "questions with their evidence in the prompt",
    "article": "questions with their article in the prompt",
}


def build_recall_curve(runs: Sequence[StudyRun]) -> dict[str, Any] | None:
    """Returns the base model and each augmenter at its largest budget; None if no task was open-book.

    Recall counts the passages in the prompt: by evidence if that is known, else by article.
    """
    first_scores = runs[0].scores
    open_book = [name for name, score in first_scores.items() if "retrieval" in score]
    if not open_book:
        return None
    retrieval = first_scores[open_book[0]]["retrieval"]
    unit = "evidence" if retrieval["evidence"]["recall"] is not None else "article"
    closed = closed_book_task(first_scores)
    models: list[tuple[str, int | None, Sequence[Scores]]] = [("base", None, load_base_scores(runs))]
    models += [(name, group[0].budget, [run.scores for run in group]) for name, group in largest_runs(runs).items()]
    questions = {task: count_questions(runs, task) for task in (*open_book, *([closed] if closed else []))}
    return {
        "recall_of": unit,
        "closed_task": closed,
        "chance": first_scores[open_book[0]]["chance"],
        "models": [
            {
                "name": name,
                "budget": budget,
                "closed": {**average_task(scores, closed), "questions": questions[closed]} if closed else None,
                "open": sorted(
                    (
                        {
                            "task": task,
                            "recall": average_recall(scores, task, unit),
                            **average_task(scores, task),
                            "questions": questions[task],
                        }
                        for task in open_book
                    ),
                    key=lambda point: point["recall"] or 0.0,
                ),
            }
            for name, budget, scores in models
            if scores
        ],
    }


def closed_book_task(scores: Scores) -> str | None:
    """Returns the first question task without retrieval."""
    return next((name for name, score in scores.items() if "overflowed" in score and "retrieval" not in score), None)


def average_task(scores: Sequence[Scores], task: str) -> dict[str, Any]:
    accuracies = [run_scores[task]["accuracy"] for run_scores in scores]
    return {
        "accuracy": mean(accuracies),
        "stderr": standard_error(accuracies, scores[0][task]["stderr"]),
        "overflowed": sum(run_scores[task]["overflowed"] for run_scores in scores),
        "seeds": len(scores),
    }


def average_recall(scores: Sequence[Scores], task: str, unit: str) -> float | None:
    recalls = [run_scores[task]["retrieval"][unit]["recall"] for run_scores in scores]
    return mean(recalls) if None not in recalls else None


def draw_recall_curve(curve: Mapping[str, Any], out: Path, title: str, note: str) -> None:
    """Writes recall.png and recall.svg: a line with points for open book, a dashed one of its color for closed book."""
    figure, ((axes,),) = figures.create_figure(figsize=(6.2, 4.4))
    series = sorted({model["name"] for model in curve["models"]} - {"base"})  # as in the other figures of the study
    for model in curve["models"]:
        index = series.index(model["name"]) if model["name"] in series else 0
        color, marker = (BLACK, "D") if model["name"] == "base" else figures.series_style(model["name"], index)
        name = "Base model" if model["name"] == "base" else DISPLAY_NAMES.get(model["name"], model["name"])
        points = [point for point in model["open"] if point["recall"] is not None]
        style = {"color": color, "marker": marker, "markersize": 4, "linestyle": "-", "linewidth": 1.2}
        label = f"{name}, open book"
        figures.plot_series(axes, name, index, points, "recall", "accuracy", "stderr", label=label, **style)
        if model["closed"]:
            closed = model["closed"]["accuracy"]
            axes.axhline(closed, color=color, linestyle="--", linewidth=1, label=f"{name}, closed book")
    axes.axhline(curve["chance"], color=GRAY, linestyle=":", linewidth=1, label="Chance", zorder=1)
    axes.set_xlabel(f"recall: {AXIS_LABELS[curve['recall_of']]}")
    axes.set_ylabel("accuracy")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(0, 1)
    figures.format_percent_axis(axes, "x", grid=False)
    figures.format_percent_axis(axes)
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(title, fontsize=10)
    figures.save_figure(figure, out, "recall", note)


def recall_lines(curve: Mapping[str, Any]) -> list[str]:
    """Returns the curve as the lines of a table."""
    recalls = "".join(f"{point['recall'] or 0:>8.1%}" for point in curve["models"][0]["open"])
    lines = ["", f"{'accuracy at recall':20}{recalls}{'closed':>9}"]
    for model in curve["models"]:
        accuracies = "".join(f"{point['accuracy']:>8.3f}" for point in model["open"])
        closed = f"{model['closed']['accuracy']:>9.3f}" if model["closed"] else ""
        lines.append(f"{model['name']:20}{accuracies}{closed}")
    return lines
