"""What a judge says of a sentence: subjective, supported by its document, or not; or why there is no verdict."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

from entigraph.analysis.factuality.sentences import Sentence
from entigraph.errors import LLMError
from entigraph.llm.base import Completion, Request, Say, Writer
from entigraph.llm.caching import GAVE_UP
from entigraph.storage.schemas import Document


class Verdict(StrEnum):
    subjective = "subjective"
    supported = "supported"
    unsupported = "unsupported"


UNREADABLE = "unreadable"
ANSWER = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "verdict": {"type": "string", "enum": [*map(str, Verdict)]}},
    "required": ["reason", "verdict"],
    "additionalProperties": False,
}


@dataclass(frozen=True, kw_only=True)
class Judgment:
    """`verdict` is None where the answer has none; `missing` then says why, and `answer` is what it said."""

    sentence_id: str
    judge: str
    verdict: Verdict | None
    missing: str = ""
    answer: str = ""


def prompt(name: str) -> str:
    return resources.files(__package__).joinpath(f"prompts/{name}.txt").read_text(encoding="utf-8").strip()


def shown(document: Document) -> str:
    return f'### Document\n"{document.title}".\n{document.text}'


def request(sentence: Sentence, document: Document) -> Request:
    """The document first: what is asked about one document has one beginning for a server to keep."""
    own = f"\n\n### Task\n{prompt('judge')}\n\n### Before\n{sentence.before}\n\n### Sentence\n{sentence.sentence}"
    return Request(
        system=prompt("judge_system"), user=shown(document) + own, suffix=own, temperature=0.0, json_schema=ANSWER
    )


def judged(
    sentences: Sequence[Sentence], documents: Mapping[str, Document], judge: Writer, response_cache: Path, say: Say
) -> Iterator[Judgment]:
    """One for each sentence, in their order; `documents` by sentence.

    Raises LLMError where the judge left some without any answer.
    """
    requests = [request(sentence, documents[sentence.id]) for sentence in sentences]
    for sentence, completion in zip(sentences, asked(requests, judge, response_cache, say, "sentences"), strict=True):
        yield judgment(sentence, judge.name, completion)


def asked(
    requests: Sequence[Request], judge: Writer, response_cache: Path, say: Say, what: str
) -> Iterator[Completion]:
    """The answers in the order of the requests, to read to the end: there LLMError is raised where some are none."""
    unanswered: list[str] = []
    with judge.connect(response_cache, say) as llm:
        for completion in llm.complete(requests):
            if completion.finish_reason.startswith(GAVE_UP):
                unanswered.append(completion.finish_reason.removeprefix(GAVE_UP))
            yield completion
    if unanswered:
        raise LLMError(
            f"analysis: the judge left {len(unanswered)} of {len(requests)} {what} without an answer, the last: "
            f"{unanswered[-1]}. Run the same command when it is up: what was answered is not asked again"
        )


def judgment(sentence: Sentence, judge: str, completion: Completion) -> Judgment:
    missing, verdict = why_missing(completion), None
    if not missing:
        verdict = verdict_of(completion.text)
        missing = "" if verdict else UNREADABLE
    answer = completion.text[:2_000]
    return Judgment(sentence_id=sentence.id, judge=judge, verdict=verdict, missing=missing, answer=answer)


def why_missing(completion: Completion) -> str:
    if completion.finish_reason != "stop":
        known = {"refusal": "refused", "content_filter": "refused", "length": "cut off"}
        return known.get(completion.finish_reason, completion.finish_reason)
    return "" if completion.text.strip() else "empty"


def verdict_of(text: str) -> Verdict | None:
    """None for an answer that names none of them, or names it in another form than it was asked for."""
    try:
        return Verdict(str(answered(text)["verdict"]).strip().lower())
    except (ValueError, KeyError):
        return None


def answered(text: str) -> dict[str, Any]:
    """The JSON object in an answer, whatever stands around it; empty where there is none."""
    try:
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
