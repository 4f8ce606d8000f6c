"""The paper's Table 3: what retrieval adds to a model that has read the corpus, and to one that has not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from entigraph.analysis.paper import published
from entigraph.analysis.paper.tables import write_table
from entigraph.analysis.study_runs import FinishedRun, augmenters, error_of, label_of, scores_of
from entigraph.reporting.figures import BLACK, GRAY, STYLES, label, prepare, save, share_axis
from entigraph.storage.artifact import is_complete, write_json

COLUMNS = {"model": "", "task": "", "accuracy": ".4f", "± s.e.": ".4f", "recall of articles": ".4f",
           "closed book": ".4f", "gain": "+.4f", "questions": ",", "from": ""}  # fmt: skip
DRAWN = 5  # lines of each model in the figure, the best ones; the table has all


@dataclass(frozen=True)
class Row:
    """A model with passages and without (`closed`, null where it was not asked so).

    `recall`: the share of questions that were shown a passage of their article; the paper's, among eight.
    """

    model: str
    task: str
    accuracy: float
    stderr: float | None
    recall: float | None
    closed: float | None
    questions: int | None
    source: str

    @property
    def cells(self) -> tuple[Any, ...]:
        gain = self.accuracy - self.closed if self.closed is not None else None
        return (self.model, self.task, self.accuracy, self.stderr, self.recall, self.closed, gain,
                self.questions, self.source)  # fmt: skip


PRINTED: Sequence[Row] = tuple(
    Row(each.name, "", each.accuracy, None, each.recall, each.closed, published.QUESTIONS,
        f"{published.RETRIEVAL_SECTION}; closed: {each.closed_section}")
    for each in published.RETRIEVAL
)  # fmt: skip


def rag_table(runs: Sequence[FinishedRun], out: Path) -> list[str]:
    """Writes rag_table.json, .csv, .md, .png and .svg; returns what to tell."""
    own = sorted(own_rows(runs), key=lambda row: -row.accuracy)
    draw(own, label_of(runs), out)
    paper = [asdict(row) for row in PRINTED]
    write_json(out / "rag_table.json", {"paper": paper, "study": [asdict(row) for row in own]})
    told = write_table(out, "rag_table", COLUMNS, [row.cells for row in (*PRINTED, *own)])
    if runs and not own:
        told.append("no run of this study was asked with passages: evaluation=[closed_book,open_book], for one, does")
    best = {row.model.partition(" ")[0]: row for row in reversed(own)}
    return told + [f"best of {name}: {row.model}, {row.task}: {row.accuracy:.4f}" for name, row in best.items()]


def own_rows(runs: Sequence[FinishedRun]) -> Iterator[Row]:
    """Each line of the study at its largest budget, and the starting model as it was asked beside it, once."""
    starts: dict[str, list[str]] = {}
    for name in augmenters(runs):
        most = max(run.budget for run in runs if run.augmenter == name)
        own = [run for run in runs if run.augmenter == name and run.budget == most]
        yield from rows_of(name, [run.scores for run in own])
        told = name.partition(" ")[2]
        folders = {str(run.folder("baseline")) for run in own if "baseline" in run.member}
        starts.setdefault(f"base {told}".strip(), []).extend(sorted(folders))
    for name, found in starts.items():
        complete = [Path(folder) for folder in dict.fromkeys(found) if is_complete(Path(folder))]
        yield from rows_of(name, [scores_of(folder) for folder in complete])


def rows_of(model: str, scores: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    first = scores[0] if scores else {}
    asked = [name for name, score in first.items() if "retrieval" in score]
    closed = next((name for name, score in first.items() if "overflowed" in score and name not in asked), None)
    for task in asked:
        accuracies = [found[task]["accuracy"] for found in scores]
        recalls = [found[task]["retrieval"]["article"]["recall"] for found in scores]
        yield Row(
            model, task, mean(accuracies), error_of(accuracies, first[task]["stderr"]),
            mean(recalls) if None not in recalls else None,
            mean(found[closed]["accuracy"] for found in scores) if closed else None,
            sum(found[task]["questions"] for found in scores), "this study",
        )  # fmt: skip


def draw(own: Sequence[Row], note: str, out: Path) -> None:
    """From the accuracy without passages (hollow) to that with them (full)."""
    prepare()
    shown = best_of_each(own)
    sides = 2 if shown else 1
    figure, panels = plt.subplots(1, sides, figsize=(6.0 * sides, 1.6 + 0.24 * max(5, len(shown))), squeeze=False,
                                  layout="constrained")  # fmt: skip
    pairs(panels[0, 0], PRINTED, f"As published ({published.PAPER}, {published.RETRIEVAL_SECTION})")
    if shown:
        fewer = f", the best {DRAWN} of each of {len(own)} in all" if len(shown) < len(own) else ""
        pairs(panels[0, 1], shown, f"This study{fewer}")
    figure.suptitle("With passages and without (paper Table 3)", fontsize=10)
    if note:
        figure.supxlabel(f"right: {note}", fontsize=8, color=GRAY)
    save(figure, out, "rag_table")


def best_of_each(rows: Sequence[Row]) -> list[Row]:
    """In their order, the first so many of the base and of each augmenter."""
    heads = [row.model.partition(" ")[0] for row in rows]
    return [row for place, row in enumerate(rows) if heads[:place].count(heads[place]) < DRAWN]


def pairs(axes: Axes, rows: Sequence[Row], title: str) -> None:
    several = len({row.task for row in rows}) > 1
    for place, row in enumerate(rows):
        head = row.model.split()[0].lower()
        color = BLACK if head in ("base", "llama") else STYLES.get(head, (GRAY, "o"))[0]
        if row.closed is not None:
            axes.plot([row.closed, row.accuracy], [place, place], color=color, linewidth=1.2)
            axes.plot([row.closed], [place], color=color, marker="o", markerfacecolor="white", linestyle="none")
        axes.errorbar([row.accuracy], [place], xerr=row.stderr, color=color, marker="o", capsize=3)
    axes.plot([], [], color=GRAY, marker="o", markerfacecolor="white", linestyle="none", label="closed book")
    axes.plot([], [], color=GRAY, marker="o", linestyle="none", label="with passages")
    names = [f"{label(row.model)}{f', {row.task}' if several else ''}" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.invert_yaxis()
    share_axis(axes, "x")
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy")
    axes.set_title(title, fontsize=9)
    axes.legend(frameon=False, fontsize=7.5, loc="best")
