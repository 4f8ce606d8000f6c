"""Token shards to batches, in the order of the data schedule."""

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
    """This rank's micro-batches of a data schedule.

    Every optimizer step has the same `batch_size` sequences on any number of ranks; each rank reads its share. The
    state is one number, the sequences handed out over all ranks. It is the same on every rank, so any rank's copy
    restores it and the number of ranks may change.

    A batch holds `input_ids` and `labels` (batch, context_length; labels are the next tokens, IGNORED where a token
    carries no loss), `source` of each sequence, `scale`, and with `document_mask` also `position_ids`. The loss
    averaged over all positions, times `scale`, is the mean over the tokens of the whole step that carry loss.
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
        self.seconds = 0.0  # spent here while the trainer waited

    def __len__(self) -> int:
        return self.schedule.samples // (self.micro_batch_size * self.ranks)

    def __iter__(self) -> Iterator[Batch]:
        stride = self.micro_batch_size * self.ranks
        while self.consumed < self.schedule.samples:
            started = time.perf_counter()
            first = self.consumed + self.rank * self.micro_batch_size
            self.consumed += stride  # before the batch is used: a checkpoint is written after it was
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
        if step not in self.label_masks:  # kept for one step, whose micro-batches share it
            self.label_masks = {step: [self.label_mask(sample) for sample in range(step * size, (step + 1) * size)]}
        masks = self.label_masks[step]
        labels = batch["labels"].numpy().copy()
        for row, sample in enumerate(samples):
            np.putmask(labels[row], masks[sample % size] == 0, IGNORED)
        counted = sum(int(np.count_nonzero(mask)) for mask in masks)
        scale = torch.tensor(self.schedule.context_length * size / max(1, counted))
        return {**batch, "labels": torch.from_numpy(labels), "scale": scale}

    def label_mask(self, sample: int) -> NDArray[np.uint8]:
        """Returns 1 for each next token of a sequence that carries loss, else 0. Shape: (context_length,)."""
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
        """Returns the token of its source at which a sequence starts; where texts lie whole in blocks, its block's."""
        start, block = int(self.schedule.starts[sample]), self.store(sample).block_length
        return start - start % block if block else start

    def document_starts(self, sample: int) -> NDArray[np.int64]:
        """Returns where documents start after a sequence's first token, up to the token after its last."""
        assert self.ends is not None
        ends, first = self.ends[int(self.schedule.order[0][sample])], self.start(sample)
        last, total = first + self.schedule.context_length, int(ends[-1])
        starts = [
            ends[np.searchsorted(ends, first - turn, "right") : np.searchsorted(ends, last - turn, "right")] + turn
            for turn in range(0, last + 1, total)
        ]
        result: NDArray[np.int64] = np.concatenate(starts) - first
        return result

    def raise_unknown_token(self, tokens: NDArray[np.int64], samples: range) -> None:
        row, place = (int(places[0]) for places in np.nonzero(tokens >= (self.vocabulary or 0)))
        source = int(self.schedule.order[0][samples[row]])
        folder = self.stores[source].folder
        raise ArtifactError(
            f"{folder}: the {SOURCES.get(source, 'validation')} tokens contain the id {tokens[row, place]:,} near "
            f"token {self.start(samples[row]) + place:,}; the tokenizer has {self.vocabulary:,}. A shard is "
            f"damaged: remove {folder} and run the same command"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"consumed": self.consumed, "fingerprint": self.schedule.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self.schedule.fingerprint:
            raise ArtifactError(
                "the checkpoint was written for another data order; remove its checkpoints folder and run again"
            )
        self.consumed = state["consumed"]


@dataclass(frozen=True)
class ValidationSchedule:
    """All blocks of the held-out tokens once, in order, filled up to whole batches of `batch_size` sequences."""

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
    """Every held-out token once: what is read again to fill the last block and batch carries no loss."""

    def batch(self, samples: range) -> Batch:
        batch = super().batch(samples)
        length = self.schedule.context_length
        labels = batch["labels"].clone()
        for row, sample in enumerate(samples):
            labels[row, max(0, len(self.stores[VALIDATION]) - 1 - sample * length) :] = IGNORED
        return {**batch, "labels": labels}

    # Every validation reads everything, so nothing is restored.
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def __iter__(self) -> Iterator[Batch]:
        self.consumed = 0
        return super().__iter__()


class SyntheticDataModule(L.LightningDataModule):
    """The synthetic tokens, the replay tokens if the schedule has any, and the held-out texts for validation.

    Its options are the fields of `DataConfig`, which a plan checks without importing torch. A subclass chosen with
    `data._target_` receives the same arguments; training supplies those before `options`.
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
        """Raises ArtifactError for a missing or damaged shard."""
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
        """Returns no loader where `validation_fraction` is 0, or so small that no text is held out."""
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
                f"data.context_length: {context_length:,} found; {store.folder} was packed into blocks of "
                f"{store.block_length:,} tokens; set tokens.block_length to the same"
            )


def document_ends(store: TokenStore) -> NDArray[np.int64]:
    """Returns, memory-mapped, the token after each document's last; ascending, the last is the store's length."""
    file = store.folder / DOCUMENT_ENDS
    try:
        ends: NDArray[np.int64] = np.load(file, mmap_mode="r")
    except (OSError, ValueError):
        raise ArtifactError(f"{file} cannot be read; remove {store.folder} and run the same command") from None
    if not len(ends) or int(ends[-1]) != len(store):
        raise ArtifactError(f"{file} does not end where its tokens do; remove {store.folder} and run the same command")
    return ends
