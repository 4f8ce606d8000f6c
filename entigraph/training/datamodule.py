"""Token shards → batches, in the order of the plan."""

import time
from collections.abc import Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray

from entigraph.errors import ArtifactError, ConfigError
from entigraph.storage.token_shards import DOCUMENT_ENDS, TokenStore
from entigraph.training.data_schedule import REPLAY, SOURCES, SYNTHETIC, DataSchedule
from entigraph.training.loss import IGNORED

Batch = dict[str, torch.Tensor]


class BatchLoader:
    """This rank's micro-batches of the plan.

    Every optimizer step is the same `batch_size` samples whatever the number of ranks; each rank reads its share. The
    state is one number, the samples handed out over all ranks: the same on every rank, so that any rank's copy
    restores it and the number of ranks may change.

    A batch holds `input_ids`, `labels` (the next tokens; IGNORED: no loss), `source` of each sample, `scale`, and with
    `document_mask` `position_ids`. A loss averaged over all positions, times `scale`, is the mean over those of the
    whole step that carry loss.
    """

    def __init__(
        self,
        plan: DataSchedule,
        stores: dict[int, TokenStore],
        micro_batch_size: int,
        rank: int = 0,
        ranks: int = 1,
        document_mask: bool = False,
        vocabulary: int | None = None,
    ) -> None:
        self.plan, self.stores, self.micro_batch_size = plan, stores, micro_batch_size
        self.rank, self.ranks, self.vocabulary = rank, ranks, vocabulary
        self.ends = {source: document_ends(store) for source, store in stores.items()} if document_mask else None
        self.partly_learned = document_mask or any(store.labels for store in stores.values())
        self.learned_in: dict[int, list[NDArray[np.uint8]]] = {}
        refuse_other_blocks(plan, stores)
        self.consumed = 0
        self.seconds = 0.0  # spent here while the trainer waited

    def __len__(self) -> int:
        return self.plan.samples // (self.micro_batch_size * self.ranks)

    def __iter__(self) -> Iterator[Batch]:
        stride = self.micro_batch_size * self.ranks
        while self.consumed < self.plan.samples:
            started = time.perf_counter()
            first = self.consumed + self.rank * self.micro_batch_size
            self.consumed += stride  # before the batch is used: a checkpoint is written after it was
            batch = self.batch(range(first, first + self.micro_batch_size))
            self.seconds += time.perf_counter() - started
            yield batch
        self.consumed = 0

    def batch(self, samples: range) -> Batch:
        length = self.plan.context_length
        tokens = np.empty((len(samples), length + 1), dtype=np.int64)
        highest = 0
        for row, sample in enumerate(samples):
            block = self.store(sample).read(self.start(sample), length + 1)
            highest = max(highest, int(block.max()))
            tokens[row] = block
        if self.vocabulary is not None and highest >= self.vocabulary:
            self.refuse_token(tokens, samples)
        blocks = torch.from_numpy(tokens)
        batch = {
            "input_ids": blocks[:, :-1],
            "labels": blocks[:, 1:],
            "source": torch.from_numpy(self.plan.order[0][samples.start : samples.stop].copy()),
            "scale": torch.tensor(1.0),
        }
        if self.ends:
            batch["position_ids"] = self.positions(samples)
        return self.labeled(batch, samples) if self.partly_learned else batch

    def labeled(self, batch: Batch, samples: range) -> Batch:
        size = self.plan.batch_size
        step = samples.start // size
        if step not in self.learned_in:  # of one step at a time: its micro-batches share it
            self.learned_in = {step: [self.learned(sample) for sample in range(step * size, (step + 1) * size)]}
        learned = self.learned_in[step]
        labels = batch["labels"].numpy().copy()
        for row, sample in enumerate(samples):
            np.putmask(labels[row], learned[sample % size] == 0, IGNORED)
        counted = sum(int(np.count_nonzero(row)) for row in learned)
        scale = torch.tensor(self.plan.context_length * size / max(1, counted))
        return {**batch, "labels": torch.from_numpy(labels), "scale": scale}

    def learned(self, sample: int) -> NDArray[np.uint8]:
        """1 for each of a sample's next tokens that carries loss."""
        length = self.plan.context_length
        stated = self.store(sample).read_labels(self.start(sample) + 1, length)
        learned = np.ones(length, dtype=np.uint8) if stated is None else stated
        if self.ends:
            learned = learned.copy()
            learned[self.beginnings(sample) - 1] = 0
        return learned

    def positions(self, samples: range) -> torch.Tensor:
        """Counted from each document's beginning."""
        length = self.plan.context_length
        positions = np.tile(np.arange(length), (len(samples), 1))
        for row, sample in enumerate(samples):
            for beginning in self.beginnings(sample):
                positions[row, beginning:] = np.arange(max(0, length - beginning))
        return torch.from_numpy(positions)

    def store(self, sample: int) -> TokenStore:
        return self.stores[int(self.plan.order[0][sample])]

    def start(self, sample: int) -> int:
        """The token of its source at which a sample begins: that of its block where texts lie whole in blocks."""
        start, block = int(self.plan.starts[sample]), self.store(sample).block_length
        return start - start % block if block else start

    def beginnings(self, sample: int) -> NDArray[np.int64]:
        """Where documents begin after a sample's first token, up to and with the token behind its last."""
        assert self.ends is not None
        source = int(self.plan.order[0][sample])
        ends, first = self.ends[source], self.start(sample)
        last, total = first + self.plan.context_length, int(ends[-1])
        found = [
            ends[np.searchsorted(ends, first - turn, "right") : np.searchsorted(ends, last - turn, "right")] + turn
            for turn in range(0, last + 1, total)
        ]
        result: NDArray[np.int64] = np.concatenate(found) - first
        return result

    def refuse_token(self, tokens: NDArray[np.int64], samples: range) -> None:
        row, place = (int(found[0]) for found in np.nonzero(tokens >= (self.vocabulary or 0)))
        source = int(self.plan.order[0][samples[row]])
        folder = self.stores[source].folder
        raise ArtifactError(
            f"{folder}: the {SOURCES[source]} tokens hold the id {tokens[row, place]:,} near token "
            f"{self.start(samples[row]) + place:,}; the tokenizer has {self.vocabulary:,}. A shard is "
            f"damaged: remove {folder} and run the same command"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"consumed": self.consumed, "fingerprint": self.plan.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self.plan.fingerprint:
            raise ArtifactError(
                "the checkpoint was written for another data order; remove its checkpoints folder and run again"
            )
        self.consumed = state["consumed"]


def refuse_other_blocks(plan: DataSchedule, stores: dict[int, TokenStore]) -> None:
    for store in stores.values():
        if store.block_length not in (None, plan.context_length):
            raise ConfigError(
                f"data.context_length: {plan.context_length:,} found; {store.folder} was packed into blocks of "
                f"{store.block_length:,} tokens; set tokens.block_length to the same"
            )


def document_ends(store: TokenStore) -> NDArray[np.int64]:
    """Memory-mapped: the token behind each document's last; ascending, the last is the store's length."""
    file = store.folder / DOCUMENT_ENDS
    try:
        ends: NDArray[np.int64] = np.load(file, mmap_mode="r")
    except (OSError, ValueError):
        raise ArtifactError(f"{file} cannot be read; remove {store.folder} and run the same command") from None
    if not len(ends) or int(ends[-1]) != len(store):
        raise ArtifactError(f"{file} does not end where its tokens do; remove {store.folder} and run the same command")
    return ends


class SyntheticDataModule(L.LightningDataModule):
    """The synthetic tokens and, where the plan has any, the replay tokens."""

    def __init__(
        self,
        plan: DataSchedule,
        synthetic: TokenStore,
        replay: TokenStore | None,
        micro_batch_size: int,
        document_mask: bool = False,
        vocabulary: int | None = None,
    ) -> None:
        super().__init__()
        self.plan, self.micro_batch_size = plan, micro_batch_size
        self.document_mask, self.vocabulary = document_mask, vocabulary
        self.stores = {SYNTHETIC: synthetic} | ({REPLAY: replay} if replay else {})

    def train_dataloader(self) -> BatchLoader:
        assert self.trainer is not None
        self.loader = BatchLoader(
            self.plan,
            self.stores,
            self.micro_batch_size,
            rank=self.trainer.global_rank,
            ranks=self.trainer.world_size,
            document_mask=self.document_mask,
            vocabulary=self.vocabulary,
        )
        return self.loader
