"""The finished runs of a study, and the points of its curve."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from entigraph.analysis.series import name_series
from entigraph.fictional.reading import comprehend
from entigraph.reporting.disclaimers import PIPELINE_CHECK_SHORT, is_pipeline_check, shorten
from entigraph.storage.artifact import is_complete, is_from_another_version, read_json, read_manifest
from entigraph.storage.data_losses import merge_data_losses, render_data_losses
from entigraph.storage.fingerprints import digest
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer, CurvePoint, Document
from entigraph.storage.scores import scalar_scores

FICTIONAL_DOCUMENTS = "fictional documents"
STAGES = ("corpus", "synthesis", "tokens", "training", "evaluation")
AUGMENTER_ORDER = ("raw", "rephrase", "entigraph")


@dataclass(frozen=True)
class StudyRun:
    """A run as its study lists it (`entry`), with the artifacts of its stages. Paths are relative to `root`."""

    root: Path
    entry: dict[str, Any]

    @property
    def name(self) -> str:
        return str(Path(self.entry["evaluation"]).name)

    @property
    def augmenter(self) -> str:
        """The name of the run's series: its augmenter, and the settings that distinguish it from other series."""
        return str(self.entry["augmenter"])

    @property
    def seed(self) -> int:
        return int(self.entry["seed"])

    @property
    def budget(self) -> int:
        return int(self.entry["budget"] or self.synthetic_tokens)

    @property
    def complete(self) -> bool:
        return all(is_complete(self.folder(stage)) for stage in STAGES if stage in self.entry)

    @property
    def outdated_stage(self) -> str | None:
        """The first stage of which this version of the program would write something else."""
        manifests = {stage: read_manifest(self.folder(stage)) for stage in STAGES if stage in self.entry}
        outdated = (
            name for name, manifest in manifests.items() if "key" in manifest and is_from_another_version(manifest)
        )
        return next(outdated, None)

    def folder(self, stage: str) -> Path:
        return self.root / str(self.entry[stage])

    def finished_folder(self, stage: str) -> Path | None:
        return self.folder(stage) if stage in self.entry and is_complete(self.folder(stage)) else None

    @property
    def has_graphs(self) -> bool:
        """Whether its texts were written from entity graphs."""
        folder = self.finished_folder("synthesis")
        return bool(folder and (folder / "graphs.jsonl").exists() and (folder / "graphs.jsonl").stat().st_size)

    @cached_property
    def created(self) -> str:
        return str(read_manifest(self.folder("evaluation")).get("created", ""))

    @cached_property
    def synthetic_tokens(self) -> int:
        return int(read_manifest(self.folder("tokens"))["counts"]["synthetic_tokens"])

    @cached_property
    def passes(self) -> float:
        return float(read_manifest(self.folder("tokens"))["counts"]["passes"])

    @cached_property
    def dollars_per_token(self) -> float | None:
        """The cost of writing its texts; None if their manifest does not state it."""
        folder = self.finished_folder("synthesis")
        counts = read_manifest(folder)["counts"] if folder else {}
        return counts["dollars"] / counts["tokens"] if counts.get("dollars") is not None else None

    @cached_property
    def scores(self) -> dict[str, Any]:
        return load_scores(self.folder("evaluation"))

    @cached_property
    def task(self) -> str:
        """The first task that asks questions; its accuracy is the curve's."""
        return next(name for name, score in self.scores.items() if "accuracy" in score)

    @cached_property
    def score(self) -> dict[str, Any]:
        return dict(self.scores[self.task])

    @cached_property
    def answers(self) -> list[Answer]:
        """Sorted by question: the same order in every run that answered the same questions."""
        return load_answers(self.folder("evaluation"), self.task)

    @property
    def correct(self) -> list[bool]:
        return [answer.correct for answer in self.answers]

    @property
    def documents(self) -> list[str]:
        """The document that each question is about."""
        return [answer.document_id for answer in self.answers]

    @cached_property
    def questions_key(self) -> int:
        """The same number for runs that answered the same questions."""
        return int(digest([[answer.question_id, answer.question] for answer in self.answers]), 16)

    @property
    def base_model_scores(self) -> dict[str, Any] | None:
        """The scores of the model that the trained one is compared with, on the same questions."""
        folder = self.finished_folder("baseline")
        return load_scores(folder) if folder else None


def load_scores(evaluation: Path) -> dict[str, Any]:
    return dict(read_json(evaluation / "scores.json"))


def load_answers(evaluation: Path, task: str) -> list[Answer]:
    """Returns the answers sorted by question, without their texts: those of many runs would not fit into memory."""
    answers = read_jsonl(evaluation / f"answers-{task}.jsonl", Answer)
    without_texts = (replace(answer, texts=(), passages=()) for answer in answers)
    return sorted(without_texts, key=lambda answer: answer.question_id)


def corpus_disclaimer(corpus: Path) -> str | None:
    """Returns a disclaimer if the fictional grammar generated the documents, judged by the first one."""
    first = next(read_jsonl(corpus / "documents.jsonl", Document), None)
    return FICTIONAL_DOCUMENTS if first and comprehend(first.text) else None


