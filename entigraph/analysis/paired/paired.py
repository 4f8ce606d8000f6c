"""The analysis that compares any two finished evaluations: paired.json, paired.html and a figure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.study_runs import corpus_disclaimer, load_scores
from entigraph.config.fields import check_minimums, check_shares, runtime_field
from entigraph.errors import ConfigError
from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, BLUE, GRAY, VERMILION
from entigraph.reporting.html import embed_svg, write_static_page
from entigraph.storage.artifact import is_complete, is_finished, read_json, read_manifest, write_json
from entigraph.storage.data_losses import render_data_losses

MAX_NAMES = 8  # names in an error message
MAX_CHANGED_QUESTIONS = 2_000  # on the page; paired.json has all


@dataclass(frozen=True, kw_only=True)
class Paired:
    """`one` minus `other`: two evaluations, by the name of their folder in evaluation/, its beginning, or a path.

    Null: the evaluation of this configuration, and that of its base model. `task` null: the first that both have.
    """

    name: ClassVar[str] = "paired"
    one: str | None = runtime_field(None)  # both enter the cache key as inputs
    other: str | None = runtime_field(None)
    task: str | None = None
    confidence: float = 0.9
    resamples: int = 2000

    def __post_init__(self) -> None:
        check_shares(self, "analysis.", "confidence", ends=False)
        check_minimums(self, "analysis.", resamples=1)

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        """Returns the two evaluations. Raises ConfigError if one does not exist, or both are the same."""
        configured = context.configured_run
        one = find_evaluation("one", self.one, context.root, configured.finished_folder("evaluation"))
        other = find_evaluation("other", self.other, context.root, configured.finished_folder("baseline"))
        if one == other:
            raise ConfigError(f"analysis.one, analysis.other: both are {one.name}; name two evaluations")
        find_common_task(self.task, one, other)
        return {"one": one, "other": other}

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes paired.json, .html, .png and .svg."""
        from entigraph.analysis.paired.paired_tests import log_pairs, pair_lines

        pair = self.compare(*self.inputs(context).values())
        write_json(out / "paired.json", pair)
        draw_pair(pair, out)
        write_static_page(
            out / "paired.html", "entigraph.analysis", "paired/paired.html.j2",
            pair=pair, figure=embed_svg(out / "paired.svg"), max_changed=MAX_CHANGED_QUESTIONS,
        )  # fmt: skip
        log_pairs(context.tracker, [pair])
        return pair_lines(pair)

    def compare(self, one: Path, other: Path) -> dict[str, Any]:
        """Returns the comparison of two evaluations, with a disclaimer if their documents are fictional."""
        from entigraph.analysis.document_bootstrap import Resampling
        from entigraph.analysis.paired.paired_tests import AnsweredTask, compare_answers

        task = find_common_task(self.task, one, other)
        corpus = one.parents[1] / "corpus" / read_manifest(one)["inputs"][f"questions_{task}"]["folder"]
        pair = compare_answers(
            AnsweredTask(one.name, one, task),
            AnsweredTask(other.name, other, task),
            Resampling(self.confidence, self.resamples),
        )
        losses = {
            folder.name: render_data_losses(load_scores(folder)[task].get("data_losses", {})) for folder in (one, other)
        }
        return {
            **pair,
            "data_losses": [f"Data losses of {name}: {text}" for name, text in losses.items() if text],
            "label": corpus_disclaimer(corpus) if is_complete(corpus) else None,
        }


def find_evaluation(key: str, name: str | None, root: Path, default: Path | None) -> Path:
    """Returns the finished evaluation with this path, name or beginning of a name. Raises ConfigError otherwise."""
    if name is None and default:
        return default
    path = Path(name or "").expanduser()
    if name and is_complete(path) and read_manifest(path)["stage"] == "evaluation":
        return path.resolve()
    finished = sorted(folder for folder in (root / "evaluation").glob("*") if is_finished(folder))
    matches = [folder for folder in finished if name and folder.name.startswith(name)]
    exact = [folder for folder in matches if folder.name == name]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    if matches:
        state = f"{name!r} begins the names of {len(matches)} evaluations"
    elif name:
        state = f"{name!r} is not a finished evaluation"
    else:
        state = "not set, and this configuration has none (a sweep has many; random weights have no base model)"
    known = [folder.name for folder in matches or finished]
    more = f" and {len(known) - MAX_NAMES:,} more" if len(known) > MAX_NAMES else ""
    listed = ", ".join(known[:MAX_NAMES]) + more
    raise ConfigError(f"analysis.{key}: {state}; name one of {root / 'evaluation'}: {listed or 'there is none yet'}")


def find_common_task(task: str | None, one: Path, other: Path) -> str:
    tasks, other_tasks = question_tasks(one), question_tasks(other)
    common = [name for name in tasks if name in other_tasks]
    if task in common or (task is None and common):
        return task or common[0]
    state = f"both answered {', '.join(common)}" if common else "they have no task in common"
    raise ConfigError(f"analysis.task={task}: {state} ({one.name}, {other.name})")


def question_tasks(evaluation: Path) -> list[str]:
    files = read_manifest(evaluation)["files"]
    scores = read_json(evaluation / "scores.json")
    return [name for name in scores if f"answers-{name}.jsonl" in files]


def draw_pair(pair: Mapping[str, Any], out: Path) -> None:
    """Draws the shares of questions gained and lost, for all questions and by kind of question."""
    from matplotlib.ticker import FuncFormatter

    groups = pair["groups"].items() if len(pair["groups"]) > 1 else ()
    rows = {"all questions": pair, **{name.replace("_", " "): counts for name, counts in groups}}
    figure, ((axes,),) = figures.create_figure(figsize=(7.2, 1.5 + 0.36 * len(rows)))
    for y, counts in enumerate(rows.values()):
        gained, lost = (counts[name] / counts["questions"] for name in ("gained", "lost"))
        axes.barh(y, gained, color=BLUE, height=0.62, label="gained" if not y else None)
        axes.barh(y, -lost, color=VERMILION, height=0.62, label="lost" if not y else None)
        axes.plot(
            [gained - lost], [y], color=BLACK, marker="D", markersize=4, linestyle="none",
            label="difference" if not y else None,
        )  # fmt: skip
    axes.axvline(0, color=GRAY, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{name} ({counts['questions']:,})" for name, counts in rows.items()])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):.0%}"))
    axes.set_xlabel("share of the questions")
    axes.set_title(f"{pair['one']}\nminus {pair['other']}, {pair['task'].replace('_', ' ')}", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figures.save_figure(figure, out, "paired", "\n".join(filter(None, (*pair["data_losses"], pair["label"]))))
