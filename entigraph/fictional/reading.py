"""Parses the text of a fictional document into its facts, on which the offline writer relies."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from entigraph.fictional.grammar import Family, patterns
from entigraph.fictional.world import SIZE, Fact, Relation

PATTERNS = tuple(patterns())
# The sentences whose order the lists of a sentence follow.
ORDERED_BY: Mapping[Family, Sequence[Family]] = {
    Family.person: (),
    Family.made: (Family.person,),
    Family.kept: (Family.made,),
    Family.ordered: (Family.made,),
    Family.seat: (),
}


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


def evidence(text: str, facts: Sequence[Fact]) -> list[str]:
    """Returns the sentences of a fictional source document that together state these facts, in document order.

    Lists state facts by their order only: who made what also needs the sentences about people, and where a work is kept
    or who ordered it also needs the sentence that lists the works.
    """
    reading = comprehend(text)
    if reading is None:
        return []
    needed: set[int] = set()
    for number, sentence in enumerate(reading.sentences):
        if not set(facts).isdisjoint(sentence.facts):
            order = ORDERED_BY[sentence.family]
            needed |= {number, *(index for index, other in enumerate(reading.sentences) if other.family in order)}
    sentences = split_sentences(text)
    return [sentences[number] for number in sorted(needed)]


def split_sentences(text: str) -> list[str]:
    return re.split(r"(?<=\.)\s+", text.strip())


@lru_cache(maxsize=256)
def comprehend(text: str) -> Reading | None:
    """Returns the facts of a fictional source document; None if a sentence is outside the grammar."""
    sentences: list[Sentence] = []
    people: list[str] = []
    works: list[str] = []
    for raw in split_sentences(text):
        family, slots = match_sentence(raw)
        if family is None:
            return None
        if family is Family.person:
            people.append(slots["person"])
            slots["pronoun"] = "she" if re.search(r"\b(?:she|her)\b", raw) else "he"
        if family is Family.made:
            works = numbered_slots(slots, "work")
        if (family is Family.made and len(people) != SIZE) or (family in (Family.kept, Family.ordered) and not works):
            return None
        sentences.append(Sentence(family, slots, extract_facts(family, slots, people, works)))
    return Reading(sentences)


def match_sentence(sentence: str) -> tuple[Family | None, dict[str, str]]:
    for family, pattern in PATTERNS:
        match = pattern.fullmatch(sentence)
        if match:
            return family, match.groupdict()
    return None, {}


def extract_facts(family: Family, slots: dict[str, str], people: list[str], works: list[str]) -> list[Fact]:
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
        return [
            Fact(work, Relation.kept, town) for work, town in zip(works, numbered_slots(slots, "town"), strict=True)
        ]
    if family is Family.ordered:
        return [
            Fact(body, Relation.ordered, work) for body, work in zip(numbered_slots(slots, "body"), works, strict=True)
        ]
    return [Fact(slots["body"], Relation.seat, slots["town"])]


def numbered_slots(slots: dict[str, str], slot: str) -> list[str]:
    return [slots[f"{slot}{index}"] for index in range(SIZE)]
