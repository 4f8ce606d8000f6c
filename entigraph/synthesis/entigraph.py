"""EntiGraph (paper §2.2): list a document's entities, then write about their pairs and triples."""

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from math import comb, gcd
from typing import Any, ClassVar

from entigraph.errors import ConfigError
from entigraph.llm.base import Completion, Request
from entigraph.records import Document, EntityGraph, Failure
from entigraph.synthesis.base import Task, in_rounds, presented, prompt

ENTITY_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "entities": {"type": "array", "items": {"type": "string"}}},
    "required": ["summary", "entities"],
    "additionalProperties": False,
}
KINDS = {2: "pair", 3: "triple"}


@dataclass(frozen=True, kw_only=True)
class EntiGraph:
    """Every pair of a document's entities, then a seeded sample of its triples.

    `triples_per_document` null: all of them, as far as the token budget goes. The paper used "a subset" and gives no
    number (App. C). `requests_in_a_row` of one document keep its text in a server's prefix cache. `temperature` is the
    authors' code's; the paper does not state it.
    """

    name: str = "entigraph"
    triples_per_document: int | None = None
    requests_in_a_row: int = 8
    temperature: float = 1.0
    prompts: ClassVar[Sequence[str]] = ("entities", "pair", "triple")
    needs_writer: ClassVar[bool] = True
    endless: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.triples_per_document is not None and self.triples_per_document < 0:
            raise ConfigError(f"augmenter.triples_per_document: {self.triples_per_document} found, 0 or more expected")
        if self.requests_in_a_row < 1:
            raise ConfigError(f"augmenter.requests_in_a_row: {self.requests_in_a_row} found, at least 1 expected")

    def graph_request(self, document: Document) -> Request:
        return Request(
            system=prompt("entities"), user=presented(document), temperature=self.temperature, json_schema=ENTITY_SCHEMA
        )

    def graph(self, document: Document, completion: Completion) -> EntityGraph | Failure:
        try:
            found = json.loads(completion.text)
            summary, named = str(found["summary"]), found["entities"]
        except (ValueError, KeyError, TypeError):
            return failed(document, "entities that are not the JSON asked for", completion)
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            return failed(document, "entities that are not the JSON asked for", completion)
        entities = list(dict.fromkeys(" ".join(name.split()) for name in named if name.strip()))
        if len(entities) < 2:
            return failed(document, f"{len(entities)} entities; a pair needs two", completion)
        return EntityGraph(document_id=document.id, summary=summary, entities=entities)

    def tasks(self, documents: Iterable[Document], graphs: Mapping[str, EntityGraph], seed: int) -> Iterator[Task]:
        known = [(document, graphs[document.id].entities) for document in documents if document.id in graphs]
        pairs = [self.pairs(document, entities, seed) for document, entities in known]
        triples = [self.triples(document, entities, seed) for document, entities in known]
        return chain(in_rounds(pairs, self.requests_in_a_row), in_rounds(triples, self.requests_in_a_row))

    def pairs(self, document: Document, entities: Sequence[str], seed: int) -> Iterator[Task]:
        drawn = list(combinations(entities, 2))
        random.Random(f"pairs/{seed}/{document.id}").shuffle(drawn)
        return (self.task(document, pair) for pair in drawn)

    def triples(self, document: Document, entities: Sequence[str], seed: int) -> Iterator[Task]:
        count = comb(len(entities), 3)
        wanted = count if self.triples_per_document is None else min(self.triples_per_document, count)
        order = scattered(count, random.Random(f"triples/{seed}/{document.id}"))
        return (self.task(document, triple_at(next(order), entities)) for _ in range(wanted))

    def task(self, document: Document, about: Sequence[str]) -> Task:
        kind = KINDS[len(about)]
        listed = "\n".join(f"- {entity}" for entity in about)
        request = Request(
            system=prompt(kind), user=f"{presented(document)}\n\n### Entities\n{listed}", temperature=self.temperature
        )
        return Task(document=document, kind=kind, about=about, sample=0, request=request)


def failed(document: Document, reason: str, completion: Completion) -> Failure:
    return Failure(document_id=document.id, kind="entities", about=(), reason=reason, response=completion.text)


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
