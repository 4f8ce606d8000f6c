"""Conversations to ids: a text is the JSON of its messages, rendered by the tokenizer's chat template."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entigraph.errors import DataError
from entigraph.tokenization.encoders import Encoded, Encoder, all_cores, joined

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

Message = dict[str, str]
Span = tuple[int, int]


class Conversations:
    """`loss_on` assistant: what the assistant is to write is learned, its end of turn included, and nothing else."""

    def __init__(self, folder: Path, fast: "FastTokenizer", loss_on: str) -> None:
        self.folder, self.fast, self.loss_on = folder, fast, loss_on

    @cached_property
    def template(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(self.folder))

    def rendered(self, text: str) -> str:
        return self.render(messages_of(text))

    def batch(self, texts: Sequence[str], encoder: Encoder) -> Encoded:
        import numpy as np

        if self.loss_on == "all":
            return encoder.batch([self.rendered(text) for text in texts])
        told = [self.told_by_assistant(messages_of(text)) for text in texts]
        with all_cores():
            found = self.fast.encode_batch([text for text, _ in told], add_special_tokens=False)
        labels = [marked(encoding.offsets, spans) for encoding, (_, spans) in zip(found, told, strict=True)]
        encoded = joined([encoding.ids for encoding in found])
        return replace(encoded, labels=np.concatenate([np.asarray(row, dtype=np.uint8) for row in labels]))

    def told_by_assistant(self, messages: list[Message]) -> tuple[str, list[Span]]:
        """The rendered conversation, and the characters of it that the assistant writes."""
        whole, spans = self.render(messages), []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self.render(messages[:index], prompting=True)
            behind = self.render(messages[: index + 1])
            if not (whole.startswith(behind) and behind.startswith(before)):
                raise DataError(
                    "tokenizer.template: the chat template writes a turn otherwise once others follow, so the "
                    "assistant's part is not to be found; give another template, or set tokenizer.loss_on=all"
                )
            spans.append((len(before), len(behind)))
        return whole, spans

    def render(self, messages: list[Message], prompting: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            text: str = self.template.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompting)
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise DataError(f"the chat template does not take a conversation of {roles}: {error}") from None
        return text


def marked(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Whether each token begins within one of the spans, both in the order of the text."""
    found, waiting = [], list(reversed(spans))
    for start, _ in offsets:
        while waiting and start >= waiting[-1][1]:
            waiting.pop()
        found.append(bool(waiting) and start >= waiting[-1][0])
    return found


def messages_of(text: str) -> list[Message]:
    try:
        messages: list[Message] = json.loads(text)
        if [message["role"] and message["content"] for message in messages]:
            return messages
    except (ValueError, KeyError, TypeError):
        pass
    raise DataError(f"tokenizer=chat reads conversations (corpus=conversations); found the text {text[:60]!r}")
