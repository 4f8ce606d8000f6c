"""Whether a draft can be asked: the writer, given the passage, must find the keyed option right and no other."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from entigraph.errors import LLMError
from entigraph.llm.base import LLM, Completion, Request
from entigraph.llm.caching import GAVE_UP
from entigraph.questions.drafting import Draft, about, prompt
from entigraph.questions.question_sources import Generated

LETTERS: Mapping[str, Any] = {
    "type": "object",
    "properties": {"right": {"type": "array", "items": {"type": "string"}}},
    "required": ["right"],
    "additionalProperties": False,
}
EXAMINED = "You take an exam about documents that you do not have before you."
UNREADABLE = "the check gave no answer"
Judged = tuple[Draft, str | None]  # why it cannot be asked


def checked(drafts: Sequence[Draft], llm: LLM, settings: Generated, done: Callable[[], None]) -> Iterator[Judged]:
    """In the order of the drafts."""
    orders = [order(draft, settings, 0) for draft in drafts]
    requests = [with_passage(draft, own) for draft, own in zip(drafts, orders, strict=True)]
    verdicts = []
    for draft, own, completion in zip(drafts, orders, llm.complete(requests), strict=True):
        verdicts.append(problem(draft, right_options(completion, own)))
        done()
    known = recalled([draft for draft, why in zip(drafts, verdicts, strict=True) if why is None], llm, settings)
    for draft, why in zip(drafts, verdicts, strict=True):
        yield draft, why or ("known without the document" if draft.question.id in known else None)


def problem(draft: Draft, right: set[int] | None) -> str | None:
    if right is None:
        return UNREADABLE
    if not right:
        return "not answered by the passage"
    if draft.question.answer not in right:
        return "another option is right"
    return "several options are right" if len(right) > 1 else None


def recalled(drafts: Sequence[Draft], llm: LLM, settings: Generated) -> set[str]:
    """The ids of those that the writer gets right every time without the passage."""
    left = list(drafts) if settings.unknown_to_writer else []
    for guess in range(1, settings.guesses + 1):
        orders = [order(draft, settings, guess) for draft in left]
        requests = [from_memory(draft, own, guess) for draft, own in zip(left, orders, strict=True)]
        answers = list(llm.complete(requests)) if left else []
        left = [
            draft
            for draft, own, completion in zip(left, orders, answers, strict=True)
            if right_options(completion, own) == {draft.question.answer}
        ]
    return {draft.question.id for draft in left}


def order(draft: Draft, settings: Generated, turn: int) -> list[int]:
    """Of the options: another one each turn, so that a liking for a letter is not knowledge."""
    places = list(range(len(draft.question.choices)))
    random.Random(f"{settings.seed}/{draft.question.id}/{turn}").shuffle(places)
    return places


def with_passage(draft: Draft, own: Sequence[int]) -> Request:
    task = f"{prompt('check')}\n\n{shown(draft, own)}"
    return about(draft.passage, task, 0.0, LETTERS)


def from_memory(draft: Draft, own: Sequence[int], guess: int) -> Request:
    user = f"### Task\n{prompt('recall')}\n\n{shown(draft, own)}"
    return Request(system=EXAMINED, user=user, temperature=0.0, json_schema=LETTERS, sample=guess)


def shown(draft: Draft, own: Sequence[int]) -> str:
    options = [f"{ascii_uppercase[place]}. {draft.question.choices[number]}" for place, number in enumerate(own)]
    return "\n".join(["### Question", draft.question.text, *options])


def right_options(completion: Completion, own: Sequence[int]) -> set[int] | None:
    """The options that an answer names, as the question numbers them; None for an answer that names none of them."""
    refuse_if_given_up(completion)
    text = completion.text
    try:
        letters = json.loads(text[text.index("{") : text.rindex("}") + 1])["right"]
        return {own[ascii_uppercase.index(str(letter).strip().rstrip(".").upper())] for letter in letters}
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def refuse_if_given_up(completion: Completion) -> None:
    """Raises LLMError: what an endpoint that is down did not check is not thereby wrong."""
    if completion.finish_reason.startswith(GAVE_UP):
        raise LLMError(
            f"questions: the writer does not answer ({completion.finish_reason.removeprefix(GAVE_UP)}); "
            "run the same command to go on: what was answered is kept"
        )
