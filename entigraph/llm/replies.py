"""Turns what an endpoint replies into an outcome: an answer, a refusal, or an error and whose fault it is.

Every writer uses it, so that an endpoint's error is never taken for an answer. Endpoints differ in almost everything
here: names of finish reasons and of usage fields, where the reasoning is, and the form of an error.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from html import unescape
from typing import Any

from entigraph.llm.base import CONTENT_FILTER, LENGTH, MULTIPLE_CHOICES, REFUSAL, STOP, Completion, Usage
from entigraph.llm.cost import Price
from entigraph.llm.reasoning import separate_reasoning
from entigraph.storage.jsonl import parse_json
from entigraph.text.end_markers import remove_end_markers
from entigraph.text.normalization import SURROGATE, normalize_text
from entigraph.text.writing_systems import CHARACTERS_PER_TOKEN

FINISH_REASONS: Mapping[str, str] = {
    **dict.fromkeys(
        ("", "stop", "eos", "eos_token", "end", "end_turn", "end_of_turn", "stop_sequence", "stop_token", "stop_str")
        + ("complete", "completed", "finish", "finished", "done", "success", "none", "null")
        + ("eos_found", "eos_token_id", "end_of_text", "endoftext"),
        STOP,
    ),
    **dict.fromkeys(
        ("length", "max_tokens", "max_length", "max_new_tokens", "max_output_tokens", "max_completion_tokens")
        + ("token_limit", "model_length", "model_context_window_exceeded", "context_length", "truncated", "incomplete")
        + ("max_output",),
        LENGTH,
    ),
    **dict.fromkeys(
        ("content_filter", "content_filtered", "safety", "recitation", "prohibited_content", "spii")
        + ("blocklist", "blocked", "moderation", "filtered", "sensitive", "guardrail_intervened"),
        CONTENT_FILTER,
    ),
    **dict.fromkeys(("refusal", "refused"), REFUSAL),
}
# The server did not finish; another attempt may.
INTERRUPTED = (
    *("error", "abort", "aborted", "cancelled", "canceled", "timeout", "network_error", "overloaded"),
    *("insufficient_system_resource", "server_error", "repetition"),
)
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "thoughts", "reasoning_details")
REASONING_PARTS = ("thinking", "reasoning", "reasoning.text", "reasoning.summary", "redacted_thinking", "thought")
WITH_REASONING, WITH_END_MARKERS = "with reasoning", "with end markers, removed"
SURROGATES_REPLACED, NORMALIZED = "with invalid characters, replaced", "with invisible characters, normalized"
COMPLETION_FIELDS = ("completion_tokens", "output_tokens")
MAX_COUNT = 10**12  # tokens
MAX_RETRY_AFTER_S = 3_600.0  # a longer wait ends the command

TOO_LONG = re.compile(
    r"context.{0,12}(length|window|size|limit)|maximum context|input length|too (long|large|many tokens)|exceed"
    r"|reduce the length|longer than the|larger than the",
    re.IGNORECASE,
)
NO_CREDIT = re.compile(
    r"insufficient.{0,20}(quota|balance|credit|fund)|(balance|credits?)\b.{0,30}(too low|insufficient|exhausted)"
    r"|out of credits|billing.?hard.?limit|arrearage|余额不足",
    re.IGNORECASE,
)
LONG_PERIOD = re.compile(r"per.?(day|week|month)|daily|weekly|monthly", re.IGNORECASE)
STATED_WAIT = re.compile(r"(try again|retry).{0,20}\bin \d", re.IGNORECASE)
PER_MINUTE = re.compile(r"(per|this|a) minute|rate.?limit|retry|try again", re.IGNORECASE)
FILTERED = re.compile(
    r"content.?(filter|management|policy|exists risk)|usage (polic|guideline)|moderation|safety system|responsible.?ai"
    r"|inappropriate content|(input|prompt|request|content|message|text)\b.{0,40}flagged|flagged as",
    re.IGNORECASE,
)
ERROR_TYPES = {
    "invalid_request": 400,
    "invalidrequest": 400,
    "badrequest": 400,
    "authentication": 401,
    "permission": 403,
    "not_found": 404,
    "notfound": 404,
    "rate_limit": 429,
    "ratelimit": 429,
}


class InvalidReply(ValueError):
    """A reply that is not in the API's format."""


