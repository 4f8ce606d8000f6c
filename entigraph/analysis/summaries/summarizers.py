"""The models that wrote summaries: those of a study's finished runs, their base model, and others."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.study_runs import corpus_disclaimer, finished_references, load_scores
from entigraph.errors import DataError
from entigraph.reporting.figures import abbreviate
from entigraph.storage.artifact import read_manifest
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, Summary


@dataclass(frozen=True)
class Summarizer:
    """Summarizers with the same `name` (seeds, possibly with documents of their own) are one point of the figure.

    `kind` is an augmenter, "base" or "baseline".
    """

    name: str
    kind: str
    evaluation: Path
    task: str
    corpus: Path

    @property
    def disclaimer(self) -> str | None:
        return corpus_disclaimer(self.corpus)

    def summaries(self) -> Iterator[Summary]:
        return read_jsonl(self.evaluation / f"summaries-{self.task}.jsonl", Summary)

    def documents(self) -> Iterator[Document]:
        return read_jsonl(self.corpus / "documents.jsonl", Document)


def load_summarizers(context: AnalysisContext) -> list[Summarizer]:
    """Raises DataError if no model wrote summaries."""
    root = context.root
    runs = {run.name: run for run in [context.configured_run, *context.runs]}
    summarizers: list[Summarizer] = []
    for run in sorted(runs.values(), key=lambda run: run.name):
        if base := run.finished_folder("baseline"):
            summarizers += summarizers_in(base, "base", "base", root)
        if run.complete:
            name = f"{run.augmenter}, {abbreviate(float(run.budget))} tokens"
            summarizers += summarizers_in(run.folder("evaluation"), name, run.augmenter, root)
    for entry, folder in finished_references(context.study, root):
        summarizers += summarizers_in(folder, entry["name"], "baseline", root)
    if not summarizers:
        raise DataError(
            "no summaries to judge: neither this configuration's run nor its study has any; have some written first "
            "(evaluation=[closed_book,summaries] and entigraph run, or stage=baselines)"
        )
    return list({summarizer.evaluation: summarizer for summarizer in summarizers}.values())


def summarizers_in(evaluation: Path, name: str, kind: str, root: Path) -> Iterator[Summarizer]:
    """Yields one per task that wrote summaries."""
    tasks = [task for task, score in load_scores(evaluation).items() if "summaries" in score]
    inputs = read_manifest(evaluation)["inputs"]
    for task in tasks:
        corpus = root / "corpus" / inputs[f"questions_{task}"]["folder"]
        yield Summarizer(name if len(tasks) == 1 else f"{name}, {task}", kind, evaluation, task, corpus)


def summarizer_folders(summarizers: list[Summarizer]) -> Mapping[str, Path]:
    return {
        f"{folder.parent.name}/{folder.name}": folder
        for summarizer in summarizers
        for folder in (summarizer.corpus, summarizer.evaluation)
    }
