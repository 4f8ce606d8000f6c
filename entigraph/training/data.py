"""Token shards → batches, in the order of the plan."""

from collections.abc import Iterator
from typing import Any

import lightning as L
import numpy as np
import torch

from entigraph.errors import ArtefactError, ConfigError
from entigraph.shards import TokenStore
from entigraph.training.plan import REPLAY, SYNTHETIC, Plan

Batch = dict[str, torch.Tensor]
IGNORED = -100  # a label that carries no loss


class PlanLoader:
    """This rank's micro-batches of the plan.

    Its state is one number, the samples handed out over all ranks: the same on every rank, so that any rank's copy
    restores it and the number of ranks may change.
    """

    def __init__(
        self, plan: Plan, stores: dict[int, TokenStore], micro_batch_size: int, rank: int = 0, ranks: int = 1
    ) -> None:
        self.plan, self.stores, self.micro_batch_size = plan, stores, micro_batch_size
        self.rank, self.ranks = rank, ranks
        self.consumed = 0
        refuse_other_blocks(plan, stores)

    def __len__(self) -> int:
        return self.plan.samples // (self.micro_batch_size * self.ranks)

    def __iter__(self) -> Iterator[Batch]:
        stride = self.micro_batch_size * self.ranks
        while self.consumed < self.plan.samples:
            first = self.consumed + self.rank * self.micro_batch_size
            self.consumed += stride  # before the batch is used: a checkpoint is written after it was
            yield self.batch(range(first, first + self.micro_batch_size))
        self.consumed = 0

    def batch(self, samples: range) -> Batch:
        length = self.plan.context_length
        tokens = np.empty((len(samples), length + 1), dtype=np.int64)
        sources, _ = self.plan.order
        stores = [self.stores[int(sources[sample])] for sample in samples]
        starts = [self.start(sample) for sample in samples]
        for row, (store, start) in enumerate(zip(stores, starts, strict=True)):
            tokens[row] = store.read(start, length + 1)
        labels = tokens[:, 1:]
        if any(store.labels for store in stores):
            labels = labels.copy()
            for row, (store, start) in enumerate(zip(stores, starts, strict=True)):
                if (learnt := store.read_labels(start + 1, length)) is not None:
                    np.putmask(labels[row], learnt == 0, IGNORED)
        return {
            "input_ids": torch.from_numpy(tokens)[:, :-1],
            "labels": torch.from_numpy(labels),
            "source": torch.from_numpy(sources[samples.start : samples.stop].copy()),
        }

    def start(self, sample: int) -> int:
        """The token of its source at which a sample begins: that of its block where texts lie whole in blocks."""
        store = self.stores[int(self.plan.order[0][sample])]
        start = int(self.plan.starts[sample])
        return start - start % store.block_length if store.block_length else start

    def state_dict(self) -> dict[str, Any]:
        return {"consumed": self.consumed, "fingerprint": self.plan.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self.plan.fingerprint:
            raise ArtefactError(
                "the checkpoint was written for another data order; remove its checkpoints folder and run again"
            )
        self.consumed = state["consumed"]


def refuse_other_blocks(plan: Plan, stores: dict[int, TokenStore]) -> None:
    for store in stores.values():
        if store.block_length not in (None, plan.context_length):
            raise ConfigError(
                f"data.context_length: {plan.context_length:,} found; {store.folder} was packed into blocks of "
                f"{store.block_length:,} tokens; set tokens.block_length to the same"
            )


class SyntheticCorpus(L.LightningDataModule):
    """The synthetic tokens and, where the plan has any, the replay tokens."""

    def __init__(self, plan: Plan, synthetic: TokenStore, replay: TokenStore | None, micro_batch_size: int) -> None:
        super().__init__()
        self.plan, self.micro_batch_size = plan, micro_batch_size
        self.stores = {SYNTHETIC: synthetic} | ({REPLAY: replay} if replay else {})

    def train_dataloader(self) -> PlanLoader:
        assert self.trainer is not None
        return PlanLoader(
            self.plan, self.stores, self.micro_batch_size, rank=self.trainer.global_rank, ranks=self.trainer.world_size
        )
