"""Batched sampling from a Hugging Face model: the shared prefix is computed once, and finished rows leave the batch.

The random numbers of a sample are seeded with the key of its prompt and its sample index. The other rows of a batch
affect only the last digits of the logits: they change a token only if its random number falls on the boundary between
two tokens.
"""

import copy
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from os.path import commonprefix
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from entigraph.evaluation.backends.likelihoods import check_numbers
from entigraph.evaluation.base import Generation, Sampling

STOP_WINDOW = 32  # the last tokens, which are searched for a stop string
NUMBERS_PER_BLOCK = 64
PREALLOCATED_TOKENS = 64
# Maximum number of probabilities (fp64) in memory. On a CPU they stay in its cache, which is four times as fast with a
# vocabulary of 262k.
MAX_PROBABILITIES = {"cpu": 2**18, "cuda": 2**26}


@dataclass
class DecodingRow:
    """A sample being generated."""

    prompt: int
    sample: int
    ids: list[int] = field(default_factory=list)
    finish_reason: str = ""


class PreallocatedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Stores keys and values in preallocated buffers. The layer of transformers copies all of them for every token."""

    buffers: Any = None  # (keys, values), each (rows, heads, capacity, head size)

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        before = self.get_seq_length()
        if not before:
            self.lazy_initialization(key_states, value_states)
        length = before + key_states.shape[-2]
        if self.buffers is None or self.buffers[0].shape[-2] < length:
            capacity = length + PREALLOCATED_TOKENS
            self.buffers = (grow(self.keys, key_states, capacity), grow(self.values, value_states, capacity))
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, before:length] = states
        self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self.buffers = None

    def batch_select_indices(self, indices: Any) -> None:
        super().batch_select_indices(indices)
        self.buffers = None


def grow(old: Any, new: Any, capacity: int) -> Any:
    """Returns a buffer for `capacity` tokens that starts with the `old` ones."""
    buffer = new.new_empty(*new.shape[:2], capacity, new.shape[-1])
    if old.numel():
        buffer[:, :, : old.shape[-2]] = old
    return buffer


@dataclass(frozen=True)
class BatchDecoder:
    """Samples from a model. `decode` converts ids to text; `ends` are the end-of-text tokens."""

    model: Any
    device: str
    ends: frozenset[int]
    decode: Callable[[Sequence[Sequence[int]]], list[str]]
    autocast: Callable[[], AbstractContextManager[object]]

    def sample(
        self, keys: Sequence[str], encoded: Sequence[list[int]], sampling: Sampling
    ) -> Iterator[tuple[int, list[Generation]]]:
        """Yields the index of each prompt with its generations; `keys` seed the samples."""
        if not encoded:
            return
        shared = min(len(commonprefix(list(encoded))), min(map(len, encoded)) - 1)
        prefix = self.compute_prefix(encoded[0][:shared])
        pending: dict[int, list[Generation]] = {}
        for rows in self.batches(encoded, sampling):
            self.generate(rows, keys, encoded, prefix, shared, sampling)
            texts = self.decode([row.ids for row in rows])
            for row, text in zip(rows, texts, strict=True):
                generations = pending.setdefault(row.prompt, [])
                generations.append(sampling.truncate(text, row.finish_reason))
                if len(generations) == sampling.distinct_samples:
                    yield row.prompt, sampling.repeat(pending.pop(row.prompt))

    def batches(self, encoded: Sequence[list[int]], sampling: Sampling) -> Iterator[list[DecodingRow]]:
        """Yields batches of rows with the same prompt length and at most `batch_tokens` tokens in the KV cache.

        Without padding, attention needs no mask, with which it would copy all keys and values for every token.
        """
        batch: list[DecodingRow] = []
        for index in sorted(range(len(encoded)), key=lambda index: (len(encoded[index]), index)):
            length = len(encoded[index])
            for sample in range(sampling.distinct_samples):
                full = (len(batch) + 1) * (length + sampling.max_tokens) > sampling.batch_tokens
                if batch and (full or len(encoded[batch[0].prompt]) != length):
                    yield batch
                    batch = []
                batch.append(DecodingRow(index, sample))
        if batch:
            yield batch

    @torch.inference_mode()
    def compute_prefix(self, ids: list[int]) -> DynamicCache:
        """Returns the KV cache of the prefix."""
        cache = DynamicCache(config=self.model.config)
        cache.layers = [PreallocatedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]  # type: ignore[no-untyped-call]
        if ids:
            self.forward([ids], cache)
        return cache

    @torch.inference_mode()
    def generate(
        self,
        rows: list[DecodingRow],
        keys: Sequence[str],
        encoded: Sequence[list[int]],
        prefix: DynamicCache,
        shared: int,
        sampling: Sampling,
    ) -> None:
        """Generates all rows in place until they end."""
        prompts = list(dict.fromkeys(row.prompt for row in rows))
        cache = copy.deepcopy(prefix)
        if shared:
            cache.batch_repeat_interleave(len(prompts))
        logits = self.forward([encoded[index][shared:] for index in prompts], cache)
        check_numbers(logits, self.model)
        prompt_indices = torch.tensor([prompts.index(row.prompt) for row in rows], device=self.device)
        cache.batch_select_indices(prompt_indices)
        logits = logits[prompt_indices]
        active, uniforms = list(rows), sample_uniform(rows, keys, 0, sampling)
        for step in range(sampling.max_tokens):
            if step and step % NUMBERS_PER_BLOCK == 0:
                uniforms = sample_uniform(active, keys, step, sampling)
            tokens = choose_tokens(logits, uniforms[:, step % NUMBERS_PER_BLOCK], sampling.temperature)
            self.append_tokens(active, tokens.tolist(), sampling)
            unfinished = [index for index, row in enumerate(active) if not row.finish_reason]
            if not unfinished or step + 1 == sampling.max_tokens:
                break
            if len(unfinished) <= len(active) // 2:  # compact the batch once half of its rows have ended
                indices = torch.tensor(unfinished, device=self.device)
                cache.batch_select_indices(indices)
                active, uniforms = [active[index] for index in unfinished], uniforms[unfinished]
                tokens = tokens[indices]
            logits = self.forward(tokens[:, None], cache)
        for row in active:
            row.finish_reason = row.finish_reason or "length"

    def forward(self, ids: Any, cache: DynamicCache) -> Any:
        """Returns the logits of the last position, of shape (rows, vocabulary)."""
        with self.autocast():
            output = self.model(
                input_ids=torch.as_tensor(ids, device=self.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return output.logits[:, -1].float()

    def append_tokens(self, rows: Sequence[DecodingRow], tokens: Sequence[int], sampling: Sampling) -> None:
        """Appends one token to each unfinished row, and sets the finish reason of rows that end."""
        unfinished, until = [], re.compile(sampling.until) if sampling.until else None
        for row, token in zip(rows, tokens, strict=True):
            if row.finish_reason:
                continue
            if token in self.ends:
                row.finish_reason = "stop"
                continue
            row.ids.append(token)
            unfinished.append(row)
        for row, text in zip(unfinished, self.decode([row.ids[-STOP_WINDOW:] for row in unfinished]), strict=True):
            # "^" matches at 0, which is the start of the text only if the window contains all of it.
            start = 1 if len(row.ids) > STOP_WINDOW else 0
            if any(stop in text for stop in sampling.stop) or (until and until.search(text, start)):
                row.finish_reason = "stop"


def sample_uniform(
    rows: Sequence[DecodingRow], keys: Sequence[str], step: int, sampling: Sampling
) -> np.ndarray[Any, Any]:
    """Returns uniform random numbers of shape (rows, NUMBERS_PER_BLOCK) for the steps from `step` on."""
    if sampling.temperature == 0:
        return np.zeros((len(rows), NUMBERS_PER_BLOCK))
    uniforms = []
    for row in rows:
        label = f"{keys[row.prompt]}/{row.sample}/{step}".encode()
        seed = int.from_bytes(hashlib.blake2b(label, digest_size=16).digest(), "big")
        uniforms.append(np.random.Generator(np.random.PCG64(seed)).random(NUMBERS_PER_BLOCK))
    return np.stack(uniforms)


def choose_tokens(logits: Any, uniforms: np.ndarray[Any, Any], temperature: float) -> Any:
    """Returns one token per row: the most likely one, or a sample (inverse transform sampling of the row's number)."""
    if temperature == 0:
        return logits.argmax(-1)
    rows = max(1, MAX_PROBABILITIES["cpu" if logits.device.type == "cpu" else "cuda"] // logits.shape[-1])
    parts = zip(logits.split(rows), torch.split(torch.as_tensor(uniforms, device=logits.device), rows), strict=True)
    return torch.cat([sample_tokens(*part, temperature) for part in parts])


def sample_tokens(logits: Any, uniforms: Any, temperature: float) -> Any:
    cumulative = torch.softmax(logits.double() / temperature, dim=-1).cumsum(-1)
    point = uniforms[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
