"""An LLM as the judge of free-form answers: correct, incorrect or not attempted (Wei et al. 2024, SimpleQA).

The prompt is ours. An exact match is correct, and an empty answer or a refusal is not attempted, without asking the
judge.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from entigraph.errors import LLMError
from entigraph.llm.base import GAVE_UP, Completion, Notify, Request, Writer
from entigraph.llm.offline.offline_writer import OfflineWriter
from entigraph.runtime.progress import Advance
from entigraph.storage.schemas import Answer
from entigraph.text.answer_matching import exact_match
from entigraph.text.json_answers import STRING, enum_schema, object_schema, parse_object
from entigraph.text.refusals import find_refusal

MAX_CHARACTERS = 2_000  # longer answers come from a model that does not stop
UNREADABLE = "no verdict in the reply"
MAX_MISSING = 0.5  # share of answers without a verdict above which the judge does not follow the instruction


class AnswerVerdict(StrEnum):
    correct = "correct"
    incorrect = "incorrect"
    not_attempted = "not_attempted"


VERDICT_SCHEMA = object_schema(reason=STRING, verdict=enum_schema(AnswerVerdict))


@dataclass(frozen=True)
class JudgedAnswer:
    """A verdict, or the reason why it is missing and the beginning of the judge's reply."""

    verdict: AnswerVerdict | None
    missing: str = ""
    reply: str = ""


@cache
def judge_prompt() -> str:
    file = resources.files(__package__).joinpath("prompts/judge_answer.txt")
    return file.read_text(encoding="utf-8").strip()


def judge_name(judge: Writer) -> str:
    """Returns the name under which verdicts are reported."""
    if isinstance(judge, OfflineWriter):
        return "offline (simulated: compares words)"
    return str(getattr(judge, "model", judge.name))


def judge_answers(
    answers: Sequence[Answer], judge: Writer, response_cache: Path, notify: Notify, advance: Advance
) -> list[JudgedAnswer]:
    """Returns a verdict on each answer; the judge's replies are cached.

    Raises LLMError if requests remain unanswered, or if most replies contain no verdict.
    """
    decided = [decide_without_judge(answer) for answer in answers]
    requests = [build_request(answer) for answer, known in zip(answers, decided, strict=True) if not known]
    replies: Iterator[JudgedAnswer] = iter(())
    advance(len(answers) - len(requests), resumed=True)
    if requests:
        completions = ask_judge(requests, judge, response_cache, notify, advance, "answers")
        read = [read_verdict(completion) for completion in completions]
        check_readable(read, judge)
        replies = iter(read)
    return [known or next(replies) for known in decided]


def decide_without_judge(answer: Answer) -> JudgedAnswer | None:
    """Returns the verdict on an answer that needs no judge."""
    if exact_match(answer.response, answer.accepted):
        return JudgedAnswer(AnswerVerdict.correct)
    if not answer.response or find_refusal(answer.response):
        return JudgedAnswer(AnswerVerdict.not_attempted)
    return None


def build_request(answer: Answer) -> Request:
    accepted = "\n".join(f"- {text}" for text in answer.accepted)
    response = answer.response[:MAX_CHARACTERS]
    user = (
        f"### Task\n{judge_prompt()}\n\n### Question\n{answer.question}\n\n### Accepted answers\n{accepted}\n\n"
        f"### Answer to judge\n{response}"
    )
    return Request(system="You grade short answers.", user=user, temperature=0.0, json_schema=VERDICT_SCHEMA)


def read_verdict(completion: Completion) -> JudgedAnswer:
    reply = completion.text[:MAX_CHARACTERS]
    if completion.finish_reason != "stop":
        return JudgedAnswer(None, completion.finish_reason, reply)
    try:
        verdict = parse_object(completion.text, "verdict")["verdict"]
        return JudgedAnswer(AnswerVerdict(str(verdict).strip().lower().replace(" ", "_")))
    except ValueError:
        completion.discard()
        return JudgedAnswer(None, UNREADABLE, reply)


def ask_judge(
    requests: Sequence[Request], judge: Writer, response_cache: Path, notify: Notify, advance: Advance, noun: str
) -> Iterator[Completion]:
    """Yields the answers in the order of the requests; `noun` names what the requests are about, in the plural.

    Read it to the end: LLMError is raised there if some requests got no answer.
    """
    unanswered: list[str] = []
    with judge.connect(response_cache, notify) as llm:
        for completion in llm.complete(requests):
            advance(1)
            if completion.finish_reason.startswith(GAVE_UP):
                unanswered.append(completion.finish_reason.removeprefix(GAVE_UP))
            yield completion
    if unanswered:
        raise LLMError(
            f"the judge {judge_name(judge)} left {len(unanswered):,} of {len(requests):,} {noun} without an answer, "
            f"the last: {unanswered[-1]}. Run the same command when it is available; answers so far are cached"
        )


def check_readable(judged: Sequence[JudgedAnswer], judge: Writer) -> None:
    missing = [result for result in judged if result.verdict is None]
    if len(missing) > MAX_MISSING * len(judged):
        reason, count = Counter(result.missing for result in missing).most_common(1)[0]
        reply = next(result.reply for result in missing if result.missing == reason)
        raise LLMError(
            f"the judge {judge_name(judge)} gave no verdict on {len(missing):,} of {len(judged):,} answers ({reason}: "
            f'{count:,}); expected {{"reason": "...", "verdict": "correct"}}, and the first reply is {reply[:200]!r}. '
            "Choose a judge that replies in JSON"
        )


def with_verdict(answer: Answer, judged: JudgedAnswer) -> Answer:
    """Returns the answer with its verdict, which determines whether it is correct."""
    verdict = judged.verdict
    return replace(
        answer,
        verdict=str(verdict) if verdict else None,
        verdict_missing=judged.missing,
        correct=verdict is AnswerVerdict.correct,
    )


def judge_cache_key(judge: Any) -> dict[str, Any]:
    """Returns the fields that a judge adds to a task's cache key."""
    return {"judge_prompt": judge_prompt()} if judge else {}
