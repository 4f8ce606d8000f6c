"""Finds passages of two documents that mention the same names, for questions that need both documents.

The writer lists the names of each passage; a name counts if the passage contains it. Each document is paired with
others by its rarest names first: those tell most clearly what connects the two.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil

from entigraph.llm.base import Request
from entigraph.questions.drafting import QuestionPassage, build_request, clean, prompt
from entigraph.questions.question_sources import GeneratedQuestions
from entigraph.text.answer_matching import contains_answer
from entigraph.text.json_answers import array_schema, object_schema, parse_object

QUESTIONS_PER_PAIR = 5
NAMES_SCHEMA = object_schema(entities=array_schema())
Names = Mapping[str, str]  # names as they are written, by their form without case


def names_request(passage: QuestionPassage) -> Request:
    return build_request(passage, prompt("entities"), 0.0, NAMES_SCHEMA)


def parse_names(passage: QuestionPassage, answer: str) -> Names | None:
    """Returns the listed names that the passage contains; None if the answer cannot be parsed."""
    try:
        listed = parse_object(answer, "entities", kind=list)["entities"]
    except ValueError:
        return None
    names = filter(None, map(clean, listed))
    return {name.casefold(): name for name in names if contains_answer(passage.text, name)}


def pairs_per_document(settings: GeneratedQuestions) -> int:
    return ceil(settings.per_document / QUESTIONS_PER_PAIR)


def pair_passages(
    passages: Sequence[QuestionPassage], names: Sequence[Names], settings: GeneratedQuestions
) -> list[QuestionPassage]:
    """Returns each document's pairs, in the order of the documents; a pair belongs to the first of its documents.

    Empty if no two documents have a name in common.
    """
    holders: dict[str, list[int]] = {}
    documents: dict[str, list[int]] = {}
    for index, (passage, known) in enumerate(zip(passages, names, strict=True)):
        documents.setdefault(passage.document.id, []).append(index)
        for name in known:
            holders.setdefault(name, []).append(index)
    taken: set[frozenset[int]] = set()
    result: list[QuestionPassage] = []
    for document, own in documents.items():
        rng = random.Random(f"{settings.seed}/{document}/pairs")
        links = [(name, index) for index in own for name in names[index]]
        rng.shuffle(links)
        links.sort(key=lambda link: len(holders[link[0]]))
        pairs: list[tuple[int, int]] = []
        for name, index in links:
            if len(pairs) == pairs_per_document(settings):
                break
            others = [other for other in holders[name] if other not in own and {index, other} not in taken]
            if others:
                pairs.append((index, rng.choice(others)))
                taken.add(frozenset(pairs[-1]))
        result += [
            replace(
                passages[one],
                number=number,
                count=ceil(settings.per_document / len(pairs)),
                other=passages[other],
                shared_names=[names[one][name] for name in names[one] if name in names[other]],
            )
            for number, (one, other) in enumerate(pairs)
        ]
    return result
