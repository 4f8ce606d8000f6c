"""The chat-completions format: what is sent, and what comes back."""

from collections.abc import Mapping
from typing import Any

from entigraph.llm.base import Completion, Request, Usage
from entigraph.llm.cost import Price


def body_of(request: Request, *, model: str, max_tokens: int | None, send_seed: bool) -> dict[str, Any]:
    messages = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
    sent: dict[str, Any] = {"model": model, "messages": messages, "temperature": request.temperature}
    if max_tokens is not None:
        sent["max_completion_tokens"] = max_tokens
    if send_seed:
        sent["seed"] = request.sample
    if request.json_schema is not None:
        schema = {"name": "answer", "schema": request.json_schema, "strict": True}
        sent["response_format"] = {"type": "json_schema", "json_schema": schema}
    return sent


def completion_of(answer: Mapping[str, Any], model: str, price: Price) -> Completion:
    """Raises KeyError, IndexError, TypeError or AttributeError for what is not the API's form."""
    choice = answer["choices"][0]
    message = choice["message"]
    used = answer.get("usage") or {}
    cached = (used.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    prompt, written = used.get("prompt_tokens", 0), used.get("completion_tokens", 0)
    return Completion(
        text=message.get("refusal") or message.get("content") or "",
        model=str(answer.get("model") or model),
        finish_reason="refusal" if message.get("refusal") else choice.get("finish_reason") or "stop",
        usage=Usage(prompt, cached, written, price.of(prompt, cached, written)),
    )
