"""Batched log-likelihoods with bounded memory: shared prompts are encoded once, and few logits are in memory at a time.

The choices of a question share its prompt. The prompts of a batch are encoded once, padded on the left, so that the
distances between tokens are correct for sliding windows too. Their KV cache is then copied to the rows of the choices.
Long rows are processed in chunks, to limit the number of logits.
"""

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from entigraph.errors import ArtifactError
from entigraph.evaluation.base import ScoredSequence

# The maximum number of logits in memory; each takes 10 bytes (bf16, and two copies in fp32). Every chunk reads all
# weights, so GPUs are faster with few, large chunks.
MAX_LOGITS = {"cpu": 2**25, "cuda": 2**28}
# Prefix sharing changes the last bits of bf16 scores. Small models are fast without it and do not use it.
MIN_PARAMETERS_TO_SHARE_PREFIXES = 10_000_000


@dataclass(frozen=True)
class ScoredRow:
    """A row of a batch: the ids after the shared `prefix`. The ids from index `first` on are scored."""

    prefix: tuple[int, ...]
    ids: Sequence[int]
    first: int


@dataclass(frozen=True)
class LikelihoodScorer:
    """Scores sequences with a Hugging Face model."""

    model: Any
    device: str
    autocast: Callable[[], AbstractContextManager[object]]

    def score(self, sequences: Sequence[ScoredSequence], batch_tokens: int) -> Iterator[tuple[int, float]]:
        """Yields the index and the log-likelihood of each sequence, batch by batch.

        A batch has at most `batch_tokens` tokens in its KV cache, including padding, but at least one sequence. The
        longest sequences come first: the first batch needs the most memory, and the remaining time is not
        underestimated.
        """
        rows = split_prefixes(sequences) if self.shares_prefixes else [ScoredRow((), *each) for each in sequences]
        for batch in reversed(list(batch_rows(rows, batch_tokens, self.max_logits // self.vocab_size))):
            scores = self.score_batch([rows[index] for index in batch])
            check_numbers(torch.tensor(scores), self.model)
            yield from zip(batch, scores, strict=True)

    @torch.inference_mode()
    def score_batch(self, rows: Sequence[ScoredRow]) -> list[float]:
        """Returns the log-likelihood of each row."""
        ids = self.pad([row.ids for row in rows])
        # logits[:, i] predict targets[:, i] = ids[:, i + 1]; `start` is the first logit that is needed.
        targets = ids[:, 1:]
        start, end = min(row.first for row in rows) - 1, targets.shape[1]
        if start == end:  # rows of one token, which nothing predicts
            return [0.0] * len(rows)
        cache, mask = self.encode_prefixes(rows)
        max_columns = max(1, self.max_logits // (self.vocab_size * len(rows)))
        if self.shares_prefixes and start + max_columns >= end:
            return self.score_in_one_pass(rows, ids, cache, mask)
        chunks, position = [], 0
        if cache is None and end > start + max_columns:
            cache = DynamicCache(config=self.model.config)
        while position < end:
            first = max(position, start)
            stop = min(first + max_columns, end)
            logits = self.forward(ids[:, position:stop], cache, mask, stop, logits_to_keep=stop - first)
            chunks.append(torch.log_softmax(logits.float(), dim=-1).gather(2, targets[:, first:stop, None])[..., 0])
            position = stop
        logprobs = torch.cat(chunks, dim=1)
        sums = [logprobs[i, row.first - 1 - start : len(row.ids) - 1 - start].sum() for i, row in enumerate(rows)]
        scores: list[float] = torch.stack(sums).tolist()
        return scores

    def score_in_one_pass(
        self, rows: Sequence[ScoredRow], ids: Tensor, cache: DynamicCache | None, mask: Tensor | None
    ) -> list[float]:
        """Returns the log-likelihoods of rows that fit into one pass. The LM head runs on scored positions only."""
        start, end = min(row.first for row in rows) - 1, ids.shape[1] - 1
        positions = [(i, position) for i, row in enumerate(rows) for position in range(row.first, len(row.ids))]
        row_numbers, scored = torch.tensor(positions, device=self.device).T

        def select(module: torch.nn.Module, hidden: tuple[Tensor, ...]) -> tuple[Tensor]:
            return (hidden[0][row_numbers, scored - 1 - start][None],)

        hook = self.model.get_output_embeddings().register_forward_pre_hook(select)
        try:
            logits = self.forward(ids[:, :end], cache, mask, end, logits_to_keep=end - start)[0]
        finally:
            hook.remove()
        logprobs = torch.log_softmax(logits.float(), dim=-1).gather(1, ids[row_numbers, scored][:, None])[:, 0]
        sums: list[float] = logprobs.new_zeros(len(rows)).index_add(0, row_numbers, logprobs).tolist()
        return sums

    def encode_prefixes(self, rows: Sequence[ScoredRow]) -> tuple[DynamicCache | None, Tensor | None]:
        """Returns the KV cache of the rows' prefixes and its mask of shape (rows, tokens); None without prefixes."""
        prefixes = list(dict.fromkeys(row.prefix for row in rows))
        if not any(prefixes):
            return None, None
        width = max(map(len, prefixes))
        ids = torch.tensor([[*[0] * (width - len(prefix)), *prefix] for prefix in prefixes], device=self.device)
        lengths = torch.tensor([len(prefix) for prefix in prefixes], device=self.device)
        mask = torch.arange(width, device=self.device) >= width - lengths[:, None]
        cache = DynamicCache(config=self.model.config)
        self.forward(ids, cache, mask, 0, logits_to_keep=1)
        index_of = {prefix: index for index, prefix in enumerate(prefixes)}
        indices = torch.tensor([index_of[row.prefix] for row in rows], device=self.device)
        cache.batch_select_indices(indices)
        return cache, mask[indices]

    def forward(
        self, ids: Tensor, cache: DynamicCache | None, mask: Tensor | None, stop: int, logits_to_keep: int
    ) -> Tensor:
        """Returns the last logits. `mask` is the mask of the prefixes; `stop` is the number of ids after them."""
        inputs: dict[str, Any] = {"input_ids": ids, "use_cache": cache is not None, "logits_to_keep": logits_to_keep}
        if cache is not None:
            inputs["past_key_values"] = cache
        if mask is not None:
            inputs["attention_mask"] = torch.cat([mask, mask.new_ones(len(mask), stop)], dim=1)
            positions = inputs["attention_mask"].cumsum(1)[:, -ids.shape[1] :] - 1
            inputs["position_ids"] = positions.clamp_min(0)
        with self.autocast():
            logits: Tensor = self.model(**inputs).logits
        return logits

    def pad(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Pads on the right: causal attention masks the padding for all earlier positions."""
        width = max(map(len, rows))
        return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=self.device)

    @cached_property
    def shares_prefixes(self) -> bool:
        takes_positions = "position_ids" in inspect.signature(self.model.forward).parameters
        return takes_positions and self.model.num_parameters() >= MIN_PARAMETERS_TO_SHARE_PREFIXES

    @cached_property
    def vocab_size(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def max_logits(self) -> int:
        return MAX_LOGITS.get(self.device, MAX_LOGITS["cuda"])


def check_numbers(values: Tensor, model: Any) -> None:
    """Raises ArtifactError if a value is NaN, with which the first choice of every question would be chosen."""
    if values.isnan().any():
        raise ArtifactError(
            f"{model.name_or_path}: the logits are NaN; its training diverged or its weights are damaged"
        )


def split_prefixes(sequences: Sequence[ScoredSequence]) -> list[ScoredRow]:
    """Splits off the unscored prefixes that sequences share, without their last token, which predicts a scored one."""
    prefixes = [tuple(sequence.ids[: sequence.first - 1]) for sequence in sequences]
    counts = Counter(prefixes)
    prefixes = [prefix if counts[prefix] > 1 else () for prefix in prefixes]
    return [
        ScoredRow(prefix, sequence.ids[len(prefix) :], sequence.first - len(prefix))
        for prefix, sequence in zip(prefixes, sequences, strict=True)
    ]


def batch_rows(rows: Sequence[ScoredRow], batch_tokens: int, max_scored: int) -> Iterator[list[int]]:
    """Yields batches of indices, sorted by length, of at least one row each.

    A batch has at most `batch_tokens` tokens, including padding, and at most `max_scored` positions whose logits are
    needed: all of its logits then come from one forward pass. Rows with the same prefix stay together, and rows with
    and without a prefix do not share a batch.
    """
    lengths = [len(row.prefix) + len(row.ids) for row in rows]
    longest: dict[tuple[int, ...], int] = {}
    for row, length in zip(rows, lengths, strict=True):
        longest[row.prefix] = max(length, longest.get(row.prefix, 0))

    def order(index: int) -> tuple[bool, int, tuple[int, ...], int]:
        prefix = rows[index].prefix
        return bool(prefix), longest[prefix] if prefix else lengths[index], prefix, index

    batch: list[int] = []
    size = BatchSize()
    for index in sorted(range(len(rows)), key=order):
        larger = size.with_row(rows[index])
        full = (len(batch) + 1) * larger.tokens > batch_tokens or (len(batch) + 1) * larger.scored > max_scored
        if batch and (full or bool(rows[index].prefix) != bool(rows[batch[0]].prefix)):
            yield batch
            batch, larger = [], BatchSize().with_row(rows[index])
        batch.append(index)
        size = larger
    if batch:
        yield batch


@dataclass(frozen=True)
class BatchSize:
    """Padded lengths of a batch: `tokens` with prefix, `ids` without; `first` is the lowest scored position."""

    tokens: int = 0
    ids: int = 0
    first: int = sys.maxsize

    @property
    def scored(self) -> int:
        """Returns the number of positions of each row whose logits are needed."""
        return self.ids - self.first

    def with_row(self, row: ScoredRow) -> "BatchSize":
        tokens = len(row.prefix) + len(row.ids)
        return BatchSize(max(self.tokens, tokens), max(self.ids, len(row.ids)), min(self.first, row.first))