@dataclass(frozen=True)
class ReplyError:
    """An endpoint's error.

    Attributes:
        status: The HTTP status, or the one stated by the body of a reply with HTTP status 200.
        message: The endpoint's own message.
        parameters: The request parameters that the error names in a field of its own.
        code: The error's code and type.
        retry_after_s: Seconds to wait before another attempt, if the endpoint says so.
    """

    status: int
    message: str
    parameters: tuple[str, ...] = ()
    code: str = ""
    retry_after_s: float | None = None


class ErrorKind(StrEnum):
    """Whom an error concerns: the whole command, this attempt, or this request."""

    key = "key"
    credit = "credit"
    missing = "missing"
    chat_template = "chat_template"
    throttled = "throttled"
    transient = "transient"
    filtered = "filtered"
    rejected = "rejected"


def classify_error(error: ReplyError) -> ErrorKind:
    status, details = error.status, f"{error.code} {error.message}"
    if status == 402 or "insufficient_quota" in details:
        return ErrorKind.credit
    if status in (400, 403, 429) and NO_CREDIT.search(details) and not PER_MINUTE.search(details):
        return ErrorKind.credit
    if status in (401, 407):
        return ErrorKind.key
    if status == 429:
        return ErrorKind.credit if is_quota_used_up(error) else ErrorKind.throttled
    if re.search(r"chat.?template", details, re.IGNORECASE) and "system" not in details.lower():
        return ErrorKind.chat_template
    if status in (404, 405, 410):
        return ErrorKind.missing
    if status < 400 or status in (408, 409, 425) or status >= 500:
        return ErrorKind.transient
    return ErrorKind.filtered if FILTERED.search(details) else ErrorKind.rejected


def is_quota_used_up(error: ReplyError) -> bool:
    """Returns whether an endpoint's rate limit ends in more than an hour, such as a quota per day."""
    if error.retry_after_s is not None:
        return error.retry_after_s > MAX_RETRY_AFTER_S
    return bool(LONG_PERIOD.search(f"{error.code} {error.message}") and not STATED_WAIT.search(error.message))


def read_reply(content: bytes) -> Mapping[str, Any] | ReplyError:
    """Returns the body of a reply with HTTP status 200, or the error that it consists of.

    Raises InvalidReply for a body that is not a JSON object.
    """
    try:
        body = parse_json(content.decode("utf-8", "replace"))
    except ValueError:
        raise InvalidReply(describe_body(content)) from None
    if not isinstance(body, dict):
        raise InvalidReply(describe_body(content))
    if body.get("choices") and not body.get("error"):
        return body
    error = body.get("error") or ("choices" not in body and (body.get("detail") or body.get("message")))
    return read_error(200, content) if error else body


def read_error(status: int, content: bytes) -> ReplyError:
    """Returns the error in a body, whatever its form: OpenAI's, FastAPI's, a proxy's page of HTML, or plain text."""
    try:
        body = parse_json(content.decode("utf-8", "replace"))
    except ValueError:
        return ReplyError(status, describe_body(content))
    error = body.get("error", body) if isinstance(body, dict) else body
    code = ""
    if isinstance(error, dict):
        code = " ".join(str(error[name]) for name in ("code", "type") if error.get(name) not in (None, ""))
    if status < 400:
        status = stated_status(error if isinstance(error, dict) else {}, code)
    message = "; ".join(dict.fromkeys(find_messages(error))) or describe_body(content)
    return ReplyError(status, SURROGATE.sub("\ufffd", message), tuple(find_parameters(error)), code)


def stated_status(error: Mapping[str, Any], code: str) -> int:
    """Returns the HTTP status that the body of a reply states; 502, which is retried, if it states none."""
    for name in ("code", "status", "status_code"):
        value = str(error.get(name) or "")
        if value.isdigit() and 400 <= int(value) < 600:
            return int(value)
    return next((status for name, status in ERROR_TYPES.items() if name in code.lower()), 502)


def find_messages(error: Any) -> Iterator[str]:
    if isinstance(error, str):
        if error.strip():
            yield error.strip()
    elif isinstance(error, list):
        for entry in error:
            yield from find_messages(entry)
    elif isinstance(error, dict):
        location = ".".join(str(part) for part in error["loc"]) if isinstance(error.get("loc"), list) else ""
        for name in ("message", "msg", "detail", "error", "title", "reason", "errors"):
            yield from (f"{location}: {text}" if location else text for text in find_messages(error.get(name)))
        raw = (error.get("metadata") or {}).get("raw") if isinstance(error.get("metadata"), dict) else None
        yield from find_messages(raw)  # of the provider behind a router


