"""Documents from worlds, and texts from what was read: paraphrases, restatements, relations between entities."""

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
    capitalised,
    definite,
    numbered,
)
from entigraph.fictional.reading import Reading
from entigraph.fictional.world import Fact, Relation, World

FACTS_AN_ENTITY = 2
Links = Mapping[str, Sequence[tuple[Step, str]]]


def source_document(world: World, rng: random.Random) -> str:
    """Every fact once, entangled as a careless chronicler would."""
    onward = {(fact.subject, fact.relation): fact.object for fact in world.facts}
    patron = {fact.object: fact.subject for fact in world.facts if fact.relation is Relation.ordered}
    people = rng.sample(world.people, len(world.people))
    works = [onward[person, Relation.made] for person in people]

    def sentence(family: Family, slots: Mapping[str, str]) -> str:
        return capitalised(rng.choice(SOURCE[family]).format(**slots))

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
    text.append(sentence(Family.made, numbered("work", works)))
    text.append(sentence(Family.kept, numbered("town", [onward[work, Relation.kept] for work in works])))
    text.append(sentence(Family.ordered, numbered("body", [patron[work] for work in works])))
    for body in rng.sample(world.bodies, len(world.bodies)):
        text.append(sentence(Family.seat, {"body": body, "town": onward[body, Relation.seat]}))
    return " ".join(text)


def paraphrase(reading: Reading, rng: random.Random) -> str:
    """Sentence by sentence in other words; keeps lists, and half of the pronouns. For the background corpus."""
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
    return " ".join(map(capitalised, text))


def restate(reading: Reading, rng: random.Random, wordings: Sequence[int]) -> str:
    """The rephrase baseline: every pronoun and list resolved, in the document's own order and direction.

    Its sentences are those of `relate`. `wordings` picks among the four of each fact: that is all a style changes.
    """
    return plainly(reading.facts, rng, wordings)


def plainly(facts: Sequence[Fact], rng: random.Random, wordings: Sequence[int]) -> str:
    """A sentence for each, in their order."""
    text = []
    for fact in facts:
        # The source tells these two from the object: a town sees a birth, a work was begun at a body's wish.
        from_object = fact.relation in (Relation.born, Relation.ordered)
        template = STATEMENT[fact.relation][from_object][rng.choice(wordings)]
        text.append(template.format(s=fact.subject, o=fact.object))
    return " ".join(map(capitalised, text))


def ask_and_answer(reading: Reading, rng: random.Random) -> str:
    """Each fact as a question with its answer, asked for its object or for its subject."""
    lines = []
    for fact in reading.facts:
        known, wanted, onward = rng.choice(((fact.subject, fact.object, True), (fact.object, fact.subject, False)))
        lines.append(f"Question: What or who is {phrase((fact.relation, onward), known)}?\nAnswer: {definite(wanted)}.")
    return "\n\n".join(lines)


def relate(facts: Sequence[Fact], entities: Sequence[str], rng: random.Random) -> str:
    """EntiGraph's text: a little about each entity, then every tie of one or two steps between each two of them."""
    links = linked(facts)
    text = [rng.choice(OPENING[len(entities)]).format(*map(definite, entities))]
    for entity in entities:
        own = [fact for fact in facts if entity in (fact.subject, fact.object)]
        text += [state(fact, entity, rng) for fact in rng.sample(own, min(FACTS_AN_ENTITY, len(own)))]
    for one, other in combinations(entities, 2):
        ties = [
            state(fact, side, rng)
            for fact in facts
            if {fact.subject, fact.object} == {one, other}
            for side in (one, other)
        ]
        ties += [two_steps(*ends, path, rng) for ends in ((one, other), (other, one)) for path in paths(links, *ends)]
        rng.shuffle(ties)
        text += ties
    return " ".join(map(capitalised, text))


def state(fact: Fact, side: str, rng: random.Random) -> str:
    """One sentence for a fact, told from one of its two entities."""
    return rng.choice(STATEMENT[fact.relation][side != fact.subject]).format(s=fact.subject, o=fact.object)


def linked(facts: Sequence[Fact]) -> Links:
    links: dict[str, list[tuple[Step, str]]] = {}
    for fact in facts:
        links.setdefault(fact.subject, []).append(((fact.relation, True), fact.object))
        links.setdefault(fact.object, []).append(((fact.relation, False), fact.subject))
    return links


def paths(links: Links, start: str, end: str) -> list[tuple[Step, str, Step]]:
    """Every way from `start` to `end` over one other entity."""
    return [
        (first, middle, second)
        for first, middle in links.get(start, ())
        if middle not in (start, end)
        for second, last in links[middle]
        if last == end
    ]


def two_steps(start: str, end: str, path: tuple[Step, str, Step], rng: random.Random) -> str:
    first, middle, second = path
    return rng.choice(TWO_STEPS).format(
        end=definite(end), middle=definite(middle), first=phrase(first, start), second=phrase(second, middle)
    )


def phrase(step: Step, entity: str) -> str:
    relation, onward = step
    return PHRASE[relation][0 if onward else 1].format(x=definite(entity))
