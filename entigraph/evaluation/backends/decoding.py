"""Sampling from a Hugging Face model in batches: what all prompts begin with is read once, finished rows leave.

Each sample draws from numbers of its own, seeded by its prompt's key and its number: which other rows stand in the
batch changes nothing but the last digits of the logits, and with them a token only where a draw falls on the border
between two.
"""

import copy
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from os.path import commonprefix
from typing import Any

import numpy as np
import torch

from entigraph.evaluation.base import Prompt, Sampled, Sampling

WINDOW = 32  # last tokens in which an end is looked for
DRAWN_AT_ONCE = 64
ROOM = 64  # tokens


@dataclass
class Row:
    """One sample in the making."""

    prompt: int
    sample: int
    ids: list[int] = field(default_factory=list)
    finish_reason: str = ""


@dataclass(frozen=True)
class Decoder:
    """`decode` turns ids into text, `ends` are the model's own ends of text; `positions` is the longest context."""

    model: Any
    device: str
    positions: int
    ends: frozenset[int]
    decode: Callable[[Sequence[Sequence[int]]], list[str]]
    autocast: Callable[[], AbstractContextManager[object]]

    def sample(
        self, prompts: Sequence[Prompt], encoded: Sequence[list[int]], sampling: Sampling
    ) -> Iterator[tuple[int, list[Sampled]]]:
        fitting = [index for index, ids in enumerate(encoded) if len(ids) + sampling.max_tokens <= self.positions]
        yield from ((index, []) for index in sorted(set(range(len(encoded))) - set(fitting)))
        if not fitting:
            return
        shared = min(
            len(commonprefix([encoded[index] for index in fitting])), min(len(encoded[i]) for i in fitting) - 1
        )
        prefix = self.read_prefix(encoded[fitting[0]][:shared])
        waiting: dict[int, list[Sampled]] = {}
        for rows in self.batches(fitting, encoded, sampling):
            self.generate(rows, prompts, encoded, prefix, shared, sampling)
            texts = self.decode([row.ids for row in rows])
            for row, text in zip(rows, texts, strict=True):
                own = waiting.setdefault(row.prompt, [])
                own.append(sampling.ended(text, row.finish_reason))
                if len(own) == sampling.drawn:
                    yield row.prompt, waiting.pop(row.prompt) * (sampling.samples // sampling.drawn)

    def batches(self, indices: Sequence[int], encoded: Sequence[list[int]], sampling: Sampling) -> Iterator[list[Row]]:
        """Equal lengths together, at most `batch_tokens` of cache, but at least one row.

        So nothing is padded, and attention needs no mask, which would have it copy all keys and values at every token.
        """
        batch: list[Row] = []
        for index in sorted(indices, key=lambda index: (len(encoded[index]), index)):
            length = len(encoded[index])
            for sample in range(sampling.drawn):
                full = (len(batch) + 1) * (length + sampling.max_tokens) > sampling.batch_tokens
                if batch and (full or len(encoded[batch[0].prompt]) != length):
                    yield batch
                    batch = []
                batch.append(Row(index, sample))
        if batch:
            yield batch

    @torch.inference_mode()
    def read_prefix(self, ids: list[int]) -> Any:
        from transformers import DynamicCache
        from transformers.cache_utils import DynamicLayer

        found = DynamicCache(config=self.model.config)
        roomy = roomy_layer()
        found.layers = [roomy() if type(layer) is DynamicLayer else layer for layer in found.layers]
        if ids:
            self.forward([ids], found)
        return found

    @torch.inference_mode()
    def generate(
        self,
        rows: list[Row],
        prompts: Sequence[Prompt],
        encoded: Sequence[list[int]],
        prefix: Any,
        shared: int,
        sampling: Sampling,
    ) -> None:
        """Continue every row up to its end, in place."""
        asked = list(dict.fromkeys(row.prompt for row in rows))
        cache = copy.deepcopy(prefix)
        if shared:
            cache.batch_repeat_interleave(len(asked))
        logits = self.forward([encoded[index][shared:] for index in asked], cache)
        places = torch.tensor([asked.index(row.prompt) for row in rows], device=self.device)
        cache.batch_select_indices(places)
        logits = logits[places]
        active, numbers = list(rows), draws(rows, prompts, 0, sampling)
        for step in range(sampling.max_tokens):
            if step and step % DRAWN_AT_ONCE == 0:
                numbers = draws(active, prompts, step, sampling)
            chosen = choose(logits, numbers[:, step % DRAWN_AT_ONCE], sampling.temperature)
            self.append(active, chosen.tolist(), sampling)
            kept = [number for number, row in enumerate(active) if not row.finish_reason]
            if not kept or step + 1 == sampling.max_tokens:
                break
            if len(kept) <= len(active) // 2:  # half of them have ended: go on without those
                place = torch.tensor(kept, device=self.device)
                cache.batch_select_indices(place)
                active, numbers = [active[number] for number in kept], numbers[kept]
                chosen = chosen[place]
            logits = self.forward(chosen[:, None], cache)
        for row in active:
            row.finish_reason = row.finish_reason or "length"

    def forward(self, ids: Any, cache: Any) -> Any:
        """(rows, vocabulary) logits behind the last of the ids."""
        with self.autocast():
            output = self.model(
                input_ids=torch.as_tensor(ids, device=self.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return output.logits[:, -1].float()

    def append(self, rows: Sequence[Row], chosen: Sequence[int], sampling: Sampling) -> None:
        """One token more for each row; a row that it ends says how."""
        going = []
        for row, token in zip(rows, chosen, strict=True):
            if row.finish_reason:
                continue
            if token in self.ends:
                row.finish_reason = "stop"
                continue
            row.ids.append(token)
            going.append(row)
        for row, text in zip(going, self.decode([row.ids[-WINDOW:] for row in going]), strict=True):
            if any(stop in text for stop in sampling.stop) or (sampling.until and re.search(sampling.until, text)):
                row.finish_reason = "stop"


@cache
def roomy_layer() -> Any:
    """A layer of keys and values with room for more: transformers' own is copied whole for every token."""
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
        room: Any = None

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            before = self.get_seq_length()
            if not before:
                self.lazy_initialization(key_states, value_states)
            length = before + key_states.shape[-2]
            if self.room is None or self.room[0].shape[-2] < length:
                self.room = [self.moved(old, new, length + ROOM) for old, new in self.both(key_states, value_states)]
            for kept, new in zip(self.room, (key_states, value_states), strict=True):
                kept[:, :, before:length] = new
            self.keys, self.values = (kept[:, :, :length] for kept in self.room)
            return self.keys, self.values

        def both(self, key_states: Any, value_states: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
            return (self.keys, key_states), (self.values, value_states)

        @staticmethod
        def moved(old: Any, new: Any, length: int) -> Any:
            found = new.new_empty(*new.shape[:2], length, new.shape[-1])
            if old.numel():
                found[:, :, : old.shape[-2]] = old
            return found

        def batch_repeat_interleave(self, repeats: int) -> None:
            super().batch_repeat_interleave(repeats)
            self.room = None

        def batch_select_indices(self, indices: Any) -> None:
            super().batch_select_indices(indices)
            self.room = None

    return RoomyLayer


def draws(rows: Sequence[Row], prompts: Sequence[Prompt], step: int, sampling: Sampling) -> np.ndarray[Any, Any]:
    """(rows, 64) uniform numbers for the steps from `step` on, each row's from its prompt's key and its number."""
    if sampling.temperature == 0:
        return np.zeros((len(rows), DRAWN_AT_ONCE))
    found = []
    for row in rows:
        own = f"{prompts[row.prompt].key}/{row.sample}/{step}".encode()
        seed = int.from_bytes(hashlib.blake2b(own, digest_size=16).digest(), "big")
        found.append(np.random.Generator(np.random.PCG64(seed)).random(DRAWN_AT_ONCE))
    return np.stack(found)


def choose(logits: Any, numbers: np.ndarray[Any, Any], temperature: float) -> Any:
    """(rows,) tokens: the likeliest, or that in whose share of the distribution the row's number falls."""
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = torch.softmax(logits.double() / temperature, dim=-1).cumsum(-1)
    point = torch.as_tensor(numbers, device=logits.device)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