def find_parameters(error: Any) -> Iterator[str]:
    """Yields the names in the fields `param` (OpenAI) and `loc` (FastAPI)."""
    if isinstance(error, list):
        for entry in error:
            yield from find_parameters(entry)
    elif isinstance(error, dict):
        if isinstance(error.get("param"), str):
            yield error["param"]
        if isinstance(error.get("loc"), list):
            yield ".".join(str(part) for part in error["loc"] if part != "body")
        for name in ("message", "detail", "error", "errors"):
            if isinstance(error.get(name), (dict, list)):
                yield from find_parameters(error[name])


def describe_body(content: bytes) -> str:
    """Returns the text of a body that is not JSON; the title of a page of HTML."""
    text = content.decode("utf-8", "replace").strip()
    if re.match(r"\s*<(!doctype|html|head)", text, re.IGNORECASE):
        title = re.search(r"<(title|h1)[^>]*>(.*?)</\1>", text, re.IGNORECASE | re.DOTALL)
        return f"a page of HTML: {' '.join(unescape(title[2]).split())}" if title else "a page of HTML"
    return " ".join(text.split())[:300] or "an empty body"


def parse_completion(
    response: Mapping[str, Any],
    model: str,
    price: Price,
    finish_reasons: Mapping[str, str] = FINISH_REASONS,
    notes: tuple[str, ...] = (),
    max_tokens: int | None = None,
) -> Completion:
    """Returns a response as one completion, even if it has several choices (`split_choices` separates them).

    Choices without a finish reason are truncated if their total length is `max_tokens` each, and complete otherwise.
    Raises InvalidReply for a response that is not in the API's format or that the server did not finish.
    """
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices:
        raise InvalidReply(f"a reply without choices: {json.dumps(response)}")
    if max_tokens and count(response.get("usage"), *COMPLETION_FIELDS) >= max_tokens * len(choices):
        finish_reasons = {**finish_reasons, "": LENGTH}
    parsed = [parse_choice(choice, finish_reasons) for choice in choices]
    reasoning = "\n\n".join(filter(None, (choice.reasoning for choice in parsed)))
    usage = parse_usage(response.get("usage"), price, reasoning)
    notes += tuple(dict.fromkeys(note for choice in parsed for note in choice.notes))
    if reasoning or usage.reasoning_tokens:
        notes += (WITH_REASONING,)
    text, reason = parsed[0].text, parsed[0].finish_reason
    if len(parsed) > 1:
        pairs = [(choice.text, choice.finish_reason) for choice in parsed]
        text, reason = json.dumps(pairs, ensure_ascii=False), MULTIPLE_CHOICES
    name = response.get("model")
    return Completion(
        text=text,
        model=SURROGATE.sub("\ufffd", name) if isinstance(name, str) and name else model,
        finish_reason=reason,
        usage=usage,
        reasoning=reasoning,
        notes=notes,
    )


@dataclass(frozen=True)
class ParsedChoice:
    text: str
    finish_reason: str
    reasoning: str = ""
    notes: tuple[str, ...] = ()


def parse_choice(choice: Any, finish_reasons: Mapping[str, str]) -> ParsedChoice:
    if not isinstance(choice, dict):
        raise InvalidReply("a choice that is not an object")
    message = choice.get("message")
    if not isinstance(message, dict) and "text" not in choice:
        raise InvalidReply("a choice without a text")
    source = message if isinstance(message, dict) else choice  # a message of reasoning alone may have no content
    stated = read_finish_reason(choice.get("finish_reason"))
    reason = finish_reasons.get(stated) or finish_reasons.get(normalize_finish_reason(stated), stated)
    if reason in INTERRUPTED or choice.get("error"):
        error = read_error(200, json.dumps(choice["error"]).encode()) if choice.get("error") else None
        raise InvalidReply(f"the server did not finish: {error.message if error else stated}")
    content = source.get("content") if "content" in source else source.get("text")
    parts = list(split_parts(content))
    refusal = source.get("refusal") or "".join(text for kind, text in parts if kind == "refusal")
    if refusal:
        return clean_choice(str(refusal), REFUSAL)
    text, separated = separate_reasoning("".join(text for kind, text in parts if kind == "text"))
    fields = [next(filter(None, (read_text(source.get(name)) for name in REASONING_FIELDS)), "")]
    fields += [text for kind, text in parts if kind == "reasoning"]
    return clean_choice(text, reason, "\n\n".join(filter(None, (*fields, separated))))


