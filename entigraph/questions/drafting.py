"""Drafts questions about a document: splits it into passages, builds the requests, and parses the completions."""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from math import ceil
from typing import Any

from entigraph.llm.base import LENGTH, STOP, Completion, Request
from entigraph.questions.question_sources import GeneratedQuestions, QuestionForm
from entigraph.storage.schemas import Document, Question
from entigraph.text.json_answers import STRING, array_schema, enum_schema, object_schema, parse_object
from entigraph.text.languages import in_own_language, is_foreign
from entigraph.text.normalization import is_blank, normalize_text
from entigraph.text.writing_systems import characters_per_token

NUM_CHOICES = 4
KINDS = ("stated", "combined")
# Before a space, or after marks that no space follows, with their closing quotes.
SENTENCE_BOUNDARY = re.compile(r"(?<=[.!?؟۔।॥።])(?=\s)|(?<=[。！？｡])(?![。！？｡」』”’）])|(?<=[。！？｡][」』”’）])")
ANSWER_FIELDS: Mapping[QuestionForm, Mapping[str, Any]] = {
    QuestionForm.multiple_choice: {"right": STRING, "wrong": array_schema()},
    QuestionForm.short_answer: {"answers": array_schema()},
}


@dataclass(frozen=True)
class QuestionPassage:
    """A part of a document that `count` questions are asked about. `index` is its index in the document.

    Questions across documents are also about `other`, a passage of a different document; `index` is then the index of
    the pair among those of the first document. `shared_names` are in both passages.
    """

    document: Document
    index: int
    text: str
    count: int = 1
    other: "QuestionPassage | None" = None
    shared_names: Sequence[str] = ()

    @property
    def rendered(self) -> str:
        """The passage as in every request: title, author and year in the first line, then the text."""
        shown = f"### Document\n{self.document.heading}.\n{self.text}"
        if self.other is None:
            return shown
        return f"{shown}\n\n{self.other.rendered.replace('### Document', '### Another document', 1)}"

    @property
    def single_passages(self) -> Sequence["QuestionPassage"]:
        """The passages of the single documents."""
        return [self] if self.other is None else [replace(self, other=None), self.other]


@dataclass(frozen=True)
class Draft:
    """A question before it is checked."""

    question: Question
    passage: QuestionPassage


def split_passages(document: Document, settings: GeneratedQuestions) -> list[QuestionPassage]:
    """Returns as few passages as possible, split between paragraphs or else sentences. Only a sentence that is longer
    than the limit exceeds it.
    """
    limit = int(settings.passage_tokens * characters_per_token(document.text))
    texts: list[str] = []
    for piece in split_pieces(document.text, limit):
        if texts and len(texts[-1]) + len(piece) <= limit:
            texts[-1] += piece
        else:
            texts.append(piece)
    texts = [text.strip() for text in texts]
    count = ceil(settings.per_document / max(1, sum(map(bool, texts))))
    return [QuestionPassage(document, index, text, count) for index, text in enumerate(texts) if text]


def split_pieces(text: str, limit: int) -> Iterator[str]:
    for paragraph in re.split(r"(?<=\n\n)", text):
        yield from [paragraph] if len(paragraph) <= limit else SENTENCE_BOUNDARY.split(paragraph)


def drafting_request(passage: QuestionPassage, settings: GeneratedQuestions) -> Request:
    task = prompt(settings.prompt_name("write")).format(count=passage.count)
    details = ""
    if passage.other:
        details = prompt("write_across").format(names="\n".join(f"- {name}" for name in passage.shared_names))
    schema = draft_schema(settings.form, array_schema() if passage.other else STRING)
    return build_request(passage, task, settings.temperature, schema, details)


def draft_schema(form: QuestionForm, evidence: Mapping[str, Any]) -> Mapping[str, Any]:
    entry = object_schema(question=STRING, **ANSWER_FIELDS[form], kind=enum_schema(KINDS), evidence=evidence)
    return object_schema(questions=array_schema(entry))


