"""The bytes of an answer in the response cache."""

import json
import zlib
from dataclasses import replace

from entigraph.llm.base import MULTIPLE_CHOICES, Completion, Usage
from entigraph.llm.reasoning import separate_reasoning

WITH_DETAILS = b"\0"  # the first byte of an answer that is stored with its reasoning and notes


def pack_answer(completion: Completion) -> bytes:
    """Returns the text, or JSON of the text, the reasoning and the notes if there are any."""
    usage = completion.usage
    plain = not (completion.reasoning or completion.notes or usage.reasoning_tokens)
    if plain and not completion.text.startswith("\0"):
        return zlib.compress(completion.text.encode())
    details = {
        "text": completion.text,
        "reasoning": completion.reasoning,
        "notes": completion.notes,
        "reasoning_tokens": usage.reasoning_tokens,
    }
    return zlib.compress(WITH_DETAILS + json.dumps(details, ensure_ascii=False).encode())


def unpack_answer(stored: bytes, model: str, finish_reason: str, usage: Usage) -> Completion:
    """Returns an answer. Its reasoning is separated if an earlier version stored it as part of the text."""
    content = zlib.decompress(stored)
    if content.startswith(WITH_DETAILS):
        details = json.loads(content[1:])
        return Completion(
            text=details["text"],
            model=model,
            finish_reason=finish_reason,
            usage=replace(usage, reasoning_tokens=details["reasoning_tokens"]),
            reasoning=details["reasoning"],
            notes=tuple(details["notes"]),
        )
    text, reasoning = content.decode(), ""
    if finish_reason == MULTIPLE_CHOICES:
        pairs = [(separate_reasoning(choice).answer, reason) for choice, reason in json.loads(text)]
        text = json.dumps(pairs, ensure_ascii=False)
    else:
        text, reasoning = separate_reasoning(text)
    return Completion(text=text, model=model, finish_reason=finish_reason, usage=usage, reasoning=reasoning)