def read_finish_reason(value: Any) -> str:
    value = value.get("type") if isinstance(value, dict) else value
    return SURROGATE.sub("\ufffd", str(value or "")).strip().lower()


def normalize_finish_reason(stated: str) -> str:
    """Returns a finish reason as FINISH_REASONS spells it: "stop" for "finishreason.stop"."""
    return re.sub(r"\W+", "_", stated).removeprefix("finish_reason_").removeprefix("finishreason_")


def clean_choice(text: str, reason: str, reasoning: str = "") -> ParsedChoice:
    """Replaces lone surrogates, which cannot be stored, with U+FFFD, and removes what no reader of the answer sees."""
    stored = text if text.isascii() else SURROGATE.sub("\ufffd", text)
    answer = remove_end_markers(stored)
    clean = normalize_text(answer)
    changes = {SURROGATES_REPLACED: stored != text, WITH_END_MARKERS: answer != stored, NORMALIZED: clean != answer}
    notes = tuple(note for note, changed in changes.items() if changed)
    return ParsedChoice(clean, reason, SURROGATE.sub("\ufffd", reasoning), notes)


def split_parts(content: Any) -> Iterator[tuple[str, str]]:
    """Yields (kind, text) of the parts of a message; kind is "text", "reasoning" or "refusal"."""
    if isinstance(content, str):
        yield "text", content
    elif isinstance(content, dict):
        kind = str(content.get("type") or "text")
        if kind in REASONING_PARTS or content.get("thought") is True:
            yield "reasoning", read_text(content)
        elif kind == "refusal":
            yield "refusal", str(content.get("refusal") or content.get("text") or "")
        elif kind in ("text", "output_text"):
            yield "text", read_text(content)
    elif isinstance(content, list):
        for part in content:
            yield from split_parts(part)


def read_text(value: Any) -> str:
    """Returns the text of a part or of a field, which may be a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, map(read_text, value)))
    if isinstance(value, dict):
        names = ("text", "thinking", "reasoning", "content", "summary", "value")
        return next(filter(None, (read_text(value.get(name)) for name in names)), "")
    return ""


def parse_usage(usage: Any, price: Price, reasoning: str = "") -> Usage:
    """Returns the tokens and their price. Hidden reasoning tokens count as completion tokens, even if an endpoint
    includes them only in the total.
    """
    usage = usage if isinstance(usage, dict) else {}
    prompt = count(usage, "prompt_tokens", "input_tokens")
    completion = count(usage, *COMPLETION_FIELDS)
    completion = max(completion, count(usage, "total_tokens") - prompt if prompt else 0)
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    reasoned = count(details, "reasoning_tokens") or count(usage, "reasoning_tokens")
    if reasoned > completion:
        completion += reasoned
    if not reasoned and reasoning:
        reasoned = min(completion, round(len(reasoning) / CHARACTERS_PER_TOKEN))
    prompt_details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = count(prompt_details, "cached_tokens") or count(usage, "prompt_cache_hit_tokens", "cached_tokens")
    cached = min(cached, prompt)
    return Usage(prompt, cached, completion, price.dollars(prompt, cached, completion), reasoned)


def count(fields: Any, *names: str) -> int:
    """Returns the first of the fields that is a positive number of tokens; 0 if none is."""
    for name in names:
        value = fields.get(name) if isinstance(fields, dict) else None
        if isinstance(value, (int, float)) and 0 < value < MAX_COUNT:
            return int(value)
    return 0


def split_choices(completion: Completion) -> list[tuple[str, str]]:
    """Returns the text and finish_reason of each choice of an answer."""
    if completion.finish_reason != MULTIPLE_CHOICES:
        return [(completion.text, completion.finish_reason)]
    return [(text, reason) for text, reason in json.loads(completion.text)]


def cut_at_stop(completion: Completion, stop: Sequence[str]) -> Completion:
    """Returns a completion up to the first of the stop strings, for an endpoint that does not accept them."""
    pairs = []
    for text, reason in split_choices(completion):
        cut = min((index for index in map(text.find, stop) if index >= 0), default=len(text))
        pairs.append((text[:cut], STOP if cut < len(text) else reason))
    if completion.finish_reason == MULTIPLE_CHOICES:
        return replace(completion, text=json.dumps(pairs, ensure_ascii=False))
    return replace(completion, text=pairs[0][0], finish_reason=pairs[0][1])
