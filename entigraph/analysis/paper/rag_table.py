"""The paper's Table 3: what retrieval adds to a model that was trained on the corpus, and to one that was not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.paper import published
from entigraph.analysis.paper.paper_curve import study_note
from entigraph.analysis.paper.published import RetrievalRow
from entigraph.analysis.scaling.recall_curve import average_recall, average_task, closed_book_task
from entigraph.analysis.study_runs import StudyRun, count_questions, largest_runs, load_base_scores, run_folders
from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, GRAY, STYLES, Axes
from entigraph.reporting.tables import write_table
from entigraph.storage.artifact import write_json

COLUMNS = {"model": "", "task": "", "accuracy": ".4f", "± s.e.": ".4f", "recall of articles": ".4f",
           "closed book": ".4f", "gain": "+.4f", "questions": ",", "from": ""}  # fmt: skip
MAX_ROWS_PER_MODEL = 5  # in the figure, the best ones; the table has all


@dataclass(frozen=True, kw_only=True)
class RagTable:
    """The paper's Table 3, followed by a study's own models with passages and without."""

    name: ClassVar[str] = "rag_table"

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return run_folders(context.runs)

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes rag_table.json, .csv, .md, .png and .svg."""
        return write_rag_table(context.runs, out)


def write_rag_table(runs: Sequence[StudyRun], out: Path) -> list[str]:
    study_rows = sorted(build_study_rows(runs), key=lambda row: -row.accuracy)
    draw_rag_table(study_rows, study_note(runs), out)
    paper = [asdict(row) for row in published.RETRIEVAL]
    write_json(out / "rag_table.json", {"paper": paper, "study": [asdict(row) for row in study_rows]})
    lines = write_table(out, "rag_table", COLUMNS, [row.cells for row in (*published.RETRIEVAL, *study_rows)])
    if runs and not study_rows:
        lines.append("no run of this study was evaluated with passages; try evaluation=[closed_book,open_book]")
    best = {model_family(row): row for row in reversed(study_rows)}
    return lines + [f"best of {name}: {row.model}, {row.task}: {row.accuracy:.4f}" for name, row in best.items()]


def model_family(row: RetrievalRow) -> str:
    """Returns the augmenter, or "base", without the settings that distinguish series."""
    return row.model.partition(" ")[0]


def build_study_rows(runs: Sequence[StudyRun]) -> Iterator[RetrievalRow]:
    """Yields each series of the study at its largest budget, and each base model once."""
    by_base: dict[str, list[StudyRun]] = {}
    for name, largest in largest_runs(runs).items():
        yield from build_model_rows(name, [run.scores for run in largest], largest)
        by_base.setdefault(f"base {name.partition(' ')[2]}".strip(), []).extend(largest)
    for name, group in by_base.items():
        yield from build_model_rows(name, load_base_scores(group), group)


def build_model_rows(
    model: str, scores: Sequence[Mapping[str, Any]], runs: Sequence[StudyRun]
) -> Iterator[RetrievalRow]:
    first = scores[0] if scores else {}
    closed = closed_book_task(first)
    for task in [name for name, score in first.items() if "retrieval" in score]:
        average = average_task(scores, task)
        yield RetrievalRow(
            model, task, average["accuracy"], average["stderr"], average_recall(scores, task, "article"),
            mean(score[closed]["accuracy"] for score in scores) if closed else None, count_questions(runs, task),
            "this study",
        )  # fmt: skip


def draw_rag_table(study_rows: Sequence[RetrievalRow], note: str, out: Path) -> None:
    """Draws each model from its accuracy without passages (hollow) to that with them (solid)."""
    rows = select_best_rows(study_rows)
    columns = 2 if rows else 1
    figure, (panels,) = figures.create_figure(1, columns, figsize=(6.0 * columns, 1.6 + 0.24 * max(5, len(rows))))
    draw_rows(panels[0], published.RETRIEVAL, f"As published ({published.PAPER}, {published.RETRIEVAL_SECTION})")
    if rows:
        selection = f" (the best {MAX_ROWS_PER_MODEL} of each model)" if len(rows) < len(study_rows) else ""
        draw_rows(panels[1], rows, f"This study{selection}")
    figure.suptitle("With passages and without (paper Table 3)", fontsize=10)
    figures.save_figure(figure, out, "rag_table", note)


def select_best_rows(rows: Sequence[RetrievalRow]) -> list[RetrievalRow]:
    families = [model_family(row) for row in rows]
    return [row for index, row in enumerate(rows) if families[:index].count(families[index]) < MAX_ROWS_PER_MODEL]


def draw_rows(axes: Axes, rows: Sequence[RetrievalRow], title: str) -> None:
    several_tasks = len({row.task for row in rows}) > 1
    for position, row in enumerate(rows):
        family = model_family(row).lower()
        color = BLACK if family in ("base", "llama") else STYLES.get(family, (GRAY, "o"))[0]
        if row.closed is not None:
            axes.plot([row.closed, row.accuracy], [position, position], color=color, linewidth=1.2)
            axes.plot([row.closed], [position], color=color, marker="o", markerfacecolor="white", linestyle="none")
        axes.errorbar([row.accuracy], [position], xerr=row.stderr, color=color, marker="o", capsize=3)
    axes.plot([], [], color=GRAY, marker="o", markerfacecolor="white", linestyle="none", label="closed book")
    axes.plot([], [], color=GRAY, marker="o", linestyle="none", label="with passages")
    names = [f"{figures.display_name(row.model)}{f', {row.task}' if several_tasks else ''}" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.invert_yaxis()
    figures.format_percent_axis(axes, "x")
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy")
    axes.set_title(title, fontsize=9)
    axes.legend(frameon=False, fontsize=7.5, loc="best")
