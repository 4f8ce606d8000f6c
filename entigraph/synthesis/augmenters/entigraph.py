"""EntiGraph (paper §2.2): list a document's entities, then write about their pairs and triples."""

import json
import random
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import ceil, comb, gcd
from typing import Any, ClassVar

from entigraph.errors import ConfigError
from entigraph.llm.base import Completion, Request
from entigraph.storage.schemas import Document, EntityGraph, Failure
from entigraph.synthesis.base import Layout, Phase, Task, asking, in_rounds
from entigraph.synthesis.document_parts import in_parts, source_of

ENTITY_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "entities": {"type": "array", "items": {"type": "string"}}},
    "required": ["summary", "entities"],
    "additionalProperties": False,
}
SIZES = {"pair": 2, "triple": 3}
KINDS = {size: kind for kind, size in SIZES.items()}
GROUP_HEADING = re.compile(r"^=== *(\d+) *$", re.MULTILINE)
EDGES = " \t\n.,;:•*-–—"


@dataclass(frozen=True, kw_only=True)
class EntiGraph:
    """Every pair of a document's entities, then a seeded sample of its triples.

    `triples_per_document` null: all of them, as far as the token budget goes. The paper used "a subset" and gives no
    number (App. C). `requests_in_a_row` of one document keep its text in a server's prefix cache.
    `relations_per_request` asks for several texts at once, so that the document is sent once for all of them; the paper
    asks for one.
    `temperature` is the authors' code's; the paper does not state it. A document longer than `max_document_tokens` (of
    four characters) is written about in overlapping parts. `max_entities` keeps the first so many of each list.
    """

    name: str = "entigraph"
    triples_per_document: int | None = None
    requests_in_a_row: int = 8
    relations_per_request: int = 1
    layout: Layout = Layout.paper
    temperature: float = 1.0
    max_document_tokens: int | None = 32_000
    max_entities: int | None = None
    needs_writer: ClassVar[bool] = True
    repeats: ClassVar[bool] = False
    author: ClassVar[str] = "the writer"
    endless: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for key, least in (
            ("triples_per_document", 0),
            ("requests_in_a_row", 1),
            ("relations_per_request", 1),
            ("max_document_tokens", 100),
            ("max_entities", 2),
        ):
            value = getattr(self, key)
            if value is not None and value < least:
                raise ConfigError(f"augmenter.{key}: {value} found, {least} or more expected")

    @property
    def prompts(self) -> Sequence[str]:
        common = ["writer"] if self.layout is Layout.shared_prefix else []
        return [*common, "entities", self.prompt_of("pair"), self.prompt_of("triple")]

    def prompt_of(self, kind: str) -> str:
        return kind if self.relations_per_request == 1 else f"{kind}s"

    def sources(self) -> Sequence[str]:
        return ()

    def parts(self, document: Document) -> Sequence[Document]:
        return in_parts(document, self.max_document_tokens)

    def graph_request(self, document: Document) -> Request:
        return asking(document, "entities", layout=self.layout, temperature=self.temperature, json_schema=ENTITY_SCHEMA)

    def graph(self, document: Document, completion: Completion) -> EntityGraph | Failure:
        try:
            found = json.loads(completion.text)
            summary, named = str(found["summary"]), found["entities"]
        except (ValueError, KeyError, TypeError):
            return failed(document, "entities that are not the JSON asked for", completion)
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            return failed(document, "entities that are not the JSON asked for", completion)
        entities = distinct(named)
        if len(entities) < 2:
            return failed(document, f"{len(entities)} entities; a pair needs two", completion)
        kept = entities[: self.max_entities]
        return EntityGraph(document_id=document.id, summary=summary, entities=kept, left_out=len(entities) - len(kept))

    def tasks(self, documents: Iterable[Document], graphs: Mapping[str, EntityGraph], seed: int) -> Iterator[Task]:
        known = [(document, graphs[document.id].entities) for document in documents if document.id in graphs]
        pairs = [self.grouped(document, "pair", self.pairs(document, entities, seed)) for document, entities in known]
        triples = [
            self.grouped(document, "triple", self.triples(document, entities, seed)) for document, entities in known
        ]
        return chain(in_rounds(pairs, self.requests_in_a_row), in_rounds(triples, self.requests_in_a_row))

    def pairs(self, document: Document, entities: Sequence[str], seed: int) -> Iterator[Sequence[str]]:
        order = array("I", range(comb(len(entities), 2)))  # four bytes each: there are millions in a large corpus
        random.Random(f"pairs/{seed}/{document.id}").shuffle(order)
        return (pair_at(index, entities) for index in order)

    def triples(self, document: Document, entities: Sequence[str], seed: int) -> Iterator[Sequence[str]]:
        order = scattered(comb(len(entities), 3), random.Random(f"triples/{seed}/{document.id}"))
        return (triple_at(index, entities) for index in islice(order, self.triples_per_document))

    def grouped(self, document: Document, kind: str, relations: Iterator[Sequence[str]]) -> Iterator[Task]:
        while about := list(islice(relations, self.relations_per_request)):
            yield Task(document=document, kind=kind, about=about)

    def request(self, task: Task) -> Request:
        return asking(
            task.document,
            self.prompt_of(task.kind),
            f"### Entities\n{self.listed(task.about)}",
            layout=self.layout,
            temperature=self.temperature,
        )

    def listed(self, about: Sequence[Sequence[str]]) -> str:
        groups = ["\n".join(f"- {entity}" for entity in group) for group in about]
        if self.relations_per_request == 1:
            return groups[0]
        return "\n".join(f"=== {number}\n{group}" for number, group in enumerate(groups, 1))

    def texts(self, task: Task, answer: str) -> Sequence[str | None]:
        if self.relations_per_request == 1:
            return [answer]
        pieces = GROUP_HEADING.split(answer)
        found = {int(number): text.strip() for number, text in zip(pieces[1::2], pieces[2::2], strict=True)}
        return [found.get(number) or None for number in range(1, len(task.about) + 1)]

    def phases(self, entities: int) -> Sequence[Phase]:
        kept = min(entities, self.max_entities or entities)
        triples = min(
            comb(kept, 3), self.triples_per_document if self.triples_per_document is not None else comb(kept, 3)
        )
        return [
            Phase(["pair"], ceil(comb(kept, 2) / self.relations_per_request)),
            Phase(["triple"], ceil(triples / self.relations_per_request)),
        ]

    def example(self, document: Document, kind: str) -> Task:
        about = [("an entity of it",) * SIZES[kind]] * self.relations_per_request
        return Task(document=document, kind=kind, about=about)


