"""What the web app shows, as plain values: studies, running sweeps, runs and texts. Does not import Gradio."""

import time
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from omegaconf import OmegaConf

from entigraph.analysis.paired.paired import Paired, find_evaluation, question_tasks
from entigraph.analysis.scaling.scaling_curve import load_curve
from entigraph.analysis.scaling.study_tables import tabulate_points
from entigraph.analysis.study_runs import StudyRun, load_entries
from entigraph.chat.model_selection import run_folders
from entigraph.config.suggestions import did_you_mean
from entigraph.errors import ConfigError
from entigraph.reporting.entity_graph import layout_graph
from entigraph.storage.artifact import is_complete, read_manifest
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, EntityGraph, source_document_id
from entigraph.storage.texts import read_texts, row_groups
from entigraph.sweep.job_table import Sweep, describe_status, job_file
from entigraph.text.normalization import truncate

Rows = Sequence[Sequence[str]]
SWEEP_HEADINGS = ["sweep", "job", "state", "doing", "updated"]
TEXT_HEADINGS = ["number", "document", "kind", "about", "text"]
GRAPH_HEADINGS = ["entity", "other entity", "texts about both"]
CHANGE_HEADINGS = ["change", "question", "correct answer", "answer", "reference answer", "kind", "document"]
CHANGE_KEYS = ["change", "question", "right", "one", "other", "group", "document_id"]
TEXTS_PER_PAGE = 50
SHOWN_CHARACTERS = 120


@dataclass(frozen=True)
class StudyView:
    """`curve` is an HTML image without scripts, empty if there is none yet."""

    summary: str
    curve: str
    headings: Sequence[str]
    rows: Rows
    report: str


def check_listed(name: str, names: Sequence[str]) -> None:
    """Raises ConfigError for a name that the app does not list, such as a path outside the outputs folder."""
    if name not in names:
        raise ConfigError(f"{name} is not in the list; {did_you_mean(name, names) if names else 'it is empty'}")


def list_studies(root: Path) -> list[str]:
    """Returns the studies under the root, the newest first."""
    folders = [folder for folder in (root / "studies").glob("*") if (folder / "runs").is_dir()]
    return [folder.name for folder in sorted(folders, key=lambda folder: -folder.stat().st_mtime)]


def view_study(root: Path, name: str) -> StudyView:
    check_listed(name, list_studies(root))
    folder = root / "studies" / name
    entries = load_entries(folder)
    finished = sum(StudyRun(root, entry).complete for entry in entries)
    progress = f"{finished} of {len(entries)} runs are finished."
    if not (folder / "curve.json").exists():
        return StudyView(f"{progress} There is no curve yet: run entigraph analyze.", "", [], [], "")
    curve = load_curve(folder)
    table = tabulate_points(curve)
    lines = [f"{heading}: {text}" for heading, text in curve.get("summary", {}).items()]
    return StudyView(
        "\n".join([*lines, progress, *curve["notes"]]),
        image((folder / "curve.svg").read_bytes(), "accuracy against synthetic tokens"),
        table.headings,
        table.rows,
        str((folder / "report.html").resolve()),
    )


def list_jobs(root: Path) -> Rows:
    """Returns a row per job of the sweeps that are running, or were interrupted."""
    rows = []
    for folder in sorted((root / ".sweeps").glob("*"), reverse=True):
        sweep = Sweep(OmegaConf.create(), None, folder)
        rows += [
            [
                status.get("sweep") or folder.name,
                status["job"],
                status["state"],
                describe_status(status),
                describe_age(folder, status["number"]),
            ]
            for status in sweep.statuses()
        ]
    return rows


def describe_age(sweep: Path, job: int) -> str:
    """Returns how long ago the job wrote its status; a running job with a status several minutes old was killed."""
    with suppress(FileNotFoundError):
        return f"{time.time() - job_file(sweep, job).stat().st_mtime:,.0f} s ago"
    return ""


def list_models(root: Path) -> list[str]:
    """Returns the finished trainings under the root, the newest first."""
    finished = [folder for folder in run_folders(root) if folder.parent.name == "training" and is_complete(folder)]
    return [folder.name for folder in sorted(finished, key=lambda folder: -folder.stat().st_mtime)]


def list_corpora(root: Path) -> list[str]:
    """Returns the finished sets of synthetic texts."""
    return sorted(folder.name for folder in (root / "synthesis").glob("*-????????") if is_complete(folder))