def build_request(
    passage: QuestionPassage, task: str, temperature: float, schema: Mapping[str, Any], details: str = ""
) -> Request:
    """Returns the request of a task about a passage. `details` follow the task."""
    instructions = "\n\n".join(filter(None, [task, prompt("two_documents") if passage.other else "", details]))
    suffix = f"\n\n### Task\n{in_own_language(instructions, passage.document.text)}"
    return Request(
        system=prompt("writer"),
        user=passage.rendered + suffix,
        suffix=suffix,
        temperature=temperature,
        json_schema=schema,
    )


def parse_drafts(
    passage: QuestionPassage, completion: Completion, settings: GeneratedQuestions
) -> tuple[list[Draft], list[Any]]:
    """Returns the usable drafts, and the entries that are not a question with four distinct choices or a short answer.

    A completion without entries is itself such an entry, and so is the last entry of a truncated completion.
    """
    answer, reason = completion.text, completion.finish_reason
    try:
        entries = parse_object(answer, "questions", kind=list)["questions"] if reason in (STOP, LENGTH) else []
    except ValueError:
        entries = []
    if reason == LENGTH and entries:
        entries[-1] = None
    drafts = [parse_draft(passage, index, entry, settings) for index, entry in enumerate(entries)]
    unusable = [entry for entry, draft in zip(entries, drafts, strict=True) if draft is None]
    return [draft for draft in drafts if draft], unusable if drafts else [answer]


def parse_draft(passage: QuestionPassage, index: int, raw: Any, settings: GeneratedQuestions) -> Draft | None:
    if not isinstance(raw, dict):
        return None
    document = passage.document
    identity = f"{document.id}-{'x' if passage.other else 'g'}{passage.index:03}-{index:03}"
    parse = parse_accepted if settings.form == QuestionForm.short_answer else parse_choices
    text, answers = clean(raw.get("question")), parse(raw, f"{settings.seed}/{identity}")
    if not text or not answers:
        return None
    quotes = raw.get("evidence")
    question = Question(
        id=identity,
        document_id=document.id,
        text=cite_documents(text, passage) if settings.cite_document else text,
        group=str(raw["kind"]) if raw.get("kind") in KINDS else ("combined" if passage.other else KINDS[0]),
        evidence=list(filter(None, map(clean, quotes if isinstance(quotes, list) else [quotes]))),
        **answers,
    )
    return Draft(question, passage)


def parse_choices(raw: Mapping[str, Any], seed: str) -> dict[str, Any]:
    """Returns four distinct choices in random order and the index of the correct one; empty if there are none."""
    if not isinstance(raw.get("wrong"), list):
        return {}
    choices = [clean(choice) for choice in (raw.get("right"), *raw["wrong"])]
    correct = choices[0]
    num_distinct = len({choice.casefold() for choice in choices})
    if not all(choices) or not num_distinct == len(choices) == NUM_CHOICES:
        return {}
    random.Random(seed).shuffle(choices)
    return {"choices": choices, "answer": choices.index(correct)}


def parse_accepted(raw: Mapping[str, Any], seed: str) -> dict[str, Any]:
    """Returns the accepted answers; empty if there are none."""
    answers = raw.get("answers")
    accepted = list(dict.fromkeys(filter(None, map(clean, answers if isinstance(answers, list) else [answers]))))
    return {"accepted": accepted} if accepted else {}


def cite_documents(question: str, passage: QuestionPassage) -> str:
    """Returns a question with the titles of its documents, in English words only if the document is in English."""
    titles = [single.document.title for single in passage.single_passages]
    if is_foreign(passage.document.text):
        return f"{', '.join(titles)}: {question}"
    quoted = " and ".join(f'"{title}"' for title in titles)
    return f"In the context of {quoted}: {question}"


def clean(value: Any) -> str:
    """Returns a normalized text or number as text; "" for anything else, and for text without visible characters."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = normalize_text(str(value)).strip()
    return "" if is_blank(text) else text


def normalize(text: str) -> Sequence[str]:
    return tuple(re.findall(r"\w+", text.casefold()))


@cache
def prompt(name: str) -> str:
    return resources.files(__package__).joinpath(f"prompts/{name}.txt").read_text(encoding="utf-8").strip()
