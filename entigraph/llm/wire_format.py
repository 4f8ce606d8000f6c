"""The API's two formats, chat and plain completions: what is sent, and what comes back."""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from entigraph.llm.base import Completion, Request, Usage
from entigraph.llm.cost import Price


class Api(StrEnum):
    """`chat` sends messages. `completions` sends one text to go on with: what a model without a chat template takes."""

    chat = "chat"
    completions = "completions"


PATHS: Mapping[Api, str] = {Api.chat: "/chat/completions", Api.completions: "/completions"}


def build_body(
    request: Request, *, model: str, max_tokens: int | None, send_seed: bool, api: Api = Api.chat
) -> dict[str, Any]:
    sent: dict[str, Any] = {"model": model, "temperature": request.temperature}
    limit = request.max_tokens or max_tokens
    if api is Api.completions:
        sent["prompt"] = "\n\n".join(filter(None, (request.system, request.user)))
    else:
        sent["messages"] = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
    if limit is not None:
        sent["max_tokens" if api is Api.completions else "max_completion_tokens"] = limit
    if send_seed:
        sent["seed"] = request.sample
    if request.stop:
        sent["stop"] = list(request.stop)
    if request.choices > 1:
        sent["n"] = request.choices
    if request.json_schema is not None:
        schema = {"name": "answer", "schema": request.json_schema, "strict": True}
        sent["response_format"] = {"type": "json_schema", "json_schema": schema}
    return sent


def parse_completion(answer: Mapping[str, Any], model: str, price: Price) -> Completion:
    """Several choices are one answer, which `choices_of` takes apart.

    Raises KeyError, IndexError, TypeError or AttributeError for what is not the API's form."""
    found = [parse_choice(choice) for choice in answer["choices"]]
    text, reason = found[0] if len(found) == 1 else (json.dumps(found, ensure_ascii=False), MULTIPLE_CHOICES)
    used = answer.get("usage") or {}
    cached = (used.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    prompt, written = used.get("prompt_tokens", 0), used.get("completion_tokens", 0)
    return Completion(
        text=text,
        model=str(answer.get("model") or model),
        finish_reason=reason,
        usage=Usage(prompt, cached, written, price.of(prompt, cached, written)),
    )


MULTIPLE_CHOICES = "several"  # finish_reason of an answer that is a list of texts, each with its own


def parse_choice(choice: Mapping[str, Any]) -> tuple[str, str]:
    """A choice's text and its finish_reason."""
    message = choice.get("message") or {}
    text = choice["text"] if "text" in choice else message.get("refusal") or choice["message"].get("content")
    return text or "", "refusal" if message.get("refusal") else choice.get("finish_reason") or "stop"


def split_choices(completion: Completion) -> list[tuple[str, str]]:
    """Each text of an answer with its finish_reason."""
    if completion.finish_reason != MULTIPLE_CHOICES:
        return [(completion.text, completion.finish_reason)]
    return [(text, reason) for text, reason in json.loads(completion.text)]
