"""Token shards → batches, in the order of the plan."""

from collections.abc import Iterator
from typing import Any

import lightning as L
import numpy as np
import torch

from entigraph.errors import ArtefactError
from entigraph.shards import TokenStore
from entigraph.training.plan import REPLAY, SYNTHETIC, Plan

Batch = dict[str, torch.Tensor]


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
        for row, sample in enumerate(samples):
            tokens[row] = self.stores[int(sources[sample])].read(int(self.plan.starts[sample]), length + 1)
        blocks = torch.from_numpy(tokens)
        return {
            "input_ids": blocks[:, :-1],
            "labels": blocks[:, 1:],
            "source": torch.from_numpy(sources[samples.start : samples.stop].copy()),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"consumed": self.consumed, "fingerprint": self.plan.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self.plan.fingerprint:
            raise ArtefactError(
                "the checkpoint was written for another data order; remove its checkpoints folder and run again"
            )
        self.consumed = state["consumed"]


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
