"""Generates an answer token by token, with the tokenizer, the end tokens and the sampling of the evaluations."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from entigraph.chat.model_selection import SelectedModel
from entigraph.evaluation.base import Sampling
from entigraph.evaluation.models_under_test import load_pretrained_tokenizer
from entigraph.runtime.devices import has_native_bf16, pick_accelerator

if TYPE_CHECKING:
    from entigraph.evaluation.backends.local_backend import ChatTemplate
    from entigraph.evaluation.backends.transformers_backend import TransformersBackend

INCOMPLETE = "\ufffd"  # an incomplete character decodes to this


class ChatModel:
    """A loaded model. `device` is auto, cpu or cuda."""

    def __init__(self, selected: SelectedModel, device: str = "auto") -> None:
        self.selected, self.device = selected, device

    @property
    def name(self) -> str:
        return self.selected.name

    @cached_property
    def template(self) -> "ChatTemplate | None":
        """The chat template of its tokenizer."""
        from entigraph.evaluation.backends.local_backend import load_chat_template

        return load_chat_template(self.selected.path)

    @cached_property
    def backend(self) -> "TransformersBackend":
        from entigraph.evaluation.backends.transformers_backend import TransformersBackend

        device = pick_accelerator(self.device)
        tokenizer = load_pretrained_tokenizer(self.selected.path, "model")
        return TransformersBackend(
            self.selected.path, *tokenizer, device, has_native_bf16(device), threads=None, chat=self.template
        )

    def encode(self, prompt: str, templated: bool) -> list[int]:
        """Returns the ids of a prompt. A prompt that a chat template rendered already begins with the BOS token."""
        return self.backend.encode_rendered(prompt) if templated else self.backend.encode(prompt)

    def stream(self, ids: Sequence[int], sampling: Sampling, key: str = "") -> Iterator[str]:
        """Yields the parts of one answer as they are generated, up to a stop string and without reasoning.

        `key` seeds the sampling at temperatures above 0.
        """
        from entigraph.evaluation.backends.decoding import (
            NUMBERS_PER_BLOCK,
            BatchDecoder,
            DecodingRow,
            choose_tokens,
            sample_uniform,
        )

        backend = self.backend
        decoder = BatchDecoder(backend.model, backend.device, backend.ends, backend.decode, backend.autocast)
        cache = decoder.compute_prefix(list(ids[:-1]))
        generated: list[int] = []
        row, next_ids, text, shown = DecodingRow(0, 0), ids[-1:], "", ""
        for step in range(sampling.max_tokens):
            logits = self.forward(decoder, next_ids, cache)
            if step % NUMBERS_PER_BLOCK == 0:
                uniforms = sample_uniform([row], [key], step, sampling)
            token = int(choose_tokens(logits, uniforms[:, step % NUMBERS_PER_BLOCK], sampling.temperature)[0])
            if token in backend.ends:
                break
            generated.append(token)
            next_ids = [token]
            complete = sampling.truncate(backend.decode([generated])[0], "")
            text = backend.remove_reasoning(ids, complete.text)
            if complete.finish_reason:
                break
            safe = text[: len(text) - held_back(text, sampling.stop)]
            if len(safe) > len(shown):
                yield safe.removeprefix(shown)
                shown = safe
        yield text.removeprefix(shown)

    @staticmethod
    def forward(decoder: object, ids: Sequence[int], cache: object) -> object:
        import torch

        with torch.inference_mode():
            return decoder.forward([list(ids)], cache)  # type: ignore[attr-defined]


def held_back(text: str, stops: Sequence[str]) -> int:
    """Returns how many of the last characters may still become a reasoning tag, a stop string or a full character."""
    if re.fullmatch(r"\s*[<\[][^>\]\s]{0,30}", text):
        return len(text)
    incomplete = len(text) - len(text.rstrip(INCOMPLETE))
    starts = (size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size]))
    return max([incomplete, *starts])
