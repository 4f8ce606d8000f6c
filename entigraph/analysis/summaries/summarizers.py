"""Who wrote summaries: a study's finished runs, their base model, other models, and the configuration's own run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entigraph.analysis.study_runs import FinishedRun, asked_baselines, finished, label_of_documents, scores_of
from entigraph.errors import DataError
from entigraph.reporting.figures import short
from entigraph.storage.artifact import is_complete, read_manifest
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, Summary


@dataclass(frozen=True)
class Summarizer:
    """`name` stands in the figure; those of one name (seeds, each perhaps with documents of its own) are one point.

    `kind` is an augmenter, "base" or "baseline".
    """

    name: str
    kind: str
    evaluation: Path
    task: str
    corpus: Path

    @property
    def inputs(self) -> Mapping[str, Path]:
        return {f"corpus/{self.corpus.name}": self.corpus, f"evaluation/{self.evaluation.name}": self.evaluation}

    @property
    def label(self) -> str | None:
        return label_of_documents(self.corpus)

    def summaries(self) -> Iterator[Summary]:
        return read_jsonl(self.evaluation / f"summaries-{self.task}.jsonl", Summary)

    def documents(self) -> Iterator[Document]:
        return read_jsonl(self.corpus / "documents.jsonl", Document)


def summarizers_of(study: Path, root: Path, own: Mapping[str, Any]) -> list[Summarizer]:
    """`own` is the configuration's run as a study keeps it. Raises DataError where nobody wrote any."""
    runs = {run.name: run for run in [FinishedRun(root, dict(own)), *finished(study, root)[0]]}
    found: list[Summarizer] = []
    for run in sorted(runs.values(), key=lambda run: run.name):
        if "baseline" in run.member and is_complete(run.folder("baseline")):
            found += written_in(run.folder("baseline"), "base", "base", root)
        if run.complete:
            name = f"{run.augmenter}, {short(float(run.budget))} tokens"
            found += written_in(run.folder("evaluation"), name, run.augmenter, root)
    for entry in asked_baselines(study):
        if is_complete(root / entry["evaluation"]):
            found += written_in(root / entry["evaluation"], entry["name"], "baseline", root)
    if not found:
        raise DataError(
            "no summaries to judge: neither this configuration's run nor its study has any; "
            "have some written first (evaluation=[closed_book,summaries] and entigraph run, or stage=baselines)"
        )
    return list({each.evaluation: each for each in found}.values())


def written_in(evaluation: Path, name: str, kind: str, root: Path) -> Iterator[Summarizer]:
    """One for each task that wrote some."""
    tasks = [task for task, score in scores_of(evaluation).items() if "summaries" in score]
    inputs = read_manifest(evaluation)["inputs"]
    for task in tasks:
        corpus = root / "corpus" / inputs[f"questions_{task}"]["folder"]
        yield Summarizer(name if len(tasks) == 1 else f"{name}, {task}", kind, evaluation, task, corpus)
