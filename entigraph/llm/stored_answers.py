"""Answers as the response cache stores them."""

import json
import time
import zlib

from entigraph.llm.answer_files import StoredAnswer
from entigraph.llm.base import MULTIPLE_CHOICES, Completion, Usage
from entigraph.llm.reasoning import separate_reasoning

WITH_DETAILS = b"\0"  # the first byte of an answer that is stored with its reasoning and notes


def encode_completion(key: bytes, scope: bytes, completion: Completion, attempts: int, seconds: float) -> StoredAnswer:
    usage = completion.usage
    return StoredAnswer(
        key=key,
        scope=scope,
        model=completion.model,
        finish_reason=completion.finish_reason,
        text=zlib.compress(pack_text(completion)),
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        dollars=usage.dollars,
        attempts=attempts,
        seconds=seconds,
        time=time.time(),
    )


def pack_text(completion: Completion) -> bytes:
    """Returns the text, or JSON of the text, the reasoning and the notes if there are any."""
    reasoning_tokens = completion.usage.reasoning_tokens
    plain = not (completion.reasoning or completion.notes or reasoning_tokens)
    if plain and not completion.text.startswith("\0"):
        return completion.text.encode()
    details = {name: getattr(completion, name) for name in ("text", "reasoning", "notes")}
    return WITH_DETAILS + json.dumps({**details, "reasoning_tokens": reasoning_tokens}, ensure_ascii=False).encode()


def decode_completion(answer: StoredAnswer) -> Completion:
    """Returns an answer. Its reasoning is separated if an earlier version stored it as part of the text."""
    content = zlib.decompress(answer.text)
    notes, reasoning, reasoning_tokens = (), "", 0
    if content.startswith(WITH_DETAILS):
        details = json.loads(content[1:])
        text, reasoning, notes = details["text"], details["reasoning"], tuple(details["notes"])
        reasoning_tokens = details["reasoning_tokens"]
    elif answer.finish_reason == MULTIPLE_CHOICES:
        pairs = [(separate_reasoning(choice).answer, reason) for choice, reason in json.loads(content)]
        text = json.dumps(pairs, ensure_ascii=False)
    else:
        text, reasoning = separate_reasoning(content.decode())
    return Completion(
        text=text,
        model=answer.model,
        finish_reason=answer.finish_reason,
        usage=Usage(
            answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens, answer.dollars, reasoning_tokens
        ),
        reasoning=reasoning,
        notes=notes,
    )
