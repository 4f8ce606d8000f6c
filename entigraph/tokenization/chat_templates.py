"""Tokenizes conversations: a text is the JSON of its messages, rendered by the tokenizer's chat template."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from entigraph.errors import DataError
from entigraph.huggingface.special_tokens import CUT, cut_special_tokens, special_tokens
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

        return AutoTokenizer.from_pretrained(str(self.folder), trust_remote_code=False)

    @cached_property
    def special(self) -> list[str]:
        return list(special_tokens(self.fast))

    def encode_batch(self, texts: Sequence[str], encoder: Encoder) -> Encoded:
        if self.loss_on == "all":
            return self.encode_all(texts, encoder)
        rendered = [self.render_with_spans(self.read_messages(text)) for text in texts]
        pieces = [list(split_pieces(text)) for text, _ in rendered]
        with all_cores():
            encodings = iter(
                self.fast.encode_batch([piece for row in pieces for _, piece in row], add_special_tokens=False)
            )
        rows = [[(start, next(encodings)) for start, _ in row] for row in pieces]
        offsets = [
            [(start + first, start + last) for start, encoding in row for first, last in encoding.offsets]
            for row in rows
        ]
        labels = [mark_tokens(row, spans) for row, (_, spans) in zip(offsets, rendered, strict=True)]
        encoded = concatenate([[token for _, encoding in row for token in encoding.ids] for row in rows])
        return replace(encoded, labels=np.concatenate([np.asarray(row, dtype=np.uint8) for row in labels]))

    def encode_all(self, texts: Sequence[str], encoder: Encoder) -> Encoded:
        """Returns the ids without labels."""
        pieces = [self.render(self.read_messages(text)).split(CUT) for text in texts]
        encoded = encoder.encode_batch([piece for row in pieces for piece in row])
        ends = np.cumsum([0, *map(len, pieces)])
        return Encoded(encoded.ids, encoded.offsets[ends])

    def read_messages(self, text: str) -> list[Message]:
        """Returns the messages, with CUT inside the special tokens in them: only the template writes special tokens."""
        return [
            {**message, "content": cut_special_tokens(str(message["content"]), self.special)}
            for message in parse_messages(text)
        ]

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


def split_pieces(text: str) -> Iterator[tuple[int, str]]:
    """Yields the parts of a text between CUTs, each with its position in the text."""
    start = 0
    for piece in text.split(CUT):
        yield start, piece
        start += len(piece) + len(CUT)


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
    raise DataError(f"tokenizer=chat reads conversations (corpus=conversations), got the text {text[:60]!r}")
