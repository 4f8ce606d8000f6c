"""The claims of a summary and a judge's verdict on each: false, or true and salient or cosmetic (paper §4.3).

The paper prints no prompts of its judge; these are ours. The judge is asked twice: to split a summary, which it sees
alone, and to judge the claims, which it sees with the document.
"""

from collections.abc import Sequence
from enum import StrEnum

from entigraph.analysis.factuality.judges import document_request, load_prompt
from entigraph.llm.base import Request
from entigraph.storage.schemas import Document
from entigraph.text.json_answers import array_schema, enum_schema, object_schema, parse_complete_object

PROMPTS = ("split_system", "split", "judge_system", "judge_claims")
REFERENCE_PROMPTS = ("summarize_system", "summarize")


class ClaimVerdict(StrEnum):
    false = "false"
    salient = "salient"
    cosmetic = "cosmetic"


CLAIMS_SCHEMA = object_schema(claims=array_schema())
VERDICT_SCHEMA = object_schema(claim={"type": "integer"}, verdict=enum_schema(ClaimVerdict))
VERDICTS_SCHEMA = object_schema(verdicts=array_schema(VERDICT_SCHEMA))


def split_request(summary: str) -> Request:
    suffix = f"### Task\n{load_prompt('split')}\n\n### Summary\n{summary}"
    return Request(
        system=load_prompt("split_system"), user=suffix, suffix=suffix, temperature=0.0, json_schema=CLAIMS_SCHEMA
    )


def verdict_request(document: Document, claims: Sequence[str]) -> Request:
    listed = "\n".join(f"{number}. {claim}" for number, claim in enumerate(claims, 1))
    return document_request(document, "judge_system", "judge_claims", VERDICTS_SCHEMA, Claims=listed)


def parse_claims(text: str) -> list[str] | None:
    """Returns each claim once, on one line; None if the answer does not have the requested form."""
    try:
        claims = parse_complete_object(text, "claims", kind=list)["claims"]
    except ValueError:
        return None
    if not all(isinstance(claim, str) for claim in claims):
        return None
    return [*filter(None, dict.fromkeys(" ".join(claim.split()) for claim in claims))]


def parse_verdicts(text: str, count: int) -> list[ClaimVerdict | None] | None:
    """Returns one verdict per claim, None for a claim that has none or two; None if the answer has another form."""
    try:
        entries = parse_complete_object(text, "verdicts", kind=list)["verdicts"]
    except ValueError:
        return None
    words: dict[int, set[str]] = {}
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("claim"), int):
            words.setdefault(entry["claim"], set()).add(str(entry.get("verdict")).strip().lower())
    return [single_verdict(words.get(number, set())) for number in range(1, count + 1)]


def single_verdict(words: set[str]) -> ClaimVerdict | None:
    return next((verdict for verdict in ClaimVerdict if words == {str(verdict)}), None)
