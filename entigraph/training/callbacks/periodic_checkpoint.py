"""Saves a checkpoint every N optimizer steps and on SIGTERM."""

import os
import shutil
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Checkpoint

from entigraph.runtime.processes import Preempted
from entigraph.storage.artifact import CHECKPOINTS
from entigraph.storage.durable_files import sync_folder
from entigraph.training.checkpointing import ShardedCheckpoints
from entigraph.training.module import is_last_step, is_step_end


class PeriodicCheckpoint(Checkpoint):
    """Keeps only the latest checkpoint; the previous one is removed once it is complete. SIGTERM saves and exits.

    Lightning runs `Checkpoint` callbacks last, so that a step is checked for non-finite values before it is saved.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self.unfinished: Path | None = None  # the checkpoint that is being written
        self.stop_requested = False
        self.previous_handler: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.folder = Path(trainer.default_root_dir) / CHECKPOINTS
        strategy = checkpoint_strategy(trainer)
        if dist.is_initialized():
            # Async saves must not share the process group of training.
            strategy.group = dist.new_group(backend="gloo", timeout=strategy.timeout)
            self.sigterm_group = dist.new_group(backend="gloo", timeout=strategy.timeout)
        if trainer.is_global_zero and self.folder.exists():
            for unfinished in self.folder.glob(".step-*"):
                shutil.rmtree(unfinished)
        if threading.current_thread() is threading.main_thread():
            self.previous_handler = signal.signal(signal.SIGTERM, self.on_sigterm)

    def on_sigterm(self, *args: Any) -> None:
        self.stop_requested = True

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if not is_step_end(trainer):
            return
        self.finish_if_written(trainer)
        step, last, stop = trainer.global_step, is_last_step(trainer), self.any_rank_must_stop()
        if not last and (stop or step % self.every_n_steps == 0):
            self.save(trainer, step)
        if stop and not last:
            self.finish(trainer)
            raise Preempted

    def any_rank_must_stop(self) -> bool:
        """Returns whether any rank received SIGTERM: all ranks must save the same step."""
        if not dist.is_initialized():
            return self.stop_requested
        requested = torch.tensor(int(self.stop_requested))
        dist.all_reduce(requested, dist.ReduceOp.MAX, group=self.sigterm_group)
        return bool(requested)

    def save(self, trainer: L.Trainer, step: int) -> None:
        self.finish(trainer)
        unfinished = self.folder / f".step-{step:08}"
        trainer.save_checkpoint(unfinished)
        self.unfinished = unfinished  # not before: after an error, `finish` would take it for complete
        self.finish_if_written(trainer)

    def finish_if_written(self, trainer: L.Trainer) -> None:
        pending_save = checkpoint_strategy(trainer).pending_save
        if pending_save is None or pending_save.done():
            self.finish(trainer)

    def finish(self, trainer: L.Trainer) -> None:
        """Waits until the checkpoint is written, renames it to its final name, and removes older ones."""
        strategy = checkpoint_strategy(trainer)
        strategy.wait_until_saved()
        if self.unfinished is None:
            return
        # Rank 0 writes the metadata after gathering the results of all ranks, so when it is done, all are.
        if trainer.is_global_zero:
            strategy.fence.check()
            final = self.unfinished.with_name(self.unfinished.name.removeprefix("."))
            sync_folder(self.unfinished)
            os.replace(self.unfinished, final)
            sync_folder(self.folder)  # before the previous checkpoint is removed
            for old in self.folder.glob("step-*"):
                if old != final:
                    shutil.rmtree(old)
        self.unfinished = None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.finish(trainer)
        if self.previous_handler is not None:
            signal.signal(signal.SIGTERM, self.previous_handler)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Keeps the checkpoint that is being written, unless that would wait for other ranks, which may have died."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            with suppress(Exception):  # the first exception is reported
                self.finish(trainer)


def checkpoint_strategy(trainer: L.Trainer) -> ShardedCheckpoints:
    return cast(ShardedCheckpoints, trainer.strategy)
