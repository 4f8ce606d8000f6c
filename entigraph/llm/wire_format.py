"""Request bodies of OpenAI's chat completions and completions APIs."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from entigraph.llm.base import Request


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
    if api == Api.completions:
        body["prompt"] = "\n\n".join(filter(None, (request.system, request.user)))
    else:
        body["messages"] = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
    if limit is not None:
        body["max_tokens" if api == Api.completions else "max_completion_tokens"] = limit
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
