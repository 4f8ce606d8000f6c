"""One self-contained page: the curve, its table, texts beside their source, one document's entity graph, provenance."""

import itertools
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin
from pathlib import Path
from typing import Any

from markupsafe import Markup

from entigraph.analysis.scaling.curve_forms import FORMS
from entigraph.analysis.settings import ScalingCurve
from entigraph.analysis.study_runs import FinishedRun, augmenters
from entigraph.reporting.disclaimers import FICTIONAL
from entigraph.reporting.figures import short
from entigraph.reporting.html import template_environment
from entigraph.storage.artifact import FORMAT_VERSIONS, is_complete, read_manifest
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, EntityGraph, SyntheticText, source_document_id
from entigraph.storage.texts import read_texts

CHARACTERS_SHOWN = 1500
CHANGED_SHOWN, CHANGED_ON_A_PAGE = 40, 2_000  # questions: of each pair of a study, and of one pair by itself
NODES_SHOWN = 40
WIDTH, HEIGHT, RADIUS = 760, 560, 205


@dataclass(frozen=True)
class Sample:
    document: Document
    text: SyntheticText


@dataclass(frozen=True)
class Node:
    name: str
    x: float
    y: float
    anchor: str


@dataclass(frozen=True)
class Edge:
    one: Node
    other: Node
    texts: int
    opacity: float


@dataclass(frozen=True)
class Picture:
    """A document's entity graph: an edge is a pair that some text is about."""

    document: Document
    nodes: Sequence[Node]
    edges: Sequence[Edge]
    pairs: int
    left_out: int


def write_paired(out: Path, pair: dict[str, Any]) -> None:
    """paired.html of two evaluations, beside their figure."""
    figure = image(out / "paired.svg")
    page = template_environment("entigraph.analysis").get_template("paired/paired.html.j2")
    shown = page.render(pair=pair, figure=figure, most=CHANGED_ON_A_PAGE)
    (out / "paired.html").write_text(shown, encoding="utf-8")


def write_report(
    study: Path,
    root: Path,
    curve: dict[str, Any],
    paired: Sequence[dict[str, Any]],
    runs: Sequence[FinishedRun],
    settings: ScalingCurve,
) -> None:
    svg = (study / "curve.svg").read_text(encoding="utf-8")
    page = (
        template_environment("entigraph.analysis")
        .get_template("study_report.html.j2")
        .render(
            study=study.name,
            curve=curve,
            figure=Markup(svg[svg.index("<svg") :]),
            forecast=image(study / "forecast.svg"),
            recall=image(study / "recall.svg"),
            paired=paired,
            changed_shown=CHANGED_SHOWN,
            short=short,
            formulas={form.name: form.formula for form in FORMS},
            pairs=side_by_side(curve["comparisons"]),
            groups=sorted({group for point in curve["points"] for group in point["groups"]}),
            fictional=FICTIONAL in curve["notes"],
            samples=samples(runs, settings.samples_shown),
            picture=picture(runs),
            width=WIDTH,
            height=HEIGHT,
            provenance=provenance(runs, root),
            shown=CHARACTERS_SHOWN,
        )
    )
    (study / "report.html").write_text(page, encoding="utf-8")


def image(file: Path) -> str:
    """As an address that holds it, because inline SVGs share their ids; empty where there is none."""
    return f"data:image/svg+xml;base64,{b64encode(file.read_bytes()).decode()}" if file.exists() else ""


def side_by_side(comparisons: Sequence[dict[str, Any]]) -> dict[tuple[str, str, str], dict[float, dict[str, Any]]]:
    """By augmenters and what is equal, then by where: a table's rows and columns."""
    found: dict[tuple[str, str, str], dict[float, dict[str, Any]]] = {}
    for one in comparisons:
        found.setdefault((one["one"], one["other"], one["equal"]), {})[one["at"]] = one
    return found


