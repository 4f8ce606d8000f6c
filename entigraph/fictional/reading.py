"""From a document's text back to its facts: all that the offline writer knows about a fictional document."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from entigraph.fictional.grammar import Family, patterns
from entigraph.fictional.world import SIZE, Fact, Relation

PATTERNS = tuple(patterns())


@dataclass(frozen=True)
class Sentence:
    family: Family
    slots: dict[str, str]
    facts: Sequence[Fact]


@dataclass(frozen=True)
class Reading:
    sentences: Sequence[Sentence]

    @property
    def facts(self) -> list[Fact]:
        """In the order of the document."""
        return [fact for sentence in self.sentences for fact in sentence.facts]

    @property
    def entities(self) -> list[str]:
        return list(dict.fromkeys(name for fact in self.facts for name in (fact.subject, fact.object)))


@lru_cache(maxsize=256)
def comprehend(text: str) -> Reading | None:
    """The facts of a fictional source document; None where one sentence is not of its grammar."""
    sentences: list[Sentence] = []
    people: list[str] = []
    works: list[str] = []
    for raw in re.split(r"(?<=\.)\s+", text.strip()):
        family, slots = match(raw)
        if family is None:
            return None
        if family is Family.person:
            people.append(slots["person"])
            slots["pronoun"] = "she" if re.search(r"\b(?:she|her)\b", raw) else "he"
        if family is Family.made:
            works = series(slots, "work")
        if (family is Family.made and len(people) != SIZE) or (family in (Family.kept, Family.ordered) and not works):
            return None
        sentences.append(Sentence(family, slots, stated(family, slots, people, works)))
    return Reading(sentences)


def match(sentence: str) -> tuple[Family | None, dict[str, str]]:
    for family, pattern in PATTERNS:
        found = pattern.fullmatch(sentence)
        if found:
            return family, found.groupdict()
    return None, {}


def stated(family: Family, slots: dict[str, str], people: list[str], works: list[str]) -> list[Fact]:
    if family is Family.person:
        person = slots["person"]
        return [
            Fact(person, Relation.born, slots["town"]),
            Fact(person, Relation.mentor, slots["mentor"]),
            Fact(person, Relation.leads, slots["body"]),
        ]
    if family is Family.made:
        return [Fact(person, Relation.made, work) for person, work in zip(people, works, strict=True)]
    if family is Family.kept:
        return [Fact(work, Relation.kept, town) for work, town in zip(works, series(slots, "town"), strict=True)]
    if family is Family.ordered:
        return [Fact(body, Relation.ordered, work) for body, work in zip(series(slots, "body"), works, strict=True)]
    return [Fact(slots["body"], Relation.seat, slots["town"])]


def series(slots: dict[str, str], slot: str) -> list[str]:
    return [slots[f"{slot}{index}"] for index in range(SIZE)]
