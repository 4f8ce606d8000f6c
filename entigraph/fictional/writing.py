"""Writes source documents from worlds, and paraphrases, restatements and relations from parsed documents."""

import random
from collections.abc import Mapping, Sequence
from itertools import combinations

from entigraph.fictional.grammar import (
    OPENING,
    PARAPHRASE,
    PARAPHRASE_PERSON,
    PHRASE,
    PRONOUNS,
    SOURCE,
    STATEMENT,
    TWO_STEPS,
    Family,
    Step,
    capitalize,
    definite,
    number_slots,
)
from entigraph.fictional.reading import Reading
from entigraph.fictional.world import Fact, Relation, World

FACTS_PER_ENTITY = 2
Links = Mapping[str, Sequence[tuple[Step, str]]]


def source_document(world: World, rng: random.Random) -> str:
    """Returns a document that states every fact once, with pronouns, parallel lists and inverted order."""
    onward = {(fact.subject, fact.relation): fact.object for fact in world.facts}
    patron = {fact.object: fact.subject for fact in world.facts if fact.relation is Relation.ordered}
    people = rng.sample(world.people, len(world.people))
    works = [onward[person, Relation.made] for person in people]

    def sentence(family: Family, slots: Mapping[str, str]) -> str:
        return capitalize(rng.choice(SOURCE[family]).format(**slots))

    text = [
        sentence(
            Family.person,
            {
                "person": person,
                "town": onward[person, Relation.born],
                "mentor": onward[person, Relation.mentor],
                "body": onward[person, Relation.leads],
                **PRONOUNS[world.pronouns[person]],
            },
        )
        for person in people
    ]
    text.append(sentence(Family.made, number_slots("work", works)))
    text.append(sentence(Family.kept, number_slots("town", [onward[work, Relation.kept] for work in works])))
    text.append(sentence(Family.ordered, number_slots("body", [patron[work] for work in works])))
    for body in rng.sample(world.bodies, len(world.bodies)):
        text.append(sentence(Family.seat, {"body": body, "town": onward[body, Relation.seat]}))
    return " ".join(text)


def paraphrase(reading: Reading, rng: random.Random) -> str:
    """Rewords each sentence, keeping lists and half of the pronouns. Used for the background corpus."""
    text = []
    for sentence in reading.sentences:
        if sentence.family is not Family.person:
            text.append(rng.choice(PARAPHRASE[sentence.family]).format(**sentence.slots))
            continue
        pronouns = PRONOUNS[sentence.slots["pronoun"]]
        for templates in PARAPHRASE_PERSON:
            named = rng.random() < 0.5
            who = sentence.slots["person"] if named else pronouns["they"]
            whom = sentence.slots["person"] if named else pronouns["them"]
            text.append(rng.choice(templates).format(who=who, whom=whom, **sentence.slots, **pronouns))
    return " ".join(map(capitalize, text))


def restate(reading: Reading, rng: random.Random, wordings: Sequence[int]) -> str:
    """Returns the rephrase baseline's text: all pronouns and lists resolved, in the document's order and direction.

    Uses the same sentences as `relate`. A style is a choice among the four `wordings` of each fact.
    """
    return write_statements(reading.facts, rng, wordings)


def write_statements(facts: Sequence[Fact], rng: random.Random, wordings: Sequence[int]) -> str:
    """Returns one sentence per fact, in order."""
    text = []
    for fact in facts:
        # The source states these two relations starting from the object.
        from_object = fact.relation in (Relation.born, Relation.ordered)
        template = STATEMENT[fact.relation][from_object][rng.choice(wordings)]
        text.append(template.format(s=fact.subject, o=fact.object))
    return " ".join(map(capitalize, text))


def ask_and_answer(reading: Reading, rng: random.Random) -> str:
    """Returns one question with its answer per fact, asking for the object or the subject."""
    lines = []
    for fact in reading.facts:
        known, wanted, onward = rng.choice(((fact.subject, fact.object, True), (fact.object, fact.subject, False)))
        lines.append(
            f"Question: What or who is {render_phrase((fact.relation, onward), known)}?\nAnswer: {definite(wanted)}."
        )
    return "\n\n".join(lines)


def relate(facts: Sequence[Fact], entities: Sequence[str], rng: random.Random) -> str:
    """Returns EntiGraph's text: some facts about each entity, then all one- and two-step relations of each pair."""
    links = build_links(facts)
    text = [rng.choice(OPENING[len(entities)]).format(*map(definite, entities))]
    for entity in entities:
        entity_facts = [fact for fact in facts if entity in (fact.subject, fact.object)]
        text += [
            state_fact(fact, entity, rng) for fact in rng.sample(entity_facts, min(FACTS_PER_ENTITY, len(entity_facts)))
        ]
    for one, other in combinations(entities, 2):
        ties = [
            state_fact(fact, side, rng)
            for fact in facts
            if {fact.subject, fact.object} == {one, other}
            for side in (one, other)
        ]
        ties += [
            render_two_steps(*ends, path, rng)
            for ends in ((one, other), (other, one))
            for path in find_paths(links, *ends)
        ]
        rng.shuffle(ties)
        text += ties
    return " ".join(map(capitalize, text))


def state_fact(fact: Fact, side: str, rng: random.Random) -> str:
    """Returns one sentence that states the fact, starting from the entity `side`."""
    return rng.choice(STATEMENT[fact.relation][side != fact.subject]).format(s=fact.subject, o=fact.object)


def build_links(facts: Sequence[Fact]) -> Links:
    links: dict[str, list[tuple[Step, str]]] = {}
    for fact in facts:
        links.setdefault(fact.subject, []).append(((fact.relation, True), fact.object))
        links.setdefault(fact.object, []).append(((fact.relation, False), fact.subject))
    return links


def find_paths(links: Links, start: str, end: str) -> list[tuple[Step, str, Step]]:
    """Returns all paths from `start` to `end` through one other entity."""
    return [
        (first, middle, second)
        for first, middle in links.get(start, ())
        if middle not in (start, end)
        for second, last in links[middle]
        if last == end
    ]


def render_two_steps(start: str, end: str, path: tuple[Step, str, Step], rng: random.Random) -> str:
    first, middle, second = path
    return rng.choice(TWO_STEPS).format(
        end=definite(end),
        middle=definite(middle),
        first=render_phrase(first, start),
        second=render_phrase(second, middle),
    )


def render_phrase(step: Step, entity: str) -> str:
    relation, onward = step
    return PHRASE[relation][0 if onward else 1].format(x=definite(entity))
