"""From a document to drafts of questions: passages, requests, and what an answer holds."""

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import ceil
from typing import Any

from entigraph.llm.base import CHARACTERS_PER_TOKEN, Request
from entigraph.questions.question_sources import Generated
from entigraph.storage.schemas import Document, Question

TOKENS_A_QUESTION = 120  # as it is written and checked, for estimates
OPTIONS = 4
KINDS = ("stated", "combined")
TEXT: Mapping[str, Any] = {"type": "string"}
DRAFTS: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "questions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "question": TEXT,
                    "right": TEXT,
                    "wrong": {"type": "array", "items": TEXT},
                    "kind": {"type": "string", "enum": list(KINDS)},
                    "evidence": TEXT,
                },
                "required": ["question", "right", "wrong", "kind", "evidence"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["questions"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Passage:
    """A part of a document that questions are asked about; `number` counts the parts from 0."""

    document: Document
    number: int
    text: str

    @property
    def shown(self) -> str:
        known = [f'"{self.document.title}"', *(self.document.meta.get(key) for key in ("author", "year"))]
        return f"### Document\n{', '.join(filter(None, known))}.\n{self.text}"


@dataclass(frozen=True)
class Draft:
    """A question before it is checked."""

    question: Question
    passage: Passage
    evidence: str


def passages(document: Document, settings: Generated) -> list[Passage]:
    """As few as possible, cut between paragraphs, else between sentences; only an endless sentence is too long."""
    limit = int(settings.passage_tokens * CHARACTERS_PER_TOKEN)
    texts: list[str] = []
    for piece in pieces(document.text, limit):
        if texts and len(texts[-1]) + len(piece) <= limit:
            texts[-1] += piece
        else:
            texts.append(piece)
    return [Passage(document, number, text.strip()) for number, text in enumerate(texts) if text.strip()]


def pieces(text: str, limit: int) -> Iterator[str]:
    for paragraph in re.split(r"(?<=\n\n)", text):
        yield from [paragraph] if len(paragraph) <= limit else re.split(r"(?<=[.!?])(?=\s)", paragraph)


def writing(document: Document, settings: Generated) -> list[tuple[Passage, Request]]:
    found = passages(document, settings)
    count = ceil(settings.per_document / len(found)) if found else 0
    task = prompt("write").format(count=count)
    return [(passage, about(passage, task, settings.temperature, DRAFTS)) for passage in found]


def about(passage: Passage, task: str, temperature: float, schema: Mapping[str, Any], sample: int = 0) -> Request:
    own = f"\n\n### Task\n{task}"
    return Request(
        system=prompt("writer"),
        user=passage.shown + own,
        suffix=own,
        temperature=temperature,
        json_schema=schema,
        sample=sample,
    )


def drafts(passage: Passage, answer: str, settings: Generated) -> tuple[list[Draft], int]:
    """The usable ones, and how many were not of the form: four different options and a question."""
    try:
        raw = json.loads(answer[answer.index("{") : answer.rindex("}") + 1])["questions"]
        entries = list(raw) if isinstance(raw, list) else []
    except (ValueError, KeyError, TypeError):
        return [], 1
    found = [draft(passage, number, entry, settings) for number, entry in enumerate(entries)]
    usable = [each for each in found if each]
    return usable, len(found) - len(usable) if found else 1


def draft(passage: Passage, number: int, raw: Any, settings: Generated) -> Draft | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("wrong"), list):
        return None
    text, right = str(raw.get("question") or "").strip(), str(raw.get("right") or "").strip()
    wrong = [str(option).strip() for option in raw["wrong"]]
    options = [right, *wrong]
    different = len({option.casefold() for option in options})
    if not text or not all(options) or not different == len(options) == OPTIONS:
        return None
    document = passage.document
    evidence = str(raw.get("evidence") or "").strip()
    identity = f"{document.id}-g{passage.number:03}-{number:03}"
    random.Random(f"{settings.seed}/{identity}").shuffle(options)
    question = Question(
        id=identity,
        document_id=document.id,
        text=f'In the context of "{document.title}": {text}' if settings.name_document else text,
        choices=options,
        answer=options.index(right),
        group=str(raw.get("kind")) if raw.get("kind") in KINDS else KINDS[0],
        evidence=[evidence] if evidence else [],
    )
    return Draft(question, passage, evidence)


def normalized(text: str) -> Sequence[str]:
    return tuple(re.findall(r"\w+", text.casefold()))


@cache
def prompt(name: str) -> str:
    return resources.files(__package__).joinpath(f"prompts/{name}.txt").read_text(encoding="utf-8").strip()
