"""Drafts questions about a document: splits it into passages, builds the requests, and parses the answers."""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import ceil
from typing import Any

from entigraph.llm.base import Request
from entigraph.questions.question_sources import GeneratedQuestions
from entigraph.storage.schemas import Document, Question
from entigraph.text.json_answers import parse_json_answer
from entigraph.text.languages import in_own_language, is_foreign
from entigraph.text.normalization import is_blank, normalize_text
from entigraph.text.writing_systems import characters_per_token

TOKENS_PER_QUESTION = 120  # for writing and checking it, for estimates
OPTIONS = 4
KINDS = ("stated", "combined")
# Before the space, or after marks that need none behind them, with their closing quotes.
SENTENCE_BOUNDARY = re.compile(r"(?<=[.!?؟۔।॥።])(?=\s)|(?<=[。！？｡])(?![。！？｡」』”’）])|(?<=[。！？｡][」』”’）])")
STRING: Mapping[str, Any] = {"type": "string"}
DRAFT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "questions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "question": STRING,
                    "right": STRING,
                    "wrong": {"type": "array", "items": STRING},
                    "kind": {"type": "string", "enum": list(KINDS)},
                    "evidence": STRING,
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
class QuestionPassage:
    """A part of a document that questions are asked about. `number` counts the parts from 0."""

    document: Document
    number: int
    text: str

    @property
    def rendered(self) -> str:
        """The passage as every request shows it: title, author and year in the first line, then the text."""
        heading = [f'"{self.document.title}"', *(self.document.meta.get(key) for key in ("author", "year"))]
        return f"### Document\n{', '.join(filter(None, heading))}.\n{self.text}"


@dataclass(frozen=True)
class Draft:
    """A question before it is checked."""

    question: Question
    passage: QuestionPassage
    evidence: str


def split_passages(document: Document, settings: GeneratedQuestions) -> list[QuestionPassage]:
    """Returns as few passages as possible, cut between paragraphs or else sentences. Only a longer sentence exceeds the
    limit.
    """
    limit = int(settings.passage_tokens * characters_per_token(document.text))
    texts: list[str] = []
    for piece in split_pieces(document.text, limit):
        if texts and len(texts[-1]) + len(piece) <= limit:
            texts[-1] += piece
        else:
            texts.append(piece)
    return [QuestionPassage(document, number, text.strip()) for number, text in enumerate(texts) if text.strip()]


def split_pieces(text: str, limit: int) -> Iterator[str]:
    for paragraph in re.split(r"(?<=\n\n)", text):
        yield from [paragraph] if len(paragraph) <= limit else SENTENCE_BOUNDARY.split(paragraph)


def drafting_requests(document: Document, settings: GeneratedQuestions) -> list[tuple[QuestionPassage, Request]]:
    passages = split_passages(document, settings)
    count = ceil(settings.per_document / len(passages)) if passages else 0
    task = prompt("write").format(count=count)
    return [(passage, build_request(passage, task, settings.temperature, DRAFT_SCHEMA)) for passage in passages]


def build_request(
    passage: QuestionPassage, task: str, temperature: float, schema: Mapping[str, Any], sample: int = 0
) -> Request:
    suffix = f"\n\n### Task\n{in_own_language(task, passage.document.text)}"
    return Request(
        system=prompt("writer"),
        user=passage.rendered + suffix,
        suffix=suffix,
        temperature=temperature,
        json_schema=schema,
        sample=sample,
    )


def parse_drafts(passage: QuestionPassage, answer: str, settings: GeneratedQuestions) -> tuple[list[Draft], list[Any]]:
    """Returns the usable drafts, and the entries without a question and four different options.

    An answer without entries is one of the latter.
    """
    try:
        entries = parse_json_answer(answer, has_questions)["questions"]
    except ValueError:
        return [], [answer]
    drafts = [parse_draft(passage, number, entry, settings) for number, entry in enumerate(entries)]
    unusable = [entry for entry, draft in zip(entries, drafts, strict=True) if draft is None]
    return [draft for draft in drafts if draft], unusable if drafts else [answer]


def has_questions(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("questions"), list)


def parse_draft(passage: QuestionPassage, number: int, raw: Any, settings: GeneratedQuestions) -> Draft | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("wrong"), list):
        return None
    text, options = clean(raw.get("question")), [clean(option) for option in (raw.get("right"), *raw["wrong"])]
    right = options[0]
    different = len({option.casefold() for option in options})
    if not text or not all(options) or not different == len(options) == OPTIONS:
        return None
    document = passage.document
    evidence = clean(raw.get("evidence"))
    identity = f"{document.id}-g{passage.number:03}-{number:03}"
    random.Random(f"{settings.seed}/{identity}").shuffle(options)
    question = Question(
        id=identity,
        document_id=document.id,
        text=name_document(text, document) if settings.name_document else text,
        choices=options,
        answer=options.index(right),
        group=str(raw.get("kind")) if raw.get("kind") in KINDS else KINDS[0],
        evidence=[evidence] if evidence else [],
    )
    return Draft(question, passage, evidence)


def name_document(question: str, document: Document) -> str:
    """Returns a question with the title of its document; in English only if the document is."""
    context = document.title if is_foreign(document.text) else f'In the context of "{document.title}"'
    return f"{context}: {question}"


def clean(value: Any) -> str:
    """Returns a normalized text or number as text; "" for anything else, and for what has no visible character."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = normalize_text(str(value)).strip()
    return "" if is_blank(text) else text


def normalize(text: str) -> Sequence[str]:
    return tuple(re.findall(r"\w+", text.casefold()))


@cache
def prompt(name: str) -> str:
    return resources.files(__package__).joinpath(f"prompts/{name}.txt").read_text(encoding="utf-8").strip()
