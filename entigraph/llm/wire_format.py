"""Request bodies of OpenAI's chat completions and completions APIs, and parsing of the responses."""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from entigraph.llm.base import Completion, Request, Usage
from entigraph.llm.cost import Price

MULTIPLE_CHOICES = "several"  # finish_reason of an answer whose text is a JSON list of (text, finish_reason)


class Api(StrEnum):
    """`chat` sends messages. `completions` sends a text to continue, for models without a chat template."""

    chat = "chat"
    completions = "completions"


PATHS: Mapping[Api, str] = {Api.chat: "/chat/completions", Api.completions: "/completions"}


def build_body(
    request: Request, *, model: str, max_tokens: int | None, send_seed: bool, api: Api = Api.chat
) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "temperature": request.temperature}
    limit = request.max_tokens or max_tokens
    if api is Api.completions:
        body["prompt"] = "\n\n".join(filter(None, (request.system, request.user)))
    else:
        body["messages"] = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
    if limit is not None:
        body["max_tokens" if api is Api.completions else "max_completion_tokens"] = limit
    if send_seed:
        body["seed"] = request.sample
    if request.stop:
        body["stop"] = list(request.stop)
    if request.choices > 1:
        body["n"] = request.choices
    if request.json_schema is not None:
        schema = {"name": "answer", "schema": request.json_schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def parse_completion(response: Mapping[str, Any], model: str, price: Price) -> Completion:
    """Returns a response as one completion, even if it has several choices (`split_choices` separates them).

    Raises KeyError, IndexError, TypeError or AttributeError for a response that is not in the API's format.
    """
    choices = [parse_choice(choice) for choice in response["choices"]]
    text, reason = choices[0] if len(choices) == 1 else (json.dumps(choices, ensure_ascii=False), MULTIPLE_CHOICES)
    usage = response.get("usage") or {}
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    return Completion(
        text=text,
        model=str(response.get("model") or model),
        finish_reason=reason,
        usage=Usage(prompt, cached, completion, price.dollars(prompt, cached, completion)),
    )


def parse_choice(choice: Mapping[str, Any]) -> tuple[str, str]:
    """Returns a choice's text and its finish_reason."""
    message = choice.get("message") or {}
    text = choice["text"] if "text" in choice else message.get("refusal") or choice["message"].get("content")
    return text or "", "refusal" if message.get("refusal") else choice.get("finish_reason") or "stop"


def split_choices(completion: Completion) -> list[tuple[str, str]]:
    """Returns the text and finish_reason of each choice of an answer."""
    if completion.finish_reason != MULTIPLE_CHOICES:
        return [(completion.text, completion.finish_reason)]
    return [(text, reason) for text, reason in json.loads(completion.text)]
