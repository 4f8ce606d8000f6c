"""Who wrote the summaries: the models of a study's finished runs, their base model, and others; and the references, by
people, from a file, or by a writer that reads the documents.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.factuality.judges import ask, document_request, read_answer
from entigraph.analysis.study_runs import corpus_disclaimer, finished_references, load_scores
from entigraph.analysis.summaries.claims import REFERENCE_PROMPTS
from entigraph.errors import DataError
from entigraph.llm.base import Writer
from entigraph.reporting.figures import abbreviate
from entigraph.storage.artifact import read_manifest
from entigraph.storage.jsonl import parse_strict_json, read_jsonl, read_lines
from entigraph.storage.schemas import Document, Summary
from entigraph.text.normalization import normalize_line

EXPECTED = 'expected {"document": "<id in documents.jsonl>", "summary": "..."}'
DocumentKey = tuple[str, str]  # a corpus and one of its documents: ids are unique only within a corpus


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
    """Returns the models' summaries. Raises DataError if there are none."""
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


def write_references(
    documents: Mapping[DocumentKey, Document], writer: Writer, context: AnalysisContext
) -> dict[DocumentKey, list[str]]:
    """Has a writer summarize each document; the list of a document is empty if it gave no usable answer."""
    requests = [document_request(document, *REFERENCE_PROMPTS) for document in documents.values()]
    answers = ask(requests, writer, context, "reference summaries")
    return {
        key: [summary] if (summary := read_answer(answer, str.strip)[0]) else []
        for key, answer in zip(documents, answers, strict=True)
    }


def read_references(file: Path, documents: Mapping[DocumentKey, Document]) -> dict[DocumentKey, list[str]]:
    """Returns the reference summaries. Raises DataError for a malformed line, or if none is about a document."""
    references: dict[DocumentKey, list[str]] = {key: [] for key in documents}
    key_by_id = {name: (corpus, name) for corpus, name in documents}
    if len(key_by_id) < len(documents):
        raise DataError(
            f"{file}: the documents summarized are of {len({corpus for corpus, _ in documents})} corpora with "
            "ids in common; a file of references is for one: judge one seed's runs at a time"
        )
    for number, line in enumerate(read_lines(file), 1):
        if line.strip():
            document, summary = parse_reference(line, f"{file}:{number}")
            if key := key_by_id.get(normalize_line(document)):  # a file may hold references of other documents too
                references[key].append(summary)
    if not any(references.values()):
        raise DataError(f"{file}: no summary of any document that was summarized; {EXPECTED} on each line")
    return references


def parse_reference(line: str, location: str) -> tuple[str, str]:
    """Returns the document's id and the summary."""
    try:
        raw = parse_strict_json(line)
        document, summary = raw["document"], raw["summary"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{location}: the line must be a reference, got {line.rstrip()[:80]!r}; {EXPECTED}") from None
    if not isinstance(document, str) or not isinstance(summary, str) or not summary.strip():
        raise DataError(f"{location}: document and summary must be texts, not empty; {EXPECTED}")
    return document, summary.strip()
