"""The claims of a summary, and what a judge says of each: false, or true and salient or cosmetic (paper §4.3).

The paper prints no prompts of its judge; these are ours. It is asked twice: to split a summary, which it sees alone,
and to judge the claims, which it sees with the document.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from entigraph.analysis.factuality.judge_requests import answered, prompt, shown
from entigraph.llm.base import Request
from entigraph.storage.schemas import Document

PROMPTS = ("split_system", "split", "judge_system", "judge_claims")
REFERENCE_PROMPTS = ("summarize_system", "summarize")


class Standing(StrEnum):
    false = "false"
    salient = "salient"
    cosmetic = "cosmetic"


def an_object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


CLAIMS = an_object(claims={"type": "array", "items": {"type": "string"}})
VERDICT = an_object(claim={"type": "integer"}, verdict={"type": "string", "enum": [*map(str, Standing)]})
VERDICTS = an_object(verdicts={"type": "array", "items": VERDICT})


def to_split(summary: str) -> Request:
    own = f"### Task\n{prompt('split')}\n\n### Summary\n{summary}"
    return Request(system=prompt("split_system"), user=own, suffix=own, temperature=0.0, json_schema=CLAIMS)


def to_judge(document: Document, claims: Sequence[str]) -> Request:
    """The document first: what is asked about one document has one beginning for a server to keep."""
    listed = "\n".join(f"{number}. {claim}" for number, claim in enumerate(claims, 1))
    own = f"\n\n### Task\n{prompt('judge_claims')}\n\n### Claims\n{listed}"
    return Request(
        system=prompt("judge_system"), user=shown(document) + own, suffix=own, temperature=0.0, json_schema=VERDICTS
    )


def to_summarize(document: Document) -> Request:
    own = f"\n\n### Task\n{prompt('summarize')}"
    return Request(system=prompt("summarize_system"), user=shown(document) + own, suffix=own, temperature=0.0)


def claims_of(text: str) -> list[str] | None:
    """None for an answer of another form. Each claim once, on one line."""
    found = answered(text).get("claims")
    if not isinstance(found, list) or not all(isinstance(claim, str) for claim in found):
        return None
    return [*filter(None, dict.fromkeys(" ".join(claim.split()) for claim in found))]


def standings_of(text: str, count: int) -> list[Standing | None] | None:
    """One for each of so many claims; None for a claim that has none, or two. None alone for another form."""
    told = answered(text).get("verdicts")
    if not isinstance(told, list):
        return None
    found: dict[int, set[str]] = {}
    for each in told:
        if isinstance(each, dict) and isinstance(each.get("claim"), int):
            found.setdefault(each["claim"], set()).add(str(each.get("verdict")).strip().lower())
    return [standing_of(found.get(number, set())) for number in range(1, count + 1)]


def standing_of(said: set[str]) -> Standing | None:
    return next((standing for standing in Standing if said == {str(standing)}), None)
