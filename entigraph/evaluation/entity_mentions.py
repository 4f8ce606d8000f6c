"""Which of the texts that a model was trained on name the answer of a question: how many, and a few to read.

The entities of an answer are those of its document's graph that the right option names; of a question, those that it
names itself. Where there is no graph, or the option names none of it, an option of a few words is a name itself.
The texts are read once for all questions, and each is looked through for the names of its own document's only.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from entigraph.storage.schemas import Answer, EntityGraph, SyntheticText, choice_text, source_document_id

TEXTS_SHOWN = 3
NAME_WORDS = 5  # an option of at most so many is a name
SHORTEST_NAME = 2  # characters
EXCERPT = 420  # characters
ARTICLE = re.compile(r"^(the|an?) ", re.IGNORECASE)


class Key(NamedTuple):
    """A question as several tasks may ask it."""

    document_id: str
    question: str
    right: str


def key_of(answer: Answer) -> Key:
    return Key(answer.document_id, answer.question, choice_text(answer.choices, answer.answer))


@dataclass(frozen=True)
class TextsRead:
    """What a model was trained on: `texts` begins anew at every call; a long document's graph has the id of its part.

    Without graphs (texts that are about no entities) names are those of short options.
    """

    texts: Callable[[], Iterator[SyntheticText]]
    graphs: Sequence[EntityGraph] = ()


@dataclass(frozen=True)
class Excerpt:
    kind: str
    about: Sequence[str]
    text: str


@dataclass
class Mention:
    """`texts` about the document; `naming` of them one of the answer's `names`; `together` one of the `asked`, too."""

    names: Sequence[str]
    asked: Sequence[str] = ()
    texts: int = 0
    naming: int = 0
    together: int = 0
    first: list[Excerpt] = field(default_factory=list)
    first_together: list[Excerpt] = field(default_factory=list)

    def see(self, text: SyntheticText, found: frozenset[str]) -> None:
        self.texts += 1
        if found.isdisjoint(self.names):
            return
        together = not found.isdisjoint(self.asked)
        self.naming += 1
        self.together += together
        kept = self.first_together if together else self.first
        if len(kept) < TEXTS_SHOWN:
            kept.append(Excerpt(text.kind, text.about, excerpt(text.text, self.names, self.asked)))

    @property
    def shown(self) -> Sequence[Excerpt]:
        return [*self.first_together, *self.first][:TEXTS_SHOWN]


def mentions(keys: Collection[Key], read: TextsRead) -> dict[Key, Mention]:
    """Of each question whose answer has a name; its memory does not grow with the texts."""
    by_document: dict[str, dict[Key, Mention]] = {}
    entities = entities_of(read.graphs, {key.document_id for key in keys})
    for key in keys:
        if one := mention(key, entities.get(key.document_id, ())):
            by_document.setdefault(key.document_id, {})[key] = one
    names = {
        document: frozenset(name for one in own.values() for name in (*one.names, *one.asked))
        for document, own in by_document.items()
    }
    for text in read.texts() if names else ():
        if text.document_id in by_document:
            found = frozenset(named(names[text.document_id], text.text))
            for one in by_document[text.document_id].values():
                one.see(text, found)
    return {key: one for own in by_document.values() for key, one in own.items()}


def mention(key: Key, entities: Sequence[str]) -> Mention | None:
    names = longest(named(entities, key.right))
    option = ARTICLE.sub("", key.right.strip().rstrip("."))
    if not names and len(option) >= SHORTEST_NAME and len(option.split()) <= NAME_WORDS:
        names = [option]
    asked = [name for name in longest(named(entities, key.question)) if not any(overlap(name, each) for each in names)]
    return Mention(names, asked) if names else None


def entities_of(graphs: Iterable[EntityGraph], documents: set[str]) -> Mapping[str, Sequence[str]]:
    """By document: those of all its parts, "id#1", "id#2", ..., where it was written about in parts."""
    found: dict[str, dict[str, str]] = {}
    for graph in graphs:
        found.setdefault(source_document_id(graph.document_id, documents), {}).update(
            {each.lower(): each for each in graph.entities}
        )
    return {name: [each for each in own.values() if len(each) >= SHORTEST_NAME] for name, own in found.items()}


def named(names: Iterable[str], text: str) -> list[str]:
    """Those that stand in the text as whole words, in any case."""
    lower = text.lower()
    return [name for name in names if name.lower() in lower and word(name).search(text)]


def longest(names: Sequence[str]) -> list[str]:
    """Without those that are a part of another: of "Vale" and "Miriam Vale" the latter."""
    return [name for name in names if not any(len(other) > len(name) and overlap(name, other) for other in names)]


def overlap(one: str, other: str) -> bool:
    """Whether one is the other or a part of it, so that a text which holds one would count for both."""
    return bool(word(one).search(other) or word(other).search(one))


@cache
def word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)


def excerpt(text: str, names: Sequence[str], asked: Sequence[str]) -> str:
    """Around the place where an answer's name stands nearest to one that is asked about."""
    places = [found.start() for name in names for found in word(name).finditer(text)]
    others = [found.start() for name in asked for found in word(name).finditer(text)]
    center = min(places, key=lambda place: min((abs(place - other) for other in others), default=place))
    if others:
        center = (center + min(others, key=lambda other: abs(center - other))) // 2
    start = max(0, min(center - EXCERPT // 2, len(text) - EXCERPT))
    end = start + EXCERPT
    start = text.find(" ", start, start + 20) + 1 if start else 0
    end = len(text) if end >= len(text) else max(text.rfind(" ", end - 20, end), end - 20)
    return f"{'…' * (start > 0)}{text[start:end].strip()}{'…' * (end < len(text))}"
