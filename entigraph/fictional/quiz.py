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
    via: str | None = None  # the entity in the middle of a two-step question
    facts: Sequence[Fact] = ()  # that answer it


def questions(world: World, rng: random.Random) -> Iterator[Item]:
    """Yields 105 items: a forward and an inverse question per fact, and seven compositions for each of five entities.

    Compositions are answered after a generated "Thought" that names the entity in the middle, like the paper's chain of
    thought; without it, models of this size stay at chance.
    """
    for fact in world.facts:
        forward, inverse = ASK[fact.relation]
        yield build_item(
            world, "forward", forward.format(s=fact.subject), fact.object, rng, [fact], excluded=fact.subject
        )
        yield build_item(
            world, "inverse", inverse.format(o=fact.object), fact.subject, rng, [fact], excluded=fact.object
        )
    for group, ask, first, second in ASK_TWO_STEPS:
        for entity in getattr(world, group):
            via, one = follow_step(world, entity, first)
            answer, other = follow_step(world, via, second)
            yield build_item(world, "two_hop", ask.format(x=entity), answer, rng, [one, other], via=definite(via))


def build_item(
    world: World,
    group: str,
    text: str,
    answer: str,
    rng: random.Random,
    facts: Sequence[Fact],
    excluded: str | None = None,
    via: str | None = None,
) -> Item:
    wrong = [entity for entity in world.same_type(answer) if entity not in (answer, excluded)]
    choices = [answer, *rng.sample(wrong, OPTIONS - 1)]
    rng.shuffle(choices)
    return Item(group, text, [definite(choice) for choice in choices], choices.index(answer), via, facts)


# The entity types of subject and object, which cannot be inferred from facts alone.
TYPES: Mapping[Relation, tuple[str, str]] = {
    Relation.born: ("person", "town"),
    Relation.leads: ("person", "body"),
    Relation.made: ("person", "work"),
    Relation.kept: ("work", "town"),
    Relation.seat: ("body", "town"),
    Relation.mentor: ("person", "person"),
    Relation.ordered: ("body", "work"),
}


def questions_from_facts(facts: Sequence[Fact], rng: random.Random) -> list[Item]:
    """Returns a forward and an inverse question per fact, shuffled. Wrong options are taken from the facts."""
    members: dict[str, dict[str, None]] = {}
    for fact in facts:
        for kind, name in zip(TYPES[fact.relation], (fact.subject, fact.object), strict=True):
            members.setdefault(kind, {})[name] = None
    items = []
    for fact in facts:
        for group, kind, (text, right, excluded) in zip(
            ("forward", "inverse"), reversed(TYPES[fact.relation]), both_directions(fact), strict=True
        ):
            wrong = [name for name in members[kind] if name not in (right, excluded)]
            if len(wrong) >= OPTIONS - 1:
                choices = [definite(name) for name in (right, *rng.sample(wrong, OPTIONS - 1))]
                items.append(Item(group, text, choices, 0))
    rng.shuffle(items)
    return items


def both_directions(fact: Fact) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
    """Returns (question, answer, entity in the question) of the question for the object and of that for the subject."""
    forward, inverse = ASK[fact.relation]
    return (
        (forward.format(s=fact.subject), fact.object, fact.subject),
        (inverse.format(o=fact.object), fact.subject, fact.object),
    )


def find_answers(text: str, facts: Sequence[Fact]) -> set[str]:
    """Returns the answers that the facts give to a question."""
    return {definite(answer) for fact in facts for question, answer, _ in both_directions(fact) if question == text}


def follow_step(world: World, entity: str, step: Step) -> tuple[str, Fact]:
    """Returns the entity at the other end of the relation, and the fact."""
    relation, onward = step
    for fact in world.facts:
        if fact.relation is relation and entity == (fact.subject if onward else fact.object):
            return (fact.object if onward else fact.subject), fact
    raise AssertionError(f"{entity} has no {relation}")


def render_item(item: Item) -> str:
    """Returns the item as a background training text, which starts with the prompt of the evaluation."""
    thought = f" Thought: {item.via}." if item.via else ""
    return f"Question: {item.text}{thought} Answer: {item.choices[item.answer]}."
