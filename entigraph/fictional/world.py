"""A world is five people, five towns, five works and five bodies, joined by seven relations (35 facts)."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from entigraph.errors import ConfigError

SIZE = 5
ONSETS = [
    consonant + vowel
    for consonant in (
        "B",
        "Br",
        "D",
        "F",
        "G",
        "J",
        "K",
        "L",
        "M",
        "N",
        "P",
        "R",
        "S",
        "Sh",
        "T",
        "Tr",
        "V",
        "W",
        "Y",
        "Z",
    )
    for vowel in "aeou"
]
CODAS = [
    middle + end
    for middle in ("b", "d", "g", "k", "ld", "m", "nd", "rn", "sk", "v")
    for end in ("a", "en", "or", "is", "um")
]
WORK_KINDS = ("Bell", "Lantern", "Loom", "Clock", "Chart", "Harp")
BODY_KINDS = ("Guild", "Order", "League", "Circle", "Lodge")


class Relation(StrEnum):
    born = "born"  # person -> town
    leads = "leads"  # person -> body
    made = "made"  # person -> work
    kept = "kept"  # work -> town
    seat = "seat"  # body -> town
    mentor = "mentor"  # person -> person
    ordered = "ordered"  # body -> work


@dataclass(frozen=True)
class Fact:
    subject: str
    relation: Relation
    object: str


class NamePool(StrEnum):
    """Targets and background share no names, so a model knows nothing about targets before it trains on them."""

    target = "target"
    background = "background"
    throwaway = "throwaway"


@dataclass(frozen=True)
class World:
    people: Sequence[str]
    towns: Sequence[str]
    works: Sequence[str]
    bodies: Sequence[str]
    facts: Sequence[Fact]
    pronouns: Mapping[str, str]

    @property
    def entities(self) -> list[str]:
        return [*self.people, *self.towns, *self.works, *self.bodies]

    def same_type(self, entity: str) -> Sequence[str]:
        """Returns the entities of the same type, from which wrong answers are sampled."""
        return next(group for group in (self.people, self.towns, self.works, self.bodies) if entity in group)


def worlds(count: int, pool: NamePool, seed: int) -> Iterator[World]:
    """Yields `count` worlds that share no names. Raises ConfigError if the pool has too few names."""
    names = name_pool(pool)
    if count * 4 * SIZE > len(names):
        raise ConfigError(
            f"{count} fictional worlds need {count * 4 * SIZE:,} names; there are {len(names):,}. Ask for fewer worlds"
        )
    random.Random(f"names/{pool.value}/{seed}").shuffle(names)
    for index in range(count):
        yield build_world(
            names[index * 4 * SIZE : (index + 1) * 4 * SIZE], random.Random(f"world/{pool.value}/{seed}/{index}")
        )


def unseen_worlds(count: int, known: Sequence[World], pool: NamePool, seed: int) -> Iterator[World]:
    """Yields worlds with names of the pool that no known world uses.

    Names are sampled separately for each world: they mean different things in different worlds, so a model must read
    the passage to know what they mean.
    """
    taken = {entity.split()[0] for known_world in known for entity in known_world.entities}
    rest = [name for name in name_pool(pool) if name not in taken]
    for index in range(count):
        rng = random.Random(f"stranger/{pool.value}/{seed}/{index}")
        yield build_world(rng.sample(rest, 4 * SIZE), rng)


def exchange_objects(world: World, rng: random.Random) -> World:
    """Returns the world with two of its facts changed: the objects of two facts of one relation are exchanged."""
    relation = rng.choice([relation for relation in Relation if relation is not Relation.mentor])  # a cycle of people
    one, other = rng.sample([fact for fact in world.facts if fact.relation is relation], 2)
    objects = {one: other.object, other: one.object}
    return replace(world, facts=[replace(fact, object=objects.get(fact, fact.object)) for fact in world.facts])


def name_pool(pool: NamePool) -> list[str]:
    names = [onset + coda for onset in ONSETS for coda in CODAS]
    random.Random("the halves").shuffle(names)
    half = len(names) // 2
    return {NamePool.target: names[:half], NamePool.background: names[half:], NamePool.throwaway: names}[pool]


def build_world(names: Sequence[str], rng: random.Random) -> World:
    people, towns = names[:SIZE], names[SIZE : 2 * SIZE]
    works = [f"{name} {rng.choice(WORK_KINDS)}" for name in names[2 * SIZE : 3 * SIZE]]
    bodies = [f"{name} {rng.choice(BODY_KINDS)}" for name in names[3 * SIZE :]]
    facts = [
        Fact(subject, relation, other)
        for relation, subjects, objects in (
            (Relation.born, people, towns),
            (Relation.leads, people, bodies),
            (Relation.made, people, works),
            (Relation.kept, works, towns),
            (Relation.seat, bodies, towns),
            (Relation.ordered, bodies, works),
        )
        for subject, other in zip(subjects, rng.sample(objects, SIZE), strict=True)
    ]
    circle = rng.sample(people, SIZE)  # one cycle, so no person is their own mentor
    facts += [Fact(circle[i], Relation.mentor, circle[(i + 1) % SIZE]) for i in range(SIZE)]
    return World(people, towns, works, bodies, facts, {person: rng.choice(("she", "he")) for person in people})
