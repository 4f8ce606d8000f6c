"""A document's entity graph as an SVG: entities on a circle, and an edge for each pair that a text is about."""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import cos, pi, sin

from markupsafe import Markup

from entigraph.reporting.html import template_environment
from entigraph.storage.schemas import Document, EntityGraph, SyntheticText

MAX_NODES = 40
WIDTH, HEIGHT, RADIUS = 760, 560, 205
NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class GraphNode:
    name: str
    x: float
    y: float
    anchor: str


@dataclass(frozen=True)
class GraphEdge:
    one: GraphNode
    other: GraphNode
    texts: int
    opacity: float


@dataclass(frozen=True)
class GraphLayout:
    """The nodes are the first entities of the document; `pairs` counts all pairs of them."""

    document: Document
    nodes: Sequence[GraphNode]
    edges: Sequence[GraphEdge]
    pairs: int
    left_out: int

    def describe(self) -> str:
        omitted = f" shown, {self.left_out} omitted" if self.left_out else ""
        return (
            f"{self.document.title}: {len(self.nodes)} entities{omitted}; {len(self.edges)} of {self.pairs} pairs have "
            "a text; darker edges have more."
        )

    def as_svg(self) -> Markup:
        """Returns an SVG without scripts. Names are escaped, without the control characters that XML does not allow."""
        template = template_environment("entigraph.reporting").get_template("entity_graph.svg.j2")
        svg = template.render(graph=self, width=WIDTH, height=HEIGHT)
        return Markup(NOT_IN_XML.sub("\ufffd", svg))


def layout_graph(document: Document, graph: EntityGraph, texts: Iterable[SyntheticText]) -> GraphLayout:
    names = list(graph.entities)[:MAX_NODES]
    nodes = {name: place_node(name, index, len(names)) for index, name in enumerate(names)}
    texts_by_pair: Counter[frozenset[str]] = Counter()
    for text in texts:
        if text.document_id == document.id:
            pairs = (frozenset(pair) for pair in itertools.combinations(text.about, 2))
            texts_by_pair.update(pair for pair in pairs if pair <= set(nodes))
    most = max(texts_by_pair.values(), default=1)
    edges = []
    for pair, count in texts_by_pair.items():
        one, other = sorted(pair)
        edges.append(GraphEdge(nodes[one], nodes[other], count, 0.08 + 0.6 * count / most))
    pair_count = len(names) * (len(names) - 1) // 2
    return GraphLayout(document, list(nodes.values()), edges, pair_count, len(graph.entities) - len(names))


def place_node(name: str, index: int, count: int) -> GraphNode:
    angle = 2 * pi * index / count - pi / 2
    x, y = WIDTH / 2 + RADIUS * cos(angle), HEIGHT / 2 + RADIUS * sin(angle)
    anchor = "middle" if abs(cos(angle)) < 0.2 else "start" if cos(angle) > 0 else "end"
    return GraphNode(name, round(x, 1), round(y, 1), anchor)
