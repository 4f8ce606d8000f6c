"""report.html of a synthesis: what was generated about each document, what failed, what it cost, and texts to read.

One page without external resources, whose size is limited: its figures count all texts, and it states which graphs and
texts are not on it. Without JavaScript it shows tables. The texts are streamed once, so memory grows with documents,
entities and (by one byte each) pairs of entities, not with texts.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from math import comb
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from entigraph.config.schema import Synthesis
from entigraph.llm.cost import render_dollars
from entigraph.reporting.html import write_page
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, EntityGraph, Failure, NearDuplicate, SyntheticText
from entigraph.storage.texts import read_texts
from entigraph.synthesis.edge_counts import EdgeCounts
from entigraph.synthesis.generation import part_of_text
from entigraph.text import refusals
from entigraph.text.normalization import truncate

FILE = "report.html"
REASONS_SHOWN = 50
DOCUMENTS_SHOWN = 1_000
PAIRS_SHOWN = 2_000_000  # edges of all graphs on the page; about two bytes each
TEXT_BYTES = 3_000_000  # total of the texts on the page, shared evenly between the documents shown
TEXT_CHARACTERS, SOURCE_CHARACTERS, SUMMARY_CHARACTERS, NAME_CHARACTERS = 4_000, 1_200, 600, 120
NEAR_DUPLICATES_SHOWN = 10


def write(
    folder: Path, corpus: Path, counts: Mapping[str, Any], *, name: str, rules: Synthesis, label: str | None = None
) -> Path:
    """Writes the page and returns its path. `counts` are those of the stage; the rest is read from the two folders.

    `label` is a disclaimer at the top, if something in the synthesis was simulated.
    """
    summary = SynthesisCounts(folder, corpus)
    rows = list(summary.rows.values())
    reasons = sorted(summary.failures.items(), key=lambda item: (-item[1].total(), item[0]))
    return write_page(
        folder / FILE,
        "entigraph.synthesis",
        "synthesis_report",
        {"share": render_share, "dollars": render_dollars},
        name=name,
        label=label,
        counts=counts,
        rules=rules,
        summary=summary,
        rows=rows[:DOCUMENTS_SHOWN],
        more=sum_rows(rows[DOCUMENTS_SHOWN:]),
        all=sum_rows(rows),
        without_text=sum(not row.texts for row in rows),
        reasons=reasons[:REASONS_SHOWN],
        near_duplicates=most_similar(folder),
        refusal_rules=[*refusals.RULES] if refusals.REFUSAL_AS_TEXT in summary.failures else [],
    )


def render_share(part: float, whole: float) -> str:
    """Returns a percentage; 0 and 100 only if they are exact."""
    if part in (0, whole):
        return ("100%" if part else "0%") if whole else "–"
    return f"{min(99.9, max(0.1, 100 * part / whole)):.1f}%"


@dataclass(frozen=True)
class DisplayedText:
    """A text on the page. `numbers` are the indices of its entities in their graph; `text` is escaped."""

    about: Sequence[str]
    numbers: Sequence[int]
    kind: str
    tokens: int
    text: Markup


@dataclass
class DocumentView:
    """What the page shows of one document or part. `count` counts all its texts, `texts` are those on the page."""

    number: int
    title: str
    source: str
    summary: str = ""
    entities: Sequence[str] = ()
    edges: EdgeCounts | None = None
    merged: Mapping[str, Sequence[str]] = field(default_factory=dict)
    left_out: int = 0
    count: int = 0
    bytes: int = 0
    texts: list[DisplayedText] = field(default_factory=list)


@dataclass
class DocumentRow:
    """The counts of one document. Entities and pairs are summed over the graphs of its parts, if it was split."""

    title: str
    source: str = ""
    entities: int = 0
    pairs: int = 0
    covered: int = 0
    tokens: int = 0
    failed: int = 0
    texts: Counter[str] = field(default_factory=Counter)  # by kind
    view: DocumentView | None = None  # of the first part


class SynthesisCounts:
    """Counts all files of a synthesis by document, kind and reason, and chooses the graphs and texts on the page."""

    def __init__(self, folder: Path, corpus: Path) -> None:
        self.rows: dict[str, DocumentRow] = {}
        self.graphs: dict[str, tuple[DocumentRow, EdgeCounts]] = {}  # by id of document or part
        self.views: dict[str, DocumentView] = {}
        self.pairs_on_page = 0  # covered or not
        self.texts: Counter[str] = Counter()  # by kind, as tokens
        self.tokens: Counter[str] = Counter()
        self.augmenters: Counter[str] = Counter()  # as tokens
        self.writers: Counter[str] = Counter()
        self.failures: dict[str, Counter[str]] = {}  # by reason, then kind
        for document in read_jsonl(corpus / "documents.jsonl", Document):
            self.add_document(document)
        for graph in read_jsonl(folder / "graphs.jsonl", EntityGraph):
            self.add_graph(graph)
        if not self.graphs:
            for identity, row in list(self.rows.items())[:DOCUMENTS_SHOWN]:
                self.view(identity, row, part="")
        self.bytes_on_page = sum(len(escape(view.source)) + len(escape(view.summary)) for view in self.views.values())
        self.bytes_per_view = max(0, TEXT_BYTES - self.bytes_on_page) // max(1, len(self.views))
        self.has_room = True
        for text in read_texts(folder):
            self.add_text(text)
        for row, edges in self.graphs.values():
            row.covered += edges.covered
        for failure in read_jsonl(folder / "failures.jsonl", Failure):
            self.failures.setdefault(failure.reason, Counter())[failure.kind] += 1
            self.row(failure.document_id).failed += 1

    def row(self, document: str) -> DocumentRow:
        if document not in self.rows:
            self.rows[document] = DocumentRow(truncate(document, NAME_CHARACTERS))
        return self.rows[document]

    def add_document(self, document: Document) -> None:
        source = truncate(document.text, SOURCE_CHARACTERS) if len(self.rows) < DOCUMENTS_SHOWN else ""
        self.rows[document.id] = DocumentRow(truncate(document.title or document.id, NAME_CHARACTERS), source)

    def add_graph(self, graph: EntityGraph) -> None:
        document, part = split_part_id(graph.document_id, self.rows)
        row = self.row(document)
        pairs = comb(len(graph.entities), 2)
        shown = len(self.views) < DOCUMENTS_SHOWN and self.pairs_on_page + pairs <= PAIRS_SHOWN
        self.pairs_on_page += pairs if shown else 0
        edges = EdgeCounts(graph.entities, counted=shown)
        self.graphs[graph.document_id] = row, edges
        row.entities += len(graph.entities)
        row.pairs += pairs
        if shown:
            view = self.view(graph.document_id, row, part)
            view.summary = truncate(graph.summary, SUMMARY_CHARACTERS)
            view.entities = [truncate(entity, NAME_CHARACTERS) for entity in graph.entities]
            view.edges, view.left_out = edges, graph.left_out
            view.merged = {
                truncate(name, NAME_CHARACTERS): [truncate(other, NAME_CHARACTERS) for other in others]
                for name, others in graph.merged.items()
            }

    def view(self, identity: str, row: DocumentRow, part: str) -> DocumentView:
        title = f"{row.title}, part {part}" if part else row.title
        source = "" if part else row.source
        view = self.views[identity] = DocumentView(number=len(self.views), title=title, source=source)
        row.view = row.view or view
        return view

    def add_text(self, text: SyntheticText) -> None:
        self.texts[text.kind] += 1
        self.tokens[text.kind] += text.tokens
        self.augmenters[text.augmenter] += text.tokens
        self.writers[text.writer] += 1
        row = self.row(text.document_id)
        row.texts[text.kind] += 1
        row.tokens += text.tokens
        part_id = part_of_text(text)
        identity = part_id if part_id in self.graphs else text.document_id
        numbers = self.graphs[identity][1].add(text.about) if identity in self.graphs else []
        if view := self.views.get(identity):
            view.count += 1
            if self.has_room and view.bytes < self.bytes_per_view:
                self.embed(view, text, numbers)

    def embed(self, view: DocumentView, text: SyntheticText, numbers: Sequence[int]) -> None:
        """Adds a text to the page unless its texts would exceed TEXT_BYTES."""
        body = escape(truncate(text.text, TEXT_CHARACTERS))
        size = len(body.encode("utf-8"))
        self.has_room = self.bytes_on_page + size <= TEXT_BYTES
        if self.has_room:
            self.bytes_on_page += size
            view.bytes += size
            about = [truncate(entity, NAME_CHARACTERS) for entity in text.about]
            view.texts.append(DisplayedText(about, numbers, text.kind, text.tokens, body))

    @property
    def texts_on_page(self) -> int:
        return sum(len(view.texts) for view in self.views.values())


def sum_rows(rows: Iterable[DocumentRow]) -> DocumentRow:
    total = DocumentRow("")
    for row in rows:
        total.entities += row.entities
        total.pairs += row.pairs
        total.covered += row.covered
        total.tokens += row.tokens
        total.failed += row.failed
        total.texts.update(row.texts)
    return total


def split_part_id(identity: str, documents: Iterable[str]) -> tuple[str, str]:
    """Returns the id of the document and the number of the part, which is empty for a whole document."""
    document, _, part = identity.rpartition("#")
    return (document, part) if identity not in documents and document in documents else (identity, "")


def most_similar(folder: Path) -> list[NearDuplicate]:
    """Returns the most similar near-duplicates; none if the synthesis did not look for them."""
    file = folder / "near_duplicates.jsonl"
    duplicates = read_jsonl(file, NearDuplicate) if file.exists() else ()
    return nlargest(NEAR_DUPLICATES_SHOWN, duplicates, key=lambda duplicate: duplicate.similarity)