def list_texts(root: Path, corpus: str, query: str, page: int) -> Rows:
    """Returns a page of the texts that contain the query, ignoring case; the first page is 1."""
    check_listed(corpus, list_corpora(root))
    matching = (
        (number, text)
        for number, text in enumerate(read_texts(root / "synthesis" / corpus), 1)
        if not query or query.lower() in text.text.lower()
    )
    first = (max(page, 1) - 1) * TEXTS_PER_PAGE
    return [
        [
            str(number),
            text.document_id,
            text.kind,
            ", ".join(text.about),
            truncate(" ".join(text.text.split()), SHOWN_CHARACTERS),
        ]
        for number, text in islice(matching, first, first + TEXTS_PER_PAGE)
    ]


def list_graphs(root: Path, corpus: str) -> list[str]:
    """Returns the documents, or parts of documents, whose entities the texts are about."""
    check_listed(corpus, list_corpora(root))
    file = root / "synthesis" / corpus / "graphs.jsonl"
    return [graph.document_id for graph in read_jsonl(file, EntityGraph)] if file.exists() else []


@dataclass(frozen=True)
class GraphView:
    """`image` is an HTML image without scripts."""

    description: str
    image: str
    rows: Rows


def view_graph(root: Path, corpus: str, document_id: str) -> GraphView:
    """Returns the entity graph of a document, with a row per pair of entities, the most texts first."""
    check_listed(corpus, list_corpora(root))
    folder = root / "synthesis" / corpus
    graphs = (graph for graph in read_jsonl(folder / "graphs.jsonl", EntityGraph) if graph.document_id == document_id)
    documents = corpus_documents(root, folder)
    graph, document = next(graphs, None), documents.get(source_document_id(document_id, documents))
    if graph is None or document is None:
        return GraphView(f"{document_id}: no entity graph, or its document was removed", "", [])
    layout = layout_graph(document, graph, read_texts(folder))
    edges = sorted(layout.edges, key=lambda edge: -edge.texts)
    rows = [[edge.one.name, edge.other.name, str(edge.texts)] for edge in edges]
    return GraphView(layout.describe(), image(layout.as_svg().encode(), "entity graph"), rows)


def list_evaluations(root: Path) -> list[str]:
    """Returns the finished evaluations with answers to questions, the newest first."""
    finished = [folder for folder in (root / "evaluation").glob("*-????????") if is_complete(folder)]
    ordered = sorted(finished, key=lambda folder: -folder.stat().st_mtime)
    return [folder.name for folder in ordered if question_tasks(folder)]


def compare_evaluations(root: Path, one: str, other: str) -> tuple[str, Rows]:
    """Returns what `entigraph analyze analysis=paired` prints, and a row per question that changed.

    Raises ConfigError or DataError if there is nothing to compare.
    """
    from entigraph.analysis.paired.paired_tests import pair_lines

    names = list_evaluations(root)
    for name in (one, other):
        check_listed(name, names)
    first, second = (find_evaluation(key, name, root, None) for key, name in (("one", one), ("other", other)))
    pair = Paired().compare(first, second)
    rows = [["" if row[key] is None else str(row[key]) for key in CHANGE_KEYS] for row in pair["changed"]]
    return "\n".join(pair_lines(pair)), rows


def image(svg: bytes, description: str) -> str:
    """Returns an image element: scripts in an image never run."""
    data = f"data:image/svg+xml;base64,{b64encode(svg).decode()}"
    return f'<img src="{data}" alt="{description}" width="100%" style="background: white">'


def show_text(root: Path, corpus: str, number: int) -> tuple[str, str]:
    """Returns the text with this number (from 1) and its id, and its source document."""
    check_listed(corpus, list_corpora(root))
    folder = root / "synthesis" / corpus
    for group in row_groups(folder):
        row = number - 1 - group.first
        if 0 <= row < group.count:
            values = {name: group.column(name, [row])[0] for name in ("id", "document_id", "text")}
            document = corpus_documents(root, folder).get(values["document_id"])
            source = f"{document.title}\n\n{document.text}" if document else f"{values['document_id']} is unavailable"
            return f"{values['id']}\n\n{values['text']}", source
    return "", ""


@lru_cache(maxsize=2)
def corpus_documents(root: Path, synthesis: Path) -> dict[str, Document]:
    entry = read_manifest(synthesis)["inputs"].get("corpus")
    file = root / "corpus" / str(entry["folder"] if entry else "") / "documents.jsonl"
    return {document.id: document for document in read_jsonl(file, Document)} if file.exists() else {}
