"""Loads batches from token shards, in the order of the data schedule."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray

from entigraph.errors import ArtifactError, ConfigError
from entigraph.storage.token_shards import DOCUMENT_ENDS, TokenStore
from entigraph.training.data_schedule import REPLAY, SOURCES, SYNTHETIC, VALIDATION, DataConfig, DataSchedule
from entigraph.training.loss import IGNORED

Batch = dict[str, torch.Tensor]


class BatchLoader:
    """Iterates over this rank's micro-batches of a data schedule.

    Every optimizer step has the same `batch_size` sequences on any number of ranks, split between them. The state is a
    single number, the sequences consumed by all ranks. It is the same on every rank, so that the state of any rank
    restores all, and the number of ranks may change.

    A batch has `input_ids` and `labels` of shape (batch, context_length; labels are the next tokens, IGNORED if not in
    the loss), the `source` of each sequence, `scale`, and with `document_mask` also `position_ids`. The mean loss over
    all positions times `scale` is the mean over the tokens of the optimizer step that are in the loss.
    """

    def __init__(
        self,
        schedule: "DataSchedule | ValidationSchedule",
        stores: dict[int, TokenStore],
        micro_batch_size: int,
        rank: int = 0,
        ranks: int = 1,
        document_mask: bool = False,
        vocabulary: int | None = None,
    ) -> None:
        self.schedule, self.stores, self.micro_batch_size = schedule, stores, micro_batch_size
        self.rank, self.ranks, self.vocabulary = rank, ranks, vocabulary
        self.ends = {source: document_ends(store) for source, store in stores.items()} if document_mask else None
        self.masks_labels = document_mask or any(store.labels for store in stores.values())
        self.label_masks: dict[int, list[NDArray[np.uint8]]] = {}
        check_block_length(schedule.context_length, stores)
        self.consumed = 0
        self.seconds = 0.0  # time that the trainer waited for batches

    def __len__(self) -> int:
        return self.schedule.samples // (self.micro_batch_size * self.ranks)

    def __iter__(self) -> Iterator[Batch]:
        stride = self.micro_batch_size * self.ranks
        while self.consumed < self.schedule.samples:
            started = time.perf_counter()
            first = self.consumed + self.rank * self.micro_batch_size
            self.consumed += stride  # before yielding the batch, because checkpoints are saved after its use
            batch = self.batch(range(first, first + self.micro_batch_size))
            self.seconds += time.perf_counter() - started
            yield batch
        self.consumed = 0

    def batch(self, samples: range) -> Batch:
        length = self.schedule.context_length
        tokens = np.empty((len(samples), length + 1), dtype=np.int64)
        highest = 0
        for row, sample in enumerate(samples):
            block = self.store(sample).read(self.start(sample), length + 1)
            highest = max(highest, int(block.max()))
            tokens[row] = block
        if self.vocabulary is not None and highest >= self.vocabulary:
            self.raise_unknown_token(tokens, samples)
        blocks = torch.from_numpy(tokens)
        batch = {
            "input_ids": blocks[:, :-1],
            "labels": blocks[:, 1:],
            "source": torch.from_numpy(self.schedule.order[0][samples.start : samples.stop].copy()),
            "scale": torch.tensor(1.0),
        }
        if self.ends:
            batch["position_ids"] = self.position_ids(samples)
        return self.mask_labels(batch, samples) if self.masks_labels else batch

    def mask_labels(self, batch: Batch, samples: range) -> Batch:
        size = self.schedule.batch_size
        step = samples.start // size
        if step not in self.label_masks:  # cached for the micro-batches of one step
            self.label_masks = {step: [self.label_mask(sample) for sample in range(step * size, (step + 1) * size)]}
        masks = self.label_masks[step]
        labels = batch["labels"].numpy().copy()
        for row, sample in enumerate(samples):
            np.putmask(labels[row], masks[sample % size] == 0, IGNORED)
        loss_tokens = sum(int(np.count_nonzero(mask)) for mask in masks)
        scale = torch.tensor(self.schedule.context_length * size / max(1, loss_tokens))
        return {**batch, "labels": torch.from_numpy(labels), "scale": scale}

    def label_mask(self, sample: int) -> NDArray[np.uint8]:
        """Returns 1 for each next token of a sequence that is in the loss, else 0. Shape: (context_length,)."""
        length = self.schedule.context_length
        stored = self.store(sample).read_labels(self.start(sample) + 1, length)
        mask = np.ones(length, dtype=np.uint8) if stored is None else stored
        if self.ends:
            mask = mask.copy()
            mask[self.document_starts(sample) - 1] = 0
        return mask

    def position_ids(self, samples: range) -> torch.Tensor:
        """Returns position ids that restart at each document."""
        length = self.schedule.context_length
        positions = np.tile(np.arange(length), (len(samples), 1))
        for row, sample in enumerate(samples):
            for start in self.document_starts(sample):
                positions[row, start:] = np.arange(max(0, length - start))
        return torch.from_numpy(positions)

    def store(self, sample: int) -> TokenStore:
        return self.stores[int(self.schedule.order[0][sample])]

    def start(self, sample: int) -> int:
        """Returns the index of a sequence's first token in its source, aligned to blocks if texts are packed."""
        start, block = int(self.schedule.starts[sample]), self.store(sample).block_length
        return start - start % block if block else start

    def document_starts(self, sample: int) -> NDArray[np.int64]:
        """Returns the offsets in a sequence at which documents start, from 1 to the offset after its last token."""
        assert self.ends is not None
        ends, first = self.ends[int(self.schedule.order[0][sample])], self.start(sample)
        last, total = first + self.schedule.context_length, int(ends[-1])
        starts = []
        for offset in range(0, last + 1, total):  # sequences wrap around at the end of the source
            begin, end = np.searchsorted(ends, (first - offset, last - offset), "right")
            starts.append(ends[begin:end] + offset)
        result: NDArray[np.int64] = np.concatenate(starts) - first
        return result

    def raise_unknown_token(self, tokens: NDArray[np.int64], samples: range) -> None:
        row, column = (int(indices[0]) for indices in np.nonzero(tokens >= (self.vocabulary or 0)))
        source = int(self.schedule.order[0][samples[row]])
        folder = self.stores[source].folder
        raise ArtifactError(
            f"{folder}: the {SOURCES.get(source, 'validation')} tokens contain the id {tokens[row, column]:,} near "
            f"token {self.start(samples[row]) + column:,}; the tokenizer has {self.vocabulary:,}. A shard is "
            f"damaged: remove {folder} and run the same command"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"consumed": self.consumed, "fingerprint": self.schedule.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self.schedule.fingerprint:
            raise ArtifactError(
                "the checkpoint was written with a different data order; remove its checkpoints folder and run again"
            )
        self.consumed = state["consumed"]


@dataclass(frozen=True)
class ValidationSchedule:
    """All blocks of the held-out tokens once, in order, padded to complete batches of `batch_size` sequences."""

    tokens: int
    context_length: int
    batch_size: int

    @property
    def samples(self) -> int:
        return ceil(self.tokens / self.context_length / self.batch_size) * self.batch_size

    @property
    def fingerprint(self) -> str:
        return f"validation-{self.tokens}-{self.context_length}-{self.batch_size}"

    @cached_property
    def order(self) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        return np.full(self.samples, VALIDATION, dtype=np.int8), np.arange(self.samples)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        return np.arange(self.samples, dtype=np.int64) * self.context_length % self.tokens


class ValidationLoader(BatchLoader):
    """Loads every held-out token once: tokens that only pad the last block and batch are ignored in the loss."""

    def batch(self, samples: range) -> Batch:
        batch = super().batch(samples)
        length = self.schedule.context_length
        labels = batch["labels"].clone()
        for row, sample in enumerate(samples):
            labels[row, max(0, len(self.stores[VALIDATION]) - 1 - sample * length) :] = IGNORED
        return {**batch, "labels": labels}

    # Every validation reads all tokens, so there is no state to restore.
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def __iter__(self) -> Iterator[Batch]:
        self.consumed = 0
        return super().__iter__()


class SyntheticDataModule(L.LightningDataModule):
    """Loads synthetic and replay tokens for training, and held-out texts for validation.

    The options are the fields of `DataConfig`, which plans check without importing torch. A subclass set with
    `data._target_` receives the same arguments; training passes those before `options`.
    """

    def __init__(
        self,
        *,
        tokens: Path,
        replay_tokens: Path | None,
        seed: int,
        max_epochs: int,
        max_steps: int | None,
        micro_batch_size: int,
        vocabulary: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.config = DataConfig(**options)
        self.tokens, self.replay_tokens, self.seed = tokens, replay_tokens, seed
        self.max_epochs, self.max_steps = max_epochs, max_steps
        self.micro_batch_size, self.vocabulary = micro_batch_size, vocabulary
        self.stores: dict[int, TokenStore] = {}

    def prepare_data(self) -> None:
        """Checks the token shards. Raises ArtifactError if one is missing or damaged."""
        for folder in self.folders().values():
            TokenStore(folder)

    def setup(self, stage: str = "fit") -> None:
        if not self.stores:
            self.stores = {source: TokenStore(folder) for source, folder in self.folders().items()}
            self.schedule = self.config.schedule(
                {source: len(store) for source, store in self.stores.items()},
                self.seed,
                self.max_epochs,
                self.max_steps,
            )

    def folders(self) -> Mapping[int, Path]:
        folders = {SYNTHETIC: self.tokens}
        if self.replay_tokens:
            folders[REPLAY] = self.replay_tokens
        if self.config.validation_fraction:
            folders[VALIDATION] = self.tokens / "validation"
        return folders

    def train_dataloader(self) -> BatchLoader:
        self.loader = BatchLoader(
            self.schedule,
            {source: store for source, store in self.stores.items() if source != VALIDATION},
            self.micro_batch_size,
            document_mask=self.config.document_mask,
            vocabulary=self.vocabulary,
            **self.ranks(),
        )
        return self.loader

    def val_dataloader(self) -> ValidationLoader | list[Any]:
        """Returns an empty list if no text is held out."""
        if not len(self.stores.get(VALIDATION, ())):
            return []
        store, ranks = self.stores[VALIDATION], self.ranks()
        batch_size = self.micro_batch_size * ranks["ranks"]
        return ValidationLoader(
            ValidationSchedule(len(store), self.config.context_length, batch_size),
            {VALIDATION: store},
            self.micro_batch_size,
            document_mask=self.config.document_mask,
            vocabulary=self.vocabulary,
            **ranks,
        )

    def ranks(self) -> dict[str, int]:
        trainer: Any = self.trainer
        return {"rank": trainer.global_rank, "ranks": trainer.world_size} if trainer else {"rank": 0, "ranks": 1}


def check_block_length(context_length: int, stores: Mapping[int, TokenStore]) -> None:
    for store in stores.values():
        if store.block_length not in (None, context_length):
            raise ConfigError(
                f"data.context_length is {context_length:,}, but {store.folder} was packed into blocks of "
                f"{store.block_length:,} tokens; set tokens.block_length to the same"
            )


def document_ends(store: TokenStore) -> NDArray[np.int64]:
    """Returns the memory-mapped end positions of documents in ascending order; the last one is the store's length."""
    file = store.folder / DOCUMENT_ENDS
    try:
        ends: NDArray[np.int64] = np.load(file, mmap_mode="r")
    except (OSError, ValueError):
        raise ArtifactError(f"{file} cannot be read; remove {store.folder} and run the same command") from None
    if not len(ends) or int(ends[-1]) != len(store):
        raise ArtifactError(f"{file} does not match the tokens; remove {store.folder} and run the same command")
    return ends
