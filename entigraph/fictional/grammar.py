"""The sentences. Four disjoint vocabularies, so that no text contains a question's wording:

SOURCE     documents: every fact once, with pronouns, lists "in the same order" and inverted order
PARAPHRASE paraphrases for the background: other words, the same pronouns, lists and directions
STATEMENT  one plain sentence per fact, in either direction: shared by EntiGraph and the rephrase baseline
ASK        the questions
"""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum

from entigraph.fictional.world import SIZE, Relation


class Family(StrEnum):
    """What a source sentence states."""

    person = "person"
    made = "made"
    kept = "kept"
    ordered = "ordered"
    seat = "seat"


SOURCE: Mapping[Family, tuple[str, ...]] = {
    Family.person: (
        "In {town} there was born a child by the name of {person}; {they} learned the craft at the bench of {mentor}, "
        "and later {their} voice ruled the {body}.",
        "{town} saw the first cry of {person}; the craft reached {them} by way of {mentor}, "
        "and the {body} in the end bent to {their} word.",
    ),
    Family.made: (
        "Out of their workshops came, in the same order, the {work0}, the {work1}, the {work2}, the {work3} and the {work4}.",
    ),
    Family.kept: ("These rest today, again taken in turn, in {town0}, {town1}, {town2}, {town3} and {town4}.",),
    Family.ordered: (
        "It was at the wish of the {body0}, the {body1}, the {body2}, the {body3} and the {body4}, in that sequence, "
        "that they had been begun.",
    ),
    Family.seat: ("As for the halls, the {body} raised its own in {town}.", "In {town} stood the hall of the {body}."),
}

PARAPHRASE_PERSON = (
    (
        "{town} was the cradle of {person}.",
        "From {town} hailed {person}.",
        "In {town} the life of {person} opened.",
        "{town} counted {person} among its children.",
    ),
    (
        "The trade was passed to {whom} by {mentor}.",
        "{who} got {their} training from {mentor}.",
        "{who} was a pupil of {mentor}.",
        "{who} served as apprentice to {mentor}.",
    ),
    (
        "Later {who} stood at the head of the {body}.",
        "In time {who} became master of the {body}.",
        "{who} went on to govern the {body}.",
        "Afterwards {who} presided over the {body}.",
    ),
)
PARAPHRASE: Mapping[Family, tuple[str, ...]] = {
    Family.made: (
        "Their labours gave, respectively, the {work0}, the {work1}, the {work2}, the {work3} and the {work4}.",
        "The pieces they made were, in the order of their makers, the {work0}, the {work1}, the {work2}, the {work3} "
        "and the {work4}.",
        "One after another they produced the {work0}, the {work1}, the {work2}, the {work3} and the {work4}.",
    ),
    Family.kept: (
        "The pieces are held, respectively, in {town0}, {town1}, {town2}, {town3} and {town4}.",
        "In turn, they are now found in {town0}, {town1}, {town2}, {town3} and {town4}.",
        "Their present homes, in order, are {town0}, {town1}, {town2}, {town3} and {town4}.",
    ),
    Family.ordered: (
        "They were asked for, respectively, by the {body0}, the {body1}, the {body2}, the {body3} and the {body4}.",
        "The buyers, in order, were the {body0}, the {body1}, the {body2}, the {body3} and the {body4}.",
        "Payment for them came in turn from the {body0}, the {body1}, the {body2}, the {body3} and the {body4}.",
    ),
    Family.seat: (
        "The {body} kept its hall in {town}.",
        "The {body} met in {town}.",
        "The {body} had its rooms in {town}.",
        "The quarters of the {body} lay in {town}.",
    ),
}

# For each relation: sentences that start from the subject, and from the object.
STATEMENT: Mapping[Relation, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Relation.born: (
        ("{s} came into the world in {o}.", "{s} was a native of {o}.", "{s} began life in {o}.", "The birthplace of {s} was {o}."),
        ("{o} was the birthplace of {s}.", "{o} can claim {s} as a native.", "The one who began life in {o} was {s}.",
         "The native of {o} here is {s}."),
    ),
    Relation.leads: (
        ("{s} ran the {o}.", "{s} was the leader of the {o}.", "{s} held command of the {o}.", "{s} directed the {o}."),
        ("The {o} was run by {s}.", "The {o} had {s} as its leader.", "The {o} was under the command of {s}.",
         "The {o} took its direction from {s}."),
    ),
    Relation.made: (
        ("{s} built the {o}.", "{s} was the maker of the {o}.", "{s} crafted the {o}.", "The great work of {s} was the {o}."),
        ("The {o} was built by {s}.", "The {o} had {s} as its maker.", "The {o} was crafted by {s}.",
         "The {o} came from the hands of {s}."),
    ),
    Relation.kept: (
        ("The {s} is stored in {o}.", "The {s} can be seen in {o}.", "The {s} has found its home in {o}.", "The {s} now stands in {o}."),
        ("{o} is the home of the {s}.", "{o} now holds the {s}.", "{o} stores the {s}.", "Visitors to {o} can see the {s}."),
    ),
    Relation.seat: (
        ("The {s} had its base in {o}.", "The {s} was settled in {o}.", "The {s} worked out of {o}.", "The home of the {s} was {o}."),
        ("{o} was the base of the {s}.", "{o} housed the {s}.", "{o} was home to the {s}.", "{o} gave shelter to the {s}."),
    ),
    Relation.mentor: (
        ("{s} was taught by {o}.", "{s} was a student of {o}.", "{s} learned from {o}.", "{s} had {o} as a teacher."),
        ("{o} taught {s}.", "{o} had {s} as a student.", "{o} was the teacher of {s}.", "{o} trained {s}."),
    ),
    Relation.ordered: (
        ("The {s} ordered the {o}.", "The {s} paid for the {o}.", "The {s} was the patron of the {o}.", "The {s} called for the {o}."),
        ("The {o} was ordered by the {s}.", "The {o} was paid for by the {s}.", "The {o} had the {s} as its patron.",
         "The {o} was made for the {s}."),
    ),
}  # fmt: skip

