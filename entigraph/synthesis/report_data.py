"""What the files of a synthesis say, by document, kind and reason, and some of its texts to read; see report.py.

The texts are streamed once. Memory grows with documents, entities and (by one byte each) pairs of entities, not texts.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from math import comb
from pathlib import Path

from markupsafe import Markup, escape

from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, EntityGraph, Failure, NearDuplicate, SyntheticText
from entigraph.storage.texts import read_texts
from entigraph.synthesis.edge_counts import Edges

DOCUMENTS_SHOWN = 1_000
PAIRS_SHOWN = 2_000_000  # edges on the page, of all graphs together: two bytes each, or a little more
TEXT_BYTES = 3_000_000  # of texts on the page, shared evenly between the documents shown
TEXT_CHARACTERS, SOURCE_CHARACTERS, SUMMARY_CHARACTERS, NAME_CHARACTERS = 4_000, 1_200, 600, 120
NEAR_DUPLICATES_SHOWN = 10


@dataclass(frozen=True)
class Excerpt:
    """A text as the page shows it. `numbers` are those of its entities in their graph; `text` is escaped."""

    about: Sequence[str]
    numbers: Sequence[int]
    kind: str
    tokens: int
    text: Markup


@dataclass
class View:
    """What the page shows of one document, or of one part of a long one. `count` is of all its texts."""

    number: int
    title: str
    source: str
    summary: str = ""
    entities: Sequence[str] = ()
    edges: Edges | None = None
    left_out: int = 0
    count: int = 0
    bytes: int = 0
    texts: list[Excerpt] = field(default_factory=list)


@dataclass
class Row:
    """One document. Where it was written about in parts, entities and pairs are sums over the graphs of its parts."""

    title: str
    source: str = ""
    entities: int = 0
    pairs: int = 0
    covered: int = 0
    tokens: int = 0
    lost: int = 0
    texts: Counter[str] = field(default_factory=Counter)  # by kind
    view: View | None = None  # of its first part


class Findings:
    def __init__(self, folder: Path, corpus: Path) -> None:
        self.rows: dict[str, Row] = {}
        self.graphs: dict[str, tuple[Row, Edges]] = {}  # by the id of the document or part, as are the views
        self.views: dict[str, View] = {}
        self.drawn = 0  # pairs of entities, covered or not
        self.texts: Counter[str] = Counter()  # by kind, as tokens
        self.tokens: Counter[str] = Counter()
        self.augmenters: Counter[str] = Counter()  # as tokens
        self.writers: Counter[str] = Counter()
        self.lost: dict[str, Counter[str]] = {}  # by reason, then kind
        for document in read_jsonl(corpus / "documents.jsonl", Document):
            self.see_document(document)
        for graph in read_jsonl(folder / "graphs.jsonl", EntityGraph):
            self.see_graph(graph)
        if not self.graphs:
            self.see_documents_without_graphs()
        self.bytes = sum(len(escape(view.source)) + len(escape(view.summary)) for view in self.views.values())
        self.share = max(0, TEXT_BYTES - self.bytes) // max(1, len(self.views))
        self.room = True
        for text in read_texts(folder):
            self.see_text(text)
        for row, edges in self.graphs.values():
            row.covered += edges.covered
        for failure in read_jsonl(folder / "failures.jsonl", Failure):
            self.lost.setdefault(failure.reason, Counter())[failure.kind] += 1
            self.row(failure.document_id).lost += 1

    def row(self, document: str) -> Row:
        if document not in self.rows:
            self.rows[document] = Row(cut(document, NAME_CHARACTERS))
        return self.rows[document]

    def see_document(self, document: Document) -> None:
        source = cut(document.text, SOURCE_CHARACTERS) if len(self.rows) < DOCUMENTS_SHOWN else ""
        self.rows[document.id] = Row(cut(document.title or document.id, NAME_CHARACTERS), source)

    def see_graph(self, graph: EntityGraph) -> None:
        document, part = source_of(graph.document_id, self.rows)
        row = self.row(document)
        pairs = comb(len(graph.entities), 2)
        shown = len(self.views) < DOCUMENTS_SHOWN and self.drawn + pairs <= PAIRS_SHOWN
        self.drawn += pairs if shown else 0
        edges = Edges(graph.entities, counted=shown)
        self.graphs[graph.document_id] = row, edges
        row.entities += len(graph.entities)
        row.pairs += pairs
        if shown:
            view = self.view(graph.document_id, row, part)
            view.summary = cut(graph.summary, SUMMARY_CHARACTERS)
            view.entities = [cut(entity, NAME_CHARACTERS) for entity in graph.entities]
            view.edges, view.left_out = edges, graph.left_out

    def see_documents_without_graphs(self) -> None:
        for identity, row in list(self.rows.items())[:DOCUMENTS_SHOWN]:
            self.view(identity, row, part="")

    def view(self, identity: str, row: Row, part: str) -> View:
        title = f"{row.title}, part {part}" if part else row.title
        view = self.views[identity] = View(number=len(self.views), title=title, source="" if part else row.source)
        row.view = row.view or view
        return view

    def see_text(self, text: SyntheticText) -> None:
        self.texts[text.kind] += 1
        self.tokens[text.kind] += text.tokens
        self.augmenters[text.augmenter] += text.tokens
        self.writers[text.writer] += 1
        row = self.row(text.document_id)
        row.texts[text.kind] += 1
        row.tokens += text.tokens
        asked = asked_about(text)
        identity = asked if asked in self.graphs else text.document_id
        numbers = self.graphs[identity][1].add(text.about) if identity in self.graphs else []
        if view := self.views.get(identity):
            view.count += 1
            if self.room and view.bytes < self.share:
                self.embed(view, text, numbers)

    def embed(self, view: View, text: SyntheticText, numbers: Sequence[int]) -> None:
        """Until the page would hold more than TEXT_BYTES."""
        body = escape(cut(text.text, TEXT_CHARACTERS))
        size = len(body.encode("utf-8"))
        self.room = self.bytes + size <= TEXT_BYTES
        if self.room:
            self.bytes += size
            view.bytes += size
            about = [cut(entity, NAME_CHARACTERS) for entity in text.about]
            view.texts.append(Excerpt(about, numbers, text.kind, text.tokens, body))

    @property
    def embedded(self) -> int:
        return sum(len(view.texts) for view in self.views.values())


def total(rows: Iterable[Row]) -> Row:
    found = Row("")
    for row in rows:
        found.entities += row.entities
        found.pairs += row.pairs
        found.covered += row.covered
        found.tokens += row.tokens
        found.lost += row.lost
        found.texts.update(row.texts)
    return found


def source_of(identity: str, documents: Iterable[str]) -> tuple[str, str]:
    """The document that a graph is of, and which part of it; no part where it is of the whole (parts.py)."""
    document, _, part = identity.rpartition("#")
    return (document, part) if identity not in documents and document in documents else (identity, "")


def asked_about(text: SyntheticText) -> str:
    """The document, or the part of it, whose id the text's own begins with."""
    return text.id.removesuffix("/".join(("", text.kind, *text.about, str(text.sample))))


def near_duplicates(folder: Path) -> list[NearDuplicate]:
    """The most similar; none where none were looked for."""
    file = folder / "near_duplicates.jsonl"
    found = read_jsonl(file, NearDuplicate) if file.exists() else ()
    return nlargest(NEAR_DUPLICATES_SHOWN, found, key=lambda each: each.similarity)


def cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}…"