def samples(runs: Sequence[FinishedRun], count: int) -> list[Sample]:
    """A text of each kind that was written, the most processed augmenter first, beside its source."""
    found: list[Sample] = []
    for augmenter in reversed(augmenters(runs)):
        run = next(run for run in runs if run.augmenter == augmenter)
        if run.member["repeats"]:
            continue
        documents = {
            document.id: document for document in read_jsonl(run.folder("corpus") / "documents.jsonl", Document)
        }
        kinds: dict[str, SyntheticText] = {}
        for text in itertools.islice(read_texts(run.folder("synthesis")), 20_000):
            kinds.setdefault(text.kind, text)
        found += [Sample(documents[text.document_id], text) for text in kinds.values()]
    by_augmenter = itertools.zip_longest(
        *(list(group) for _, group in itertools.groupby(found, lambda s: s.text.augmenter))
    )
    return [sample for sample in itertools.chain.from_iterable(by_augmenter) if sample][:count]


def picture(runs: Sequence[FinishedRun]) -> Picture | None:
    """The graph of the first document of the largest run that has one."""
    graphed = [run for run in runs if (run.folder("synthesis") / "graphs.jsonl").exists()]
    for run in sorted(graphed, key=lambda run: -run.budget):
        graph = next(iter(read_jsonl(run.folder("synthesis") / "graphs.jsonl", EntityGraph)), None)
        if graph:
            documents = {found.id: found for found in read_jsonl(run.folder("corpus") / "documents.jsonl", Document)}
            return drawn(
                documents[source_document_id(graph.document_id, documents)], graph, read_texts(run.folder("synthesis"))
            )
    return None


def drawn(document: Document, graph: EntityGraph, texts: Any) -> Picture:
    names = list(graph.entities)[:NODES_SHOWN]
    nodes = {name: node(name, index, len(names)) for index, name in enumerate(names)}
    together: Counter[frozenset[str]] = Counter()
    for text in texts:
        if text.document_id == document.id:
            together.update(
                frozenset(pair) for pair in itertools.combinations(text.about, 2) if set(pair) <= set(nodes)
            )
    most = max(together.values(), default=1)
    edges = []
    for pair, count in together.items():
        one, other = sorted(pair)
        edges.append(Edge(nodes[one], nodes[other], count, 0.08 + 0.6 * count / most))
    return Picture(
        document, list(nodes.values()), edges, len(names) * (len(names) - 1) // 2, len(graph.entities) - len(names)
    )


def node(name: str, index: int, count: int) -> Node:
    angle = 2 * pi * index / count - pi / 2
    x, y = WIDTH / 2 + RADIUS * cos(angle), HEIGHT / 2 + RADIUS * sin(angle)
    return Node(
        name, round(x, 1), round(y, 1), "middle" if abs(cos(angle)) < 0.2 else "start" if cos(angle) > 0 else "end"
    )


def provenance(runs: Sequence[FinishedRun], root: Path) -> list[dict[str, Any]]:
    """Every folder that the runs were made from, once, with what its manifest says."""
    folders = {
        run.folder(part)
        for run in runs
        for part in ("corpus", "synthesis", "tokens", "training", "evaluation", "baseline")
        if part in run.member
    }
    found: dict[Path, dict[str, Any]] = {}
    waiting = list(folders)
    while waiting:
        folder = waiting.pop()
        if folder in found or not is_complete(folder):
            continue
        found[folder] = read_manifest(folder)
        waiting += [path for made in found[folder]["inputs"].values() for path in root.glob(f"*/{made['folder']}")]
    rows = [
        {
            "stage": manifest["stage"],
            "folder": str(folder.relative_to(root)),
            "seconds": manifest.get("seconds"),
            "counts": {name: value for name, value in manifest["counts"].items() if not isinstance(value, dict)},
            "versions": manifest["versions"],
        }
        for folder, manifest in found.items()
    ]
    order = list(FORMAT_VERSIONS)
    return sorted(rows, key=lambda row: (order.index(row["stage"]), row["folder"]))
