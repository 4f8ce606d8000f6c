"""Verifies drafts: the writer, given the passage, must find only the keyed answer correct."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from entigraph.errors import LLMError
from entigraph.llm.base import CONTENT_FILTER, GAVE_UP, LLM, REFUSAL, STOP, Completion, Request
from entigraph.questions.drafting import Draft, QuestionPassage, build_request, clean, prompt
from entigraph.questions.question_sources import GeneratedQuestions, QuestionForm
from entigraph.text.answer_matching import contains_answer
from entigraph.text.json_answers import STRING, array_schema, object_schema, parse_object
from entigraph.text.refusals import find_refusal

ANSWER_SCHEMAS: Mapping[QuestionForm, Mapping[str, Any]] = {
    QuestionForm.multiple_choice: object_schema(right=array_schema()),
    QuestionForm.short_answer: object_schema(answer=STRING),
}
MEMORY_SYSTEM_PROMPT = "You take an exam about documents that you do not have before you."
UNPARSED, REFUSED = "the check could not be parsed", "the writer refused to check it"
NO_VERDICT = (UNPARSED, REFUSED)
NOT_ANSWERED = "not answered by the passage"
KNOWN, ANSWERED_BY_ONE = "answered without the document", "answered by one of its documents alone"
Verdict = tuple[Draft, str | None]  # the draft, and why it is rejected; None if it is kept


def verify_drafts(
    drafts: Sequence[Draft], llm: LLM, settings: GeneratedQuestions, on_checked: Callable[[], None]
) -> Iterator[Verdict]:
    """Yields the verdicts in the order of the drafts."""
    reasons = {draft.question.id: unsupported_reason(draft) for draft in drafts}
    supported = [draft for draft in drafts if reasons[draft.question.id] is None]
    for _ in range(len(drafts) - len(supported)):
        on_checked()
    requests = [passage_request(draft, draft.passage, settings) for draft in supported]
    for draft, completion in zip(supported, llm.complete(requests), strict=True):
        reasons[draft.question.id] = rejection_reason(draft, completion, settings)
        on_checked()
    kept = [draft for draft in supported if reasons[draft.question.id] is None]
    if settings.across_documents:
        reasons |= find_answered_by_one(kept, llm, settings)
        kept = [draft for draft in kept if reasons[draft.question.id] is None]
    reasons |= find_known(kept, llm, settings)
    for draft in drafts:
        yield draft, reasons[draft.question.id]


def unsupported_reason(draft: Draft) -> str | None:
    """Returns a reason if none of the draft's passages contains its short answer."""
    accepted, passages = draft.question.accepted, draft.passage.single_passages
    if not accepted or any(contains_answer(passage.text, answer) for passage in passages for answer in accepted):
        return None
    return "its answer is not in the passage"


def rejection_reason(draft: Draft, completion: Completion, settings: GeneratedQuestions, guess: int = 0) -> str | None:
    """Returns why the writer's answer disqualifies a draft; None if it is the keyed answer and no other."""
    answer = parse_answer(completion, draft, settings, guess)
    if answer is None:
        return REFUSED if is_refusal(completion) else UNPARSED
    if not answer:
        return NOT_ANSWERED
    if isinstance(answer, str):
        return None if agrees(answer, draft.question.accepted) else "another answer is correct"
    if draft.question.answer not in answer:
        return "the check chose a different option"
    return "several options are correct" if len(answer) > 1 else None


def find_answered_by_one(drafts: Sequence[Draft], llm: LLM, settings: GeneratedQuestions) -> dict[str, str]:
    """Returns the reason by question id for the questions across documents that the writer answers from one document
    alone, or for which that is unknown.
    """
    singles = [(draft, passage) for draft in drafts for passage in draft.passage.single_passages]
    completions = llm.complete(passage_request(draft, passage, settings) for draft, passage in singles)
    reasons: dict[str, str] = {}
    for (draft, _), completion in zip(singles, completions, strict=True):
        reason = rejection_reason(draft, completion, settings)
        if reason is None or reason in NO_VERDICT:
            reasons[draft.question.id] = reason or ANSWERED_BY_ONE
    return reasons


