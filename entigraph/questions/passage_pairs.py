"""Finds passages of two documents that mention the same names, for questions that need both documents.

The writer lists the names in each passage; a name counts if the passage contains it. Documents are paired by their
rarest shared names first, which link them most strongly.
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
Names = Mapping[str, str]  # case-folded name -> name as written


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
    """Returns passage pairs grouped by their first document, in document order; empty if no documents share a name."""
    passages_by_name: dict[str, list[int]] = {}
    passages_by_document: dict[str, list[int]] = {}
    for index, (passage, own_names) in enumerate(zip(passages, names, strict=True)):
        passages_by_document.setdefault(passage.document.id, []).append(index)
        for name in own_names:
            passages_by_name.setdefault(name, []).append(index)
    used: set[frozenset[int]] = set()
    result: list[QuestionPassage] = []
    for document, own_passages in passages_by_document.items():
        rng = random.Random(f"{settings.seed}/{document}/pairs")
        links = [(name, index) for index in own_passages for name in names[index]]
        rng.shuffle(links)
        links.sort(key=lambda link: len(passages_by_name[link[0]]))
        pairs: list[tuple[int, int]] = []
        for name, index in links:
            if len(pairs) == pairs_per_document(settings):
                break
            others = [
                other for other in passages_by_name[name] if other not in own_passages and {index, other} not in used
            ]
            if others:
                pairs.append((index, rng.choice(others)))
                used.add(frozenset(pairs[-1]))
        result += [
            replace(
                passages[first],
                index=position,
                count=ceil(settings.per_document / len(pairs)),
                other=passages[second],
                shared_names=[names[first][name] for name in names[first] if name in names[second]],
            )
            for position, (first, second) in enumerate(pairs)
        ]
    return result
