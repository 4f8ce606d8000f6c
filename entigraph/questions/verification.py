"""Verifies drafts: the writer, given the passage, must find the keyed option right and no other."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from entigraph.errors import LLMError
from entigraph.llm.base import CONTENT_FILTER, GAVE_UP, LLM, REFUSAL, Completion, Request
from entigraph.questions.drafting import Draft, build_request, prompt
from entigraph.questions.question_sources import GeneratedQuestions
from entigraph.text.json_answers import parse_json_answer
from entigraph.text.refusals import find_refusal

LETTER_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"right": {"type": "array", "items": {"type": "string"}}},
    "required": ["right"],
    "additionalProperties": False,
}
MEMORY_SYSTEM_PROMPT = "You take an exam about documents that you do not have before you."
UNPARSED, REFUSED = "the check gave no answer", "the writer refused to check it"
Verdict = tuple[Draft, str | None]  # the draft and why it is rejected; None if it is kept


def verify_drafts(
    drafts: Sequence[Draft], llm: LLM, settings: GeneratedQuestions, on_checked: Callable[[], None]
) -> Iterator[Verdict]:
    """Yields the verdicts in the order of the drafts."""
    orders = [option_order(draft, settings, 0) for draft in drafts]
    requests = [passage_request(draft, order) for draft, order in zip(drafts, orders, strict=True)]
    reasons = []
    for draft, order, completion in zip(drafts, orders, llm.complete(requests), strict=True):
        right = right_options(completion, order)
        reasons.append(REFUSED if right is None and is_refusal(completion) else rejection_reason(draft, right))
        on_checked()
    kept = [draft for draft, reason in zip(drafts, reasons, strict=True) if reason is None]
    known = find_known(kept, llm, settings)
    for draft, reason in zip(drafts, reasons, strict=True):
        yield draft, reason or ("known without the document" if draft.question.id in known else None)


def rejection_reason(draft: Draft, right: set[int] | None) -> str | None:
    if right is None:
        return UNPARSED
    if not right:
        return "not answered by the passage"
    if draft.question.answer not in right:
        return "another option is right"
    return "several options are right" if len(right) > 1 else None


def find_known(drafts: Sequence[Draft], llm: LLM, settings: GeneratedQuestions) -> set[str]:
    """Returns the ids of the questions that the writer answers correctly every time without the passage."""
    remaining = list(drafts) if settings.unknown_to_writer else []
    for guess in range(1, settings.guesses + 1):
        orders = [option_order(draft, settings, guess) for draft in remaining]
        requests = [memory_request(draft, order, guess) for draft, order in zip(remaining, orders, strict=True)]
        answers = list(llm.complete(requests)) if remaining else []
        remaining = [
            draft
            for draft, order, completion in zip(remaining, orders, answers, strict=True)
            if right_options(completion, order) == {draft.question.answer}
        ]
    return {draft.question.id for draft in remaining}


def option_order(draft: Draft, settings: GeneratedQuestions, guess: int) -> list[int]:
    """Returns a different order of the options for each guess, so that a preference for a letter is not knowledge."""
    order = list(range(len(draft.question.choices)))
    random.Random(f"{settings.seed}/{draft.question.id}/{guess}").shuffle(order)
    return order


def passage_request(draft: Draft, order: Sequence[int]) -> Request:
    task = f"{prompt('check')}\n\n{render_question(draft, order)}"
    return build_request(draft.passage, task, 0.0, LETTER_SCHEMA)


def memory_request(draft: Draft, order: Sequence[int], guess: int) -> Request:
    user = f"### Task\n{prompt('recall')}\n\n{render_question(draft, order)}"
    return Request(system=MEMORY_SYSTEM_PROMPT, user=user, temperature=0.0, json_schema=LETTER_SCHEMA, sample=guess)


def render_question(draft: Draft, order: Sequence[int]) -> str:
    options = [f"{ascii_uppercase[place]}. {draft.question.choices[number]}" for place, number in enumerate(order)]
    return "\n".join(["### Question", draft.question.text, *options])


def right_options(completion: Completion, order: Sequence[int]) -> set[int] | None:
    """Returns the numbers of the options that an answer names; None if it cannot be parsed."""
    raise_if_unanswered(completion)
    try:
        answer = parse_json_answer(completion.text, lambda value: isinstance(value, dict) and "right" in value)
        return {order[letter_index(letter)] for letter in answer["right"]}
    except (ValueError, TypeError, IndexError):
        return None


def letter_index(letter: Any) -> int:
    """Returns the place of an option from its letter, which may end with a period. Raises ValueError."""
    name = str(letter).strip().rstrip(".").upper()
    if len(name) != 1:
        raise ValueError(f"{name!r} is not a letter")
    return ascii_uppercase.index(name)


def is_refusal(completion: Completion) -> bool:
    """Returns whether the writer refused: by its finish reason, or in the text of its answer."""
    return completion.finish_reason in (REFUSAL, CONTENT_FILTER) or find_refusal(completion.text) is not None


def raise_if_unanswered(completion: Completion) -> None:
    """Raises LLMError if the endpoint gave up: a question that was not checked is not wrong for that reason."""
    if completion.finish_reason.startswith(GAVE_UP):
        raise LLMError(
            f"questions: the writer does not answer ({completion.finish_reason.removeprefix(GAVE_UP)}); "
            "run the same command to continue: answered requests are not sent again"
        )