def find_known(drafts: Sequence[Draft], llm: LLM, settings: GeneratedQuestions) -> dict[str, str]:
    """Returns the reason by question id for the questions that the writer always answers correctly without the passage,
    or for which that is unknown.
    """
    reasons: dict[str, str] = {}
    remaining = list(drafts) if settings.unknown_to_writer else []
    for guess in range(1, settings.guesses + 1):
        requests = [memory_request(draft, guess, settings) for draft in remaining]
        answers = list(llm.complete(requests)) if remaining else []
        checked = [
            (draft, rejection_reason(draft, completion, settings, guess))
            for draft, completion in zip(remaining, answers, strict=True)
        ]
        reasons |= {draft.question.id: reason for draft, reason in checked if reason in NO_VERDICT}
        remaining = [draft for draft, reason in checked if reason is None]
    return reasons | {draft.question.id: KNOWN for draft in remaining}


def choice_order(draft: Draft, settings: GeneratedQuestions, guess: int) -> list[int]:
    """Returns a different order of the choices for each guess: a preference for a letter is not knowledge."""
    order = list(range(len(draft.question.choices)))
    random.Random(f"{settings.seed}/{draft.question.id}/{guess}").shuffle(order)
    return order


def passage_request(draft: Draft, passage: QuestionPassage, settings: GeneratedQuestions) -> Request:
    question = render_question(draft, choice_order(draft, settings, 0))
    task = prompt(settings.prompt_name("check"))
    return build_request(passage, task, 0.0, ANSWER_SCHEMAS[settings.form], question)


def memory_request(draft: Draft, guess: int, settings: GeneratedQuestions) -> Request:
    question = render_question(draft, choice_order(draft, settings, guess))
    user = f"### Task\n{prompt(settings.prompt_name('recall'))}\n\n{question}"
    schema = ANSWER_SCHEMAS[settings.form]
    return Request(system=MEMORY_SYSTEM_PROMPT, user=user, temperature=0.0, json_schema=schema, sample=guess)


def render_question(draft: Draft, order: Sequence[int]) -> str:
    choices = [f"{ascii_uppercase[position]}. {draft.question.choices[index]}" for position, index in enumerate(order)]
    return "\n".join(["### Question", draft.question.text, *choices])


def parse_answer(
    completion: Completion, draft: Draft, settings: GeneratedQuestions, guess: int = 0
) -> set[int] | str | None:
    """Returns the indices of the choices in an answer, or its text; None if it is truncated or cannot be parsed."""
    raise_if_unanswered(completion)
    if completion.finish_reason != STOP:
        return None
    key = "answer" if settings.form == QuestionForm.short_answer else "right"
    try:
        answer = parse_object(completion.text, key)[key]
        if key == "answer":
            return clean(answer)
        order = choice_order(draft, settings, guess)
        return {order[letter_index(letter)] for letter in answer}
    except (ValueError, TypeError, IndexError):
        completion.discard()
        return None


def agrees(answer: str, accepted: Sequence[str]) -> bool:
    """Returns whether an answer contains an accepted one, or is part of one, such as a first name of a full name."""
    return any(contains_answer(answer, each) or contains_answer(each, answer) for each in accepted)


def letter_index(letter: Any) -> int:
    """Returns the index of a choice from its letter, which a period may follow. Raises ValueError."""
    name = str(letter).strip().rstrip(".").upper()
    if len(name) != 1:
        raise ValueError(f"{name!r} is not a letter")
    return ascii_uppercase.index(name)


def is_refusal(completion: Completion) -> bool:
    """Returns whether the writer refused: by its finish reason, or in the text of its answer."""
    return completion.finish_reason in (REFUSAL, CONTENT_FILTER) or find_refusal(completion.text) is not None


def raise_if_unanswered(completion: Completion) -> None:
    """Raises LLMError if the endpoint gave up: an unchecked question must not be rejected for that reason."""
    if completion.finish_reason.startswith(GAVE_UP):
        raise LLMError(
            f"questions: the writer does not answer ({completion.finish_reason.removeprefix(GAVE_UP)}); "
            "run the same command to continue: answered requests are not sent again"
        )
