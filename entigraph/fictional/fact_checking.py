"""Checks whether a sentence about a fictional document is true according to it.

Stands in for an LLM judge. It understands only the sentences that the offline writer writes.
"""

import re
from collections.abc import Hashable, Iterator
from enum import StrEnum
from functools import cache

from entigraph.fictional.grammar import OPENING, PHRASE, STATEMENT, Step
from entigraph.fictional.reading import Reading
from entigraph.fictional.world import Fact, Relation

NAME = r"[A-Z][a-z]+(?: [A-Z][a-z]+)?"
LOCATION_RELATIONS = frozenset({Relation.born, Relation.kept, Relation.seat})
ARTICLE = re.compile(r"^[Tt]he (?=[A-Z])")
TWO_STEPS = (
    re.compile(rf"(?P<end>(?:[Tt]he )?{NAME}) was (?P<second>.+), (?P<first>.+)\."),
    re.compile(rf"Take (?P<first>.+): (?P<middle>(?:the )?{NAME}); (?P<second>.+) was (?P<end>(?:the )?{NAME})\."),
)


class Truth(StrEnum):
    states_nothing = "states nothing"
    true = "true"
    false = "false"


def check_truth(sentence: str, before: str, reading: Reading) -> Truth | None:
    """Returns None for a sentence outside the grammar. `before` is the preceding text."""
    text = sentence.strip()
    if states_nothing(text):
        return Truth.states_nothing
    facts = set(reading.facts)
    readings = [*check_statement(text, facts), *check_composition(text, facts), *check_answer(text, before, facts)]
    if not readings:
        return None
    return Truth.true if any(readings) else Truth.false


def states_nothing(sentence: str) -> bool:
    return sentence.endswith("?") or any(pattern.fullmatch(sentence) for pattern in opening_patterns())


def normalize_claim(sentence: str) -> Hashable:
    """Returns the facts that the sentence may state, or the sentence itself if it is not a plain statement."""
    matches = [(pattern.fullmatch(sentence), relation) for pattern, relation in statement_patterns()]
    facts = frozenset(Fact(match["s"], relation, match["o"]) for match, relation in matches if match)
    return facts or sentence


def is_detail(sentence: str, reading: Reading) -> bool:
    """Returns whether a sentence names a town. By our rule, locations are details."""
    towns = {fact.object for fact in reading.facts if fact.relation in LOCATION_RELATIONS}
    return not towns.isdisjoint(re.findall(r"\w+", sentence))


def check_statement(sentence: str, facts: set[Fact]) -> Iterator[bool]:
    """Yields, for each way to parse the sentence as one fact, whether the document states it."""
    for pattern, relation in statement_patterns():
        match = pattern.fullmatch(sentence)
        if match:
            yield Fact(match["s"], relation, match["o"]) in facts


def check_composition(sentence: str, facts: set[Fact]) -> Iterator[bool]:
    """Checks a composition of two relations, with or without the name of the entity in the middle."""
    for pattern in TWO_STEPS:
        match = pattern.fullmatch(sentence)
        if not match:
            continue
        for first, start in parse_phrases(match["first"]):
            for second, middle in parse_phrases(match["second"]):
                named = strip_article(match.groupdict().get("middle") or middle)
                holds = named == middle and is_step(facts, start, first, middle)
                yield holds and is_step(facts, middle, second, strip_article(match["end"]))


def check_answer(sentence: str, before: str, facts: set[Fact]) -> Iterator[bool]:
    """Checks "Answer: X." against "Question: What or who is ...?" in the preceding text."""
    answer = re.fullmatch(rf"Answer: ((?:the )?{NAME})\.", sentence)
    question = re.search(r"Question: What or who is (.+)\?\s*$", before)
    if answer and question:
        for step, known in parse_phrases(question[1]):
            yield is_step(facts, known, step, strip_article(answer[1]))


def is_step(facts: set[Fact], start: str, step: Step, end: str) -> bool:
    relation, onward = step
    return (Fact(start, relation, end) if onward else Fact(end, relation, start)) in facts


def parse_phrases(text: str) -> Iterator[tuple[Step, str]]:
    """Yields the steps that a noun phrase names, with the entity from which each starts."""
    for pattern, step in phrase_patterns():
        match = pattern.fullmatch(text)
        if match:
            yield step, strip_article(match["x"])


def strip_article(entity: str) -> str:
    return ARTICLE.sub("", entity)


@cache
def statement_patterns() -> list[tuple[re.Pattern[str], Relation]]:
    return [
        (compile_template(template, s=NAME, o=NAME), relation)
        for relation, directions in STATEMENT.items()
        for templates in directions
        for template in templates
    ]


@cache
def phrase_patterns() -> list[tuple[re.Pattern[str], Step]]:
    return [
        (compile_template(template, x=f"(?:[Tt]he )?{NAME}"), (relation, index == 0))
        for relation, templates in PHRASE.items()
        for index, template in enumerate(templates)
    ]


@cache
def opening_patterns() -> list[re.Pattern[str]]:
    entity = f"(?:[Tt]he )?{NAME}"
    return [
        re.compile(re.sub(r"\\\{\d\\\}", lambda _: entity, re.escape(template)))
        for templates in OPENING.values()
        for template in templates
    ]


def compile_template(template: str, **slots: str) -> re.Pattern[str]:
    """Returns the template as a pattern whose first letter matches in either case."""
    escaped = re.escape(template)
    for name, pattern in slots.items():
        escaped = escaped.replace(rf"\{{{name}\}}", f"(?P<{name}>{pattern})")
    first = template[0]
    return re.compile(f"[{first.upper()}{first.lower()}]{escaped[1:]}" if first.isalpha() else escaped)
