"""Tokenizes conversations: a text is the JSON of its messages, rendered by the tokenizer's chat template."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entigraph.errors import DataError
from entigraph.tokenization.encoders import Encoded, Encoder, all_cores, concatenate

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

Message = dict[str, str]
Span = tuple[int, int]


class ChatEncoder:
    """Encodes conversations. If `loss_on` is "assistant", only what the assistant writes, with its end of turn, enters
    the loss; if it is "all", every token does.
    """

    def __init__(self, folder: Path, fast: "FastTokenizer", loss_on: str) -> None:
        self.folder, self.fast, self.loss_on = folder, fast, loss_on

    @cached_property
    def template(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(self.folder))

    def encode_batch(self, texts: Sequence[str], encoder: Encoder) -> Encoded:
        import numpy as np

        if self.loss_on == "all":
            return encoder.encode_batch([self.render_text(text) for text in texts])
        rendered = [self.render_with_spans(parse_messages(text)) for text in texts]
        with all_cores():
            encodings = self.fast.encode_batch([text for text, _ in rendered], add_special_tokens=False)
        labels = [
            mark_tokens(encoding.offsets, spans) for encoding, (_, spans) in zip(encodings, rendered, strict=True)
        ]
        encoded = concatenate([encoding.ids for encoding in encodings])
        return replace(encoded, labels=np.concatenate([np.asarray(row, dtype=np.uint8) for row in labels]))

    def render_text(self, text: str) -> str:
        return self.render(parse_messages(text))

    def render_with_spans(self, messages: list[Message]) -> tuple[str, list[Span]]:
        """Returns the rendered conversation and the character spans that the assistant writes."""
        whole, spans = self.render(messages), []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self.render(messages[:index], add_generation_prompt=True)
            after = self.render(messages[: index + 1])
            if not (whole.startswith(after) and after.startswith(before)):
                raise DataError(
                    "tokenizer.template: the chat template renders a turn differently if others follow, so the "
                    "assistant's part cannot be located; give another template, or set tokenizer.loss_on=all"
                )
            spans.append((len(before), len(after)))
        return whole, spans

    def render(self, messages: list[Message], add_generation_prompt: bool = False) -> str:
        try:
            text: str = self.template.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except Exception as error:  # a template is a program, which may fail in any way
            roles = ", ".join(message["role"] for message in messages)
            message = str(error) or type(error).__name__
            raise DataError(f"the chat template rejects a conversation of {roles}: {message:.300}") from None
        return text


def mark_tokens(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Returns whether each token begins within one of the spans; both are in the order of the text."""
    marks, remaining = [], list(reversed(spans))
    for start, _ in offsets:
        while remaining and start >= remaining[-1][1]:
            remaining.pop()
        marks.append(bool(remaining) and start >= remaining[-1][0])
    return marks


def parse_messages(text: str) -> list[Message]:
    try:
        messages: list[Message] = json.loads(text)
        if [message["role"] and message["content"] for message in messages]:
            return messages
    except (ValueError, KeyError, TypeError):
        pass
    raise DataError(f"tokenizer=chat reads conversations (corpus=conversations); found the text {text[:60]!r}")


def built_in_templates() -> dict[str, str]:
    """Returns the chat templates of this package by name."""
    folder = resources.files(__package__).joinpath("templates")
    return {
        entry.name.removesuffix(".jinja"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".jinja")
    }
