"""Questions about a world, in wording that no writer uses; wrong options are entities of the same type and document."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from entigraph.fictional.grammar import ASK, ASK_TWO_STEPS, Step, definite
from entigraph.fictional.world import Fact, Relation, World

OPTIONS = 4


@dataclass(frozen=True)
class Item:
    group: str
    text: str
    choices: Sequence[str]
    answer: int
    via: str | None = None  # the entity between, for a question of two steps
    facts: Sequence[Fact] = ()  # what answers it


def questions(world: World, rng: random.Random) -> Iterator[Item]:
    """105 items: each fact asked forward and inverse, and seven compositions from each of five entities.

    A composition is asked with the entity between as a generated "Thought": without it a model of this size stays
    at chance whatever it has read (it stands for the paper's chain of thought).
    """
    for fact in world.facts:
        forward, inverse = ASK[fact.relation]
        yield item(world, "forward", forward.format(s=fact.subject), fact.object, rng, [fact], barred=fact.subject)
        yield item(world, "inverse", inverse.format(o=fact.object), fact.subject, rng, [fact], barred=fact.object)
    for group, ask, first, second in ASK_TWO_STEPS:
        for entity in getattr(world, group):
            via, one = walk(world, entity, first)
            answer, other = walk(world, via, second)
            yield item(world, "two_hop", ask.format(x=entity), answer, rng, [one, other], via=definite(via))


def item(
    world: World,
    group: str,
    text: str,
    answer: str,
    rng: random.Random,
    facts: Sequence[Fact],
    barred: str | None = None,
    via: str | None = None,
) -> Item:
    wrong = [entity for entity in world.same_type(answer) if entity not in (answer, barred)]
    choices = [answer, *rng.sample(wrong, OPTIONS - 1)]
    rng.shuffle(choices)
    return Item(group, text, [definite(choice) for choice in choices], choices.index(answer), via, facts)


# The types of what a relation joins: all that a reader of the facts alone knows of them.
TYPES: Mapping[Relation, tuple[str, str]] = {
    Relation.born: ("person", "town"),
    Relation.leads: ("person", "body"),
    Relation.made: ("person", "work"),
    Relation.kept: ("work", "town"),
    Relation.seat: ("body", "town"),
    Relation.mentor: ("person", "person"),
    Relation.ordered: ("body", "work"),
}


def questions_about(facts: Sequence[Fact], rng: random.Random) -> list[Item]:
    """Each fact asked forward and inverse, by somebody who knows the facts and not the world; in a drawn order."""
    members: dict[str, dict[str, None]] = {}
    for fact in facts:
        for kind, name in zip(TYPES[fact.relation], (fact.subject, fact.object), strict=True):
            members.setdefault(kind, {})[name] = None
    found = []
    for fact in facts:
        for group, kind, (text, right, barred) in zip(
            ("forward", "inverse"), reversed(TYPES[fact.relation]), both_ways(fact), strict=True
        ):
            wrong = [name for name in members[kind] if name not in (right, barred)]
            if len(wrong) >= OPTIONS - 1:
                choices = [definite(name) for name in (right, *rng.sample(wrong, OPTIONS - 1))]
                found.append(Item(group, text, choices, 0))
    rng.shuffle(found)
    return found


def both_ways(fact: Fact) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
    """Question, answer and what is named in the question, asking for the object and for the subject."""
    forward, inverse = ASK[fact.relation]
    return (
        (forward.format(s=fact.subject), fact.object, fact.subject),
        (inverse.format(o=fact.object), fact.subject, fact.object),
    )


def right_answers(text: str, facts: Sequence[Fact]) -> set[str]:
    """What the facts say to a question; nothing where they do not know it."""
    return {definite(right) for fact in facts for asked, right, _ in both_ways(fact) if asked == text}


def walk(world: World, entity: str, step: Step) -> tuple[str, Fact]:
    """Whom a step from an entity leads to, and the fact that says so."""
    relation, onward = step
    for fact in world.facts:
        if fact.relation is relation and entity == (fact.subject if onward else fact.object):
            return (fact.object if onward else fact.subject), fact
    raise AssertionError(f"{entity} has no {relation}")


def answered(item: Item) -> str:
    """The item as training text of the background; the evaluation's prompt is its beginning."""
    thought = f" Thought: {item.via}." if item.via else ""
    return f"Question: {item.text}{thought} Answer: {item.choices[item.answer]}."