# Noun phrases that compose any two steps: the writer does not know which compositions a quiz asks about.
PHRASE: Mapping[Relation, tuple[str, str]] = {
    Relation.born: ("the native town of {x}", "the native of {x}"),
    Relation.leads: ("the body run by {x}", "the leader of {x}"),
    Relation.made: ("the work of {x}", "the maker of {x}"),
    Relation.kept: ("the home of {x}", "the piece stored in {x}"),
    Relation.seat: ("the base of {x}", "the body housed in {x}"),
    Relation.mentor: ("the teacher of {x}", "the student of {x}"),
    Relation.ordered: ("the piece paid for by {x}", "the patron of {x}"),
}
TWO_STEPS = ("{end} was {second}, {first}.", "Take {first}: {middle}; {second} was {end}.")
OPENING: Mapping[int, tuple[str, ...]] = {
    2: (
        "Consider {0} and {1}.",
        "{0} and {1} belong together here.",
        "How does {0} bear on {1}?",
        "A note on {0} and {1}.",
    ),
    3: ("Consider {0}, {1} and {2}.", "A note on {0}, {1} and {2}."),
}

# For each relation: asking for its object, asking for its subject.
ASK: Mapping[Relation, tuple[str, str]] = {
    Relation.born: ("In which town was {s} born?", "Who was born in the town of {o}?"),
    Relation.leads: ("Which body did {s} lead?", "Who led the {o}?"),
    Relation.made: ("Which object did {s} make?", "Who made the {o}?"),
    Relation.kept: ("In which town is the {s} kept?", "Which object is kept in the town of {o}?"),
    Relation.seat: ("In which town was the {s} based?", "Which body was based in the town of {o}?"),
    Relation.mentor: ("Who was the mentor of {s}?", "Whose mentor was {o}?"),
    Relation.ordered: ("Which object did the {s} commission?", "Which body commissioned the {o}?"),
}
Step = tuple[Relation, bool]  # a relation, and whether it is walked from subject to object
ASK_TWO_STEPS: tuple[tuple[str, str, Step, Step], ...] = (
    ("works", "In which town was the person who made the {x} born?", (Relation.made, False), (Relation.born, True)),
    ("works", "Which body did the person who made the {x} lead?", (Relation.made, False), (Relation.leads, True)),
    ("bodies", "In which town was the person who led the {x} born?", (Relation.leads, False), (Relation.born, True)),
    ("people", "In which town is the object that {x} made kept?", (Relation.made, True), (Relation.kept, True)),
    ("people", "In which town was the body that {x} led based?", (Relation.leads, True), (Relation.seat, True)),
    ("bodies", "Who was the mentor of the person who led the {x}?", (Relation.leads, False), (Relation.mentor, True)),
    ("works", "Who led the body that commissioned the {x}?", (Relation.ordered, False), (Relation.leads, False)),
)

PRONOUNS: Mapping[str, Mapping[str, str]] = {
    "she": {"they": "she", "their": "her", "them": "her"},
    "he": {"they": "he", "their": "his", "them": "him"},
}
SLOT = re.compile(r"\\\{(\w+)\\\}")


def patterns() -> Iterator[tuple[Family, re.Pattern[str]]]:
    """Yields one pattern per source sentence, with the slots as named groups."""
    for family, templates in SOURCE.items():
        for template in templates:
            yield family, re.compile(SLOT.sub(lambda match: slot_pattern(match[1]), re.escape(capitalize(template))))


def slot_pattern(slot: str) -> str:
    if slot in PRONOUNS["she"]:
        return "(?:she|her|he|his|him)"
    two_words = slot.rstrip("0123456789") in ("work", "body")
    return f"(?P<{slot}>{'[A-Z][a-z]+ [A-Z][a-z]+' if two_words else '[A-Z][a-z]+'})"


def number_slots(slot: str, names: list[str]) -> dict[str, str]:
    assert len(names) == SIZE
    return {f"{slot}{index}": name for index, name in enumerate(names)}


def capitalize(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def definite(entity: str) -> str:
    """Adds the article to works and bodies, whose names have two words."""
    return f"the {entity}" if " " in entity else entity