def load_entries(study: Path) -> list[dict[str, Any]]:
    return [read_json(file) for file in sorted((study / "runs").glob("*.json"))]


def finished_runs(study: Path, root: Path, *others: tuple[Path, Path]) -> tuple[list[StudyRun], list[str]]:
    """Returns the newest finished run of each augmenter, budget and seed, and why each other run is excluded.

    Two runs of one augmenter, budget and seed differ in some other setting (another pool of texts, other options): they
    are not two seeds, and averaging them would understate the uncertainty. `others` are studies of other roots that are
    joined with this one.
    """
    listed = [(run_root, entry) for folder, run_root in ((study, root), *others) for entry in load_entries(folder)]
    named = name_series([entry for _, entry in listed])
    runs = [StudyRun(run_root, entry) for (run_root, _), entry in zip(listed, named, strict=True)]
    excluded = [f"{run.name} is not finished" for run in runs if not run.complete]
    complete = [(run, run.outdated_stage) for run in runs if run.complete]
    excluded += [f"{run.name}: another version of entigraph made its {stage}" for run, stage in complete if stage]
    newest: dict[tuple[str, int, int], StudyRun] = {}
    for run in sorted((run for run, outdated in complete if not outdated), key=lambda run: run.created):
        key = (run.augmenter, run.budget, run.seed)
        if key in newest:
            excluded.append(f"{newest[key].name}: {run.name} is newer, with the same augmenter, budget and seed")
        newest[key] = run
    return sorted(newest.values(), key=lambda run: run.name), excluded


def run_folders(runs: Sequence[StudyRun], *stages: str) -> dict[str, Path]:
    """Returns the finished folders of these stages (default: all that scores and texts come from), named for inputs."""
    names = stages or ("corpus", "synthesis", "tokens", "evaluation", "baseline")
    folders = {f"{stage}/{run.name}": run.finished_folder(stage) for run in runs for stage in names}
    return {name: folder for name, folder in folders.items() if folder}


def accuracy_label(run: StudyRun) -> str:
    """Returns what the accuracy of a run's first task measures, for an axis."""
    scored_by = run.score.get("scored_by")
    if scored_by == "exact match":
        return "exact match"
    task = "closed-book" if run.task.startswith("closed_book") else run.task.replace("_", " ")
    return f"{task} accuracy" + (f", judged by {scored_by}" if scored_by else "")


def short_disclaimer(runs: Sequence[StudyRun]) -> str:
    """Returns the disclaimer below a figure of simulated runs; empty if nothing is simulated."""
    disclaimers = {run.entry["label"] for run in runs}
    return PIPELINE_CHECK_SHORT if any(map(is_pipeline_check, disclaimers)) else shorten(disclaimers)


def study_data_losses(runs: Sequence[StudyRun]) -> dict[str, dict[str, Any]]:
    """Returns the largest data loss of each kind over the runs."""
    return score_data_losses([run.score for run in runs])