def failed(document: Document, reason: str, completion: Completion) -> Failure:
    return Failure(document_id=source_of(document), kind="entities", about=(), reason=reason, response=completion.text)


def distinct(names: Iterable[str]) -> list[str]:
    """Without bullets and stray punctuation; of those that differ in case only, the first."""
    known: dict[str, str] = {}
    for name in names:
        plain = " ".join(name.split()).strip(EDGES)
        if plain:
            known.setdefault(plain.casefold(), plain)
    return list(known.values())


def scattered(count: int, rng: random.Random) -> Iterator[int]:
    """Each of 0..count-1 once, scattered, in constant memory: a document of 100 entities has 161,700 triples."""
    if count < 1:
        return
    stride = rng.randrange(1, count + 1)
    while gcd(stride, count) != 1:
        stride = rng.randrange(1, count + 1)
    start = rng.randrange(count)
    for step in range(count):
        yield (start + step * stride) % count


def pair_at(index: int, entities: Sequence[str]) -> tuple[str, str]:
    """The index-th pair in lexicographic order."""
    first, row = 0, len(entities) - 1
    while index >= row:
        index, first, row = index - row, first + 1, row - 1
    return entities[first], entities[first + 1 + index]


def triple_at(index: int, entities: Sequence[str]) -> tuple[str, str, str]:
    """The index-th 3-combination in the combinatorial number system."""
    found = []
    for size in (3, 2, 1):
        position = size - 1
        while comb(position + 1, size) <= index:
            position += 1
        index -= comb(position, size)
        found.append(entities[position])
    return found[2], found[1], found[0]
