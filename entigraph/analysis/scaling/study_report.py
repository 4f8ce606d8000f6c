"""report.html of a study: a summary, the curve, its table, the runs, texts with their source, provenance."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.scaling.curve_forms import FORMS
from entigraph.analysis.scaling.study_tables import tabulate_points, tabulate_runs, tabulate_scores
from entigraph.analysis.study_runs import StudyRun, list_augmenters, run_folders
from entigraph.reporting.disclaimers import is_fictional, is_pipeline_check
from entigraph.reporting.entity_graph import GraphLayout, layout_graph
from entigraph.reporting.figures import abbreviate
from entigraph.reporting.html import embed_svg, write_static_page
from entigraph.storage.artifact import FORMAT_VERSIONS, is_complete, read_manifest
from entigraph.storage.data_losses import render_data_losses
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, EntityGraph, SyntheticText, source_document_id
from entigraph.storage.texts import read_texts

MAX_CHARACTERS = 1500  # per text
MAX_CHANGED_QUESTIONS = 40  # per pair
MAX_TEXTS_SEARCHED = 20_000  # for one sample of each kind


def write_report(
    context: AnalysisContext, out: Path, curve: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]], samples: int
) -> None:
    runs = context.runs
    run_headings, run_rows = tabulate_runs(runs, out)
    write_static_page(
        out / "report.html",
        "entigraph.analysis",
        "scaling/study_report.html.j2",
        study=context.study.name,
        curve=curve,
        curve_image=embed_svg(out / "curve.svg"),
        forecast_image=embed_svg(out / "forecast.svg"),
        recall_image=embed_svg(out / "recall.svg"),
        losses_image=embed_svg(out / "losses.svg"),
        data_losses=render_data_losses(curve["data_losses"], up_to=len(curve["runs"]) > 1),
        render_data_losses=render_data_losses,
        pairs=pairs,
        max_changed=MAX_CHANGED_QUESTIONS,
        abbreviate=abbreviate,
        formulas={form.name: form.formula for form in FORMS},
        comparisons=tabulate_comparisons(curve["comparisons"]),
        points=tabulate_points(curve),
        scores=tabulate_scores(curve),
        run_headings=run_headings,
        runs=run_rows,
        warnings=[note for note in curve["notes"] if is_warning(note)],
        fictional=any(map(is_fictional, curve["notes"])),
        samples=choose_samples(runs, samples),
        graph=choose_graph(runs),
        provenance=collect_provenance(runs, context.root),
        max_characters=MAX_CHARACTERS,
    )


def tabulate_comparisons(
    comparisons: Sequence[dict[str, Any]],
) -> dict[tuple[str, str, str], dict[float, dict[str, Any]]]:
    """Returns rows (two augmenters, and the unit of their equal cost) of columns (at how many tokens or dollars)."""
    rows: dict[tuple[str, str, str], dict[float, dict[str, Any]]] = {}
    for entry in comparisons:
        rows.setdefault((entry["one"], entry["other"], entry["equal"]), {})[entry["at"]] = entry
    return rows


def is_warning(note: str) -> bool:
    """Returns whether a note limits what the results mean."""
    return is_pipeline_check(note) or is_fictional(note) or note.startswith("excluded: ")


def choose_samples(runs: Sequence[StudyRun], count: int) -> list[tuple[Document, list[SyntheticText]]]:
    """Returns documents with the texts about them: one text of each kind, from as many documents as possible.

    Augmenters alternate, the most processed first.
    """
    documents: dict[str, Document] = {}
    by_augmenter: list[list[SyntheticText]] = []
    for augmenter in reversed(list_augmenters(runs)):
        run = next(run for run in runs if run.augmenter == augmenter)
        if run.entry["repeats"]:
            continue
        documents |= load_documents(run)
        texts = itertools.islice(read_texts(run.folder("synthesis")), MAX_TEXTS_SEARCHED)
        by_augmenter.append(choose_texts(texts, {text.document_id for texts in by_augmenter for text in texts}))
    alternating = itertools.chain.from_iterable(itertools.zip_longest(*by_augmenter))
    chosen: dict[str, list[SyntheticText]] = {}
    for text in [text for text in alternating if text][:count]:
        chosen.setdefault(text.document_id, []).append(text)
    return [(documents[name], texts) for name, texts in chosen.items()]


def choose_texts(texts: Iterable[SyntheticText], used: set[str]) -> list[SyntheticText]:
    """Returns a text of each kind, the first about a document that is not in `used` and has no other text here."""
    chosen: dict[str, SyntheticText] = {}
    for text in texts:
        others = used | {other.document_id for kind, other in chosen.items() if kind != text.kind}
        earlier = chosen.get(text.kind)
        if earlier is None or (earlier.document_id in others and text.document_id not in others):
            chosen[text.kind] = text
    return list(chosen.values())


def load_documents(run: StudyRun) -> dict[str, Document]:
    return {document.id: document for document in read_jsonl(run.folder("corpus") / "documents.jsonl", Document)}


def choose_graph(runs: Sequence[StudyRun]) -> GraphLayout | None:
    """Returns the graph of the first document of the largest run that has one."""
    for run in sorted(runs, key=lambda run: -run.budget):
        file = run.folder("synthesis") / "graphs.jsonl"
        graph = next(iter(read_jsonl(file, EntityGraph)), None) if file.exists() else None
        if graph:
            documents = load_documents(run)
            document = documents[source_document_id(graph.document_id, documents)]
            return layout_graph(document, graph, read_texts(run.folder("synthesis")))
    return None


def collect_provenance(runs: Sequence[StudyRun], root: Path) -> list[dict[str, Any]]:
    """Returns one row per artifact that the runs depend on, directly or indirectly, with what its manifest states."""
    manifests: dict[Path, dict[str, Any]] = {}
    queue = [*run_folders(runs, "corpus", "synthesis", "tokens", "training", "evaluation", "baseline").values()]
    while queue:
        folder = queue.pop()
        if folder in manifests or not is_complete(folder):
            continue
        manifests[folder] = read_manifest(folder)
        queue += [path for entry in manifests[folder]["inputs"].values() for path in root.glob(f"*/{entry['folder']}")]
    rows = [
        {
            "stage": manifest["stage"],
            "folder": str(folder.relative_to(root)),
            "seconds": manifest.get("seconds"),
            "counts": {name: value for name, value in manifest["counts"].items() if not isinstance(value, dict)},
            "versions": manifest["versions"],
        }
        for folder, manifest in manifests.items()
    ]
    order = list(FORMAT_VERSIONS)
    return sorted(rows, key=lambda row: (order.index(row["stage"]), row["folder"]))