def score_data_losses(scores: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the largest data loss of each kind."""
    return merge_data_losses(score.get("data_losses", {}) for score in scores)


def render_study_data_losses(runs: Sequence[StudyRun]) -> str:
    """Returns the runs' data losses as one line; empty if there are none."""
    losses = render_data_losses(study_data_losses(runs), up_to=len(runs) > 1)
    return f"Data losses in a run: {losses}" if losses else ""


def figure_footer(runs: Sequence[StudyRun]) -> str:
    """Returns what is written below a figure of the runs: their disclaimer and their data losses."""
    return "\n".join(filter(None, (short_disclaimer(runs), render_study_data_losses(runs))))


def list_augmenters(runs: Sequence[StudyRun]) -> list[str]:
    """Returns the names of the series: known augmenters from the least to the most processed, then the others."""
    names = {run.augmenter for run in runs}
    return [name for name in AUGMENTER_ORDER if name in names] + sorted(names - set(AUGMENTER_ORDER))


def by_augmenter(runs: Sequence[StudyRun]) -> dict[str, list[StudyRun]]:
    """Returns the runs of each series, in the order of `list_augmenters`."""
    return {name: [run for run in runs if run.augmenter == name] for name in list_augmenters(runs)}


def largest_runs(runs: Sequence[StudyRun]) -> dict[str, list[StudyRun]]:
    """Returns the runs of each series at its largest budget."""
    largest = {name: max(run.budget for run in series) for name, series in by_augmenter(runs).items()}
    return {name: [run for run in runs if (run.augmenter, run.budget) == (name, at)] for name, at in largest.items()}


def processed_first(augmenter: str) -> tuple[int, str]:
    """A sort key: EntiGraph, rephrase, raw, then other augmenters by name."""
    return (-AUGMENTER_ORDER.index(augmenter) if augmenter in AUGMENTER_ORDER else 1, augmenter)


def build_points(runs: Sequence[StudyRun]) -> list[CurvePoint]:
    """Returns one point per augmenter and budget."""
    return [
        build_point([run for run in series if run.budget == budget])
        for series in by_augmenter(runs).values()
        for budget in sorted({run.budget for run in series})
    ]


def build_point(runs: Sequence[StudyRun]) -> CurvePoint:
    """Returns the mean over seeds; its standard error is over seeds if there are two, else clustered by document."""
    return CurvePoint(
        augmenter=runs[0].augmenter,
        budget=runs[0].budget,
        synthetic_tokens=round(mean(run.synthetic_tokens for run in runs)),
        seeds=len({run.seed for run in runs}),
        **{**summarize_scores([run.score for run in runs]), "questions": count_questions(runs)},
        background=mean_background([run.scores for run in runs]),
        metrics=mean_metrics([run.scores for run in runs]),
        scores=mean_scores([run.scores for run in runs]),
        data_losses=study_data_losses(runs),
    )


def count_questions(runs: Sequence[StudyRun], task: str | None = None) -> int:
    """Returns the number of distinct questions of a task (default: each run's first): seeds that share their documents
    share their questions.
    """
    return sum({run.entry.get("corpus"): int(run.scores[task or run.task]["questions"]) for run in runs}.values())


def load_base_scores(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Returns the scores of each distinct evaluation of the base model: one per corpus, however many seeds share it."""
    folders = dict.fromkeys(folder for run in runs if (folder := run.finished_folder("baseline")))
    return [load_scores(folder) for folder in folders]


def summarize_base_model(runs: Sequence[StudyRun]) -> dict[str, Any] | None:
    """Returns the base model's accuracy on the study's questions, or None; `seeds` counts its evaluations."""
    scores = load_base_scores(runs)
    if not scores:
        return None
    task_scores = [entry[runs[0].task] for entry in scores]
    return {
        **summarize_scores(task_scores),
        "data_losses": score_data_losses(task_scores),
        "chance": task_scores[0]["chance"],
        "seeds": len(scores),
        "background": mean_background(scores),
        "metrics": mean_metrics(scores),
        "scores": mean_scores(scores),
        "tasks": {
            name: mean(entry[name]["accuracy"] for entry in scores)
            for name in scores[0]
            if "accuracy" in scores[0][name]
        },
    }


def summarize_references(study: Path, root: Path, task: str) -> list[dict[str, Any]]:
    """Returns the other models that were asked the study's questions: means over seeds that have questions of their
    own.
    """
    by_model: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry, folder in finished_references(study, root):
        if task in (scores := load_scores(folder)):
            by_model.setdefault((entry["name"], entry["subject"]), []).append(scores[task])
    return [
        {"name": name, **summarize_scores(scores), "data_losses": score_data_losses(scores)}
        for (name, _), scores in sorted(by_model.items())
    ]


def reference_data_loss_lines(base: Mapping[str, Any] | None, references: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line about the data losses of each model that has some, in addition to the trained ones."""
    models = [*([{"name": "the base model", **base}] if base else []), *references]
    losses = {model["name"]: render_data_losses(model["data_losses"]) for model in models}
    return [f"Data losses of {name}: {text}" for name, text in losses.items() if text]


def finished_references(study: Path, root: Path) -> Iterator[tuple[dict[str, str], Path]]:
    """Yields the entry (`name`, and `subject`, which distinguishes models of one name) and evaluation of each."""
    for file in sorted((study / "baselines").glob("*.json")):
        entry = read_json(file)
        if is_complete(root / entry["evaluation"]):
            yield entry, root / entry["evaluation"]


def summarize_scores(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    accuracies = [score["accuracy"] for score in scores]
    return {
        "accuracy": mean(accuracies),
        "stderr": standard_error(accuracies, scores[0]["stderr"]),
        "questions": sum(score["questions"] for score in scores),
        "groups": mean_by_group(scores),
    }


def standard_error(values: Sequence[float], of_single: float) -> float:
    return stdev(values) / sqrt(len(values)) if len(values) > 1 else of_single


def mean_by_group(scores: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {name: mean(score["groups"][name]["accuracy"] for score in scores) for name in scores[0]["groups"]}


def mean_background(scores: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the accuracy on facts that the base model was trained on before: it falls when the model forgets."""
    task = "background_seen"
    return mean(entry[task]["accuracy"] for entry in scores) if task in scores[0] else None


def mean_metrics(scores: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the mean over runs of every user-defined metric that all of them have, by "TASK/METRIC"."""
    metrics = [
        {f"{task}/{name}": value for task, score in tasks.items() for name, value in score.get("metrics", {}).items()}
        for tasks in scores
    ]
    return mean_by_name(metrics)


def mean_scores(scores: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the mean over runs of every number in scores.json that all of them have."""
    return mean_by_name([scalar_scores(entry) for entry in scores])


def mean_by_name(entries: Sequence[Mapping[str, float]]) -> dict[str, float]:
    shared = [name for name in entries[0] if all(name in values for values in entries)]
    return {name: mean(values[name] for values in entries) for name in shared}
