"""Whether a sentence about a fictional document is true to it: the grammar is ours, so its sentences can be checked.

It stands in for an LLM that judges, knows the sentences that the offline writer writes, and nothing else.
"""

import re
from collections.abc import Hashable, Iterator
from enum import StrEnum
from functools import cache

from entigraph.fictional.grammar import OPENING, PHRASE, STATEMENT, Step
from entigraph.fictional.reading import Reading
from entigraph.fictional.world import Fact, Relation

NAME = r"[A-Z][a-z]+(?: [A-Z][a-z]+)?"
WHERE = frozenset({Relation.born, Relation.kept, Relation.seat})
ARTICLE = re.compile(r"^[Tt]he (?=[A-Z])")
TWO_STEPS = (
    re.compile(rf"(?P<end>(?:[Tt]he )?{NAME}) was (?P<second>.+), (?P<first>.+)\."),
    re.compile(rf"Take (?P<first>.+): (?P<middle>(?:the )?{NAME}); (?P<second>.+) was (?P<end>(?:the )?{NAME})\."),
)


class Truth(StrEnum):
    states_nothing = "states nothing"
    so = "so"
    not_so = "not so"


def truth_of(sentence: str, before: str, reading: Reading) -> Truth | None:
    """None for a sentence that the grammar does not have. `before` holds the question of an answer."""
    said = sentence.strip()
    if states_nothing(said):
        return Truth.states_nothing
    facts = set(reading.facts)
    readings = [*stated(said, facts), *composed(said, facts), *answered(said, before, facts)]
    if not readings:
        return None
    return Truth.so if any(readings) else Truth.not_so


def states_nothing(sentence: str) -> bool:
    return sentence.endswith("?") or any(pattern.fullmatch(sentence) for pattern in openings())


def meaning(sentence: str) -> Hashable:
    """The facts that it may state; where it is no plain statement of one, itself."""
    read = [(pattern.fullmatch(sentence), relation) for pattern, relation in statements()]
    facts = frozenset(Fact(found["s"], relation, found["o"]) for found, relation in read if found)
    return facts or sentence


def is_detail(sentence: str, reading: Reading) -> bool:
    """Where something lies is a detail, who did what is not: our rule, because a grammar has no main message."""
    towns = {fact.object for fact in reading.facts if fact.relation in WHERE}
    return not towns.isdisjoint(re.findall(r"\w+", sentence))


def stated(sentence: str, facts: set[Fact]) -> Iterator[bool]:
    """For each way to read the sentence as one fact, whether that is one of the document's; so those below."""
    for pattern, relation in statements():
        found = pattern.fullmatch(sentence)
        if found:
            yield Fact(found["s"], relation, found["o"]) in facts


def composed(sentence: str, facts: set[Fact]) -> Iterator[bool]:
    """Two steps, the first to an entity that may be named, the second from it."""
    for pattern in TWO_STEPS:
        found = pattern.fullmatch(sentence)
        if not found:
            continue
        for first, start in phrases(found["first"]):
            for second, middle in phrases(found["second"]):
                stated = plain(found.groupdict().get("middle") or middle)
                holds = stated == middle and leads(facts, start, first, middle)
                yield holds and leads(facts, middle, second, plain(found["end"]))


def answered(sentence: str, before: str, facts: set[Fact]) -> Iterator[bool]:
    """ "Answer: X." to "Question: What or who is ...?"."""
    answer = re.fullmatch(rf"Answer: ((?:the )?{NAME})\.", sentence)
    question = re.search(r"Question: What or who is (.+)\?\s*$", before)
    if answer and question:
        for step, known in phrases(question[1]):
            yield leads(facts, known, step, plain(answer[1]))


def leads(facts: set[Fact], start: str, step: Step, end: str) -> bool:
    relation, onward = step
    return (Fact(start, relation, end) if onward else Fact(end, relation, start)) in facts


def phrases(text: str) -> Iterator[tuple[Step, str]]:
    """The steps that a noun phrase names, each with the entity that it starts from."""
    for pattern, step in steps():
        found = pattern.fullmatch(text)
        if found:
            yield step, plain(found["x"])


def plain(entity: str) -> str:
    return ARTICLE.sub("", entity)


@cache
def statements() -> list[tuple[re.Pattern[str], Relation]]:
    return [
        (pattern_of(template, s=NAME, o=NAME), relation)
        for relation, directions in STATEMENT.items()
        for templates in directions
        for template in templates
    ]


@cache
def steps() -> list[tuple[re.Pattern[str], Step]]:
    return [
        (pattern_of(template, x=f"(?:[Tt]he )?{NAME}"), (relation, place == 0))
        for relation, templates in PHRASE.items()
        for place, template in enumerate(templates)
    ]


@cache
def openings() -> list[re.Pattern[str]]:
    entity = f"(?:[Tt]he )?{NAME}"
    return [
        re.compile(re.sub(r"\\\{\d\\\}", lambda _: entity, re.escape(template)))
        for templates in OPENING.values()
        for template in templates
    ]


def pattern_of(template: str, **slots: str) -> re.Pattern[str]:
    """A template as a pattern, its first letter in either case."""
    found = re.escape(template)
    for name, pattern in slots.items():
        found = found.replace(rf"\{{{name}\}}", f"(?P<{name}>{pattern})")
    first = template[0]
    return re.compile(f"[{first.upper()}{first.lower()}]{found[1:]}" if first.isalpha() else found)
