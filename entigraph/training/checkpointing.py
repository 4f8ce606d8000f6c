"""Checkpoints: each rank writes its share, and a folder gets its name when all of it is there.

checkpoints/
    step-00000500/          whole: tensors by torch.distributed.checkpoint, trainer.pt for everything small
    .step-00001000          being written, perhaps while training goes on; a kill costs nothing but this
"""

import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy, SingleDeviceStrategy
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save, save
from torch.distributed.tensor import DTensor

from entigraph.errors import ArtifactError, EntigraphError
from entigraph.runtime.processes import Preempted
from entigraph.training.module import CausalLMModule
from entigraph.training.optim.split_bf16_adamw import prepared

SMALL = "trainer.pt"
FREE_SHARE = 0.8  # of a machine's free memory that a copy of the state may take


def free_memory() -> float:
    """Bytes that this machine could still give to processes; infinite where the system does not say (not Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    return float(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))) * 1024


def local_part(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@contextmanager
def plain_errors() -> Iterator[None]:
    """What torch wraps in a CheckpointException, which is no Exception, is raised as what it was: a full disk."""
    try:
        yield
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from error


class ShardedCheckpoints:
    """For a Lightning strategy: weights and optimizer state go to and from a checkpoint in place, rank by rank.

    `identity` is what must be alike for a checkpoint to fit: the order of the data, and how weights are kept.
    """

    identity: Mapping[str, Any]
    background: bool
    group: Any = None
    saving: Future[Any] | None = None

    def tensors(self) -> dict[str, Tensor]:
        module = cast(CausalLMModule, self.lightning_module)  # type: ignore[attr-defined]
        (optimizer,) = self.optimizers  # type: ignore[attr-defined]
        prepared(optimizer)
        names = {parameter: name for name, parameter in module.net.named_parameters()}
        found = {f"weights.{name}": parameter.detach() for parameter, name in names.items()}
        for parameter in chain.from_iterable(group["params"] for group in optimizer.param_groups):
            for key, value in optimizer.state[parameter].items():
                found[f"optimizer.{names[parameter]}.{key}"] = value
        return found

    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's numbers (its learning rate now), without parameters."""
        (optimizer,) = self.optimizers  # type: ignore[attr-defined]
        return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        folder = Path(filepath)
        alone = not dist.is_initialized()
        if self.is_global_zero:  # type: ignore[attr-defined]
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            torch.save({**checkpoint, "identity": dict(self.identity), "groups": self.groups()}, folder / SMALL)
        if not alone:
            dist.barrier(self.group)
        options = {"checkpoint_id": folder, "process_group": self.group, "no_dist": alone}
        tensors = self.tensors()
        with plain_errors():
            if self.background and self.can_copy(tensors):
                self.saving = cast("Future[Any]", async_save(tensors, **options))
            else:
                save(tensors, **options)

    def can_copy(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether every rank's machine has memory for what a save in the background sets aside: all of the state."""
        size = sum(local_part(tensor).nbytes for tensor in tensors.values())
        room = torch.tensor(int(size * getattr(self, "num_processes", 1) < FREE_SHARE * free_memory()))
        if dist.is_initialized():
            dist.all_reduce(room, dist.ReduceOp.MIN, group=self.group)
        return bool(room)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Raises ArtifactError for a damaged one, and for one of another run."""
        folder = Path(checkpoint_path)
        mend = f"remove {folder.parent} and run the same command"
        try:
            small: dict[str, Any] = torch.load(folder / SMALL, map_location="cpu", weights_only=False)
            other = {key: value for key, value in small["identity"].items() if value != self.identity[key]}
            if not other:
                with plain_errors():
                    load(self.tensors(), checkpoint_id=folder, no_dist=not dist.is_initialized())
                for group, saved in zip(self.optimizers[0].param_groups, small["groups"], strict=True):  # type: ignore[attr-defined]
                    group.update(saved)
        except EntigraphError:
            raise
        except Exception as error:
            raise ArtifactError(f"{folder} is damaged ({type(error).__name__}); {mend}") from error
        if other:
            differing = ", ".join(f"{key} {found}, this run has {self.identity[key]}" for key, found in other.items())
            raise ArtifactError(f"{folder} was written for another run: {differing}; {mend}, or set what differs back")
        return small

    # Lightning's own ways with model and optimizer state: nothing to do beside the above.
    lightning_restore_optimizer = False
    restore_checkpoint_after_setup = True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return {}

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        return {}

    def load_model_state_dict(self, checkpoint: Any, strict: bool = True) -> None:
        pass

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        pass


class ExactSingleDeviceStrategy(ShardedCheckpoints, SingleDeviceStrategy):
    pass


class FSDP2Strategy(ShardedCheckpoints, ModelParallelStrategy):
    """FSDP2: every rank holds its share of each weight, and its share of the optimizer's state."""


class Checkpoints(L.Callback):
    """The newest checkpoint only; its predecessor goes when it is whole. SIGTERM saves and leaves."""

    def __init__(self, folder: Path, every_steps: int) -> None:
        self.folder, self.every_steps = folder, every_steps
        self.unsealed: Path | None = None
        self.asked_to_stop = False
        self.handler: Any = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        strategy = strategy_of(trainer)
        if dist.is_initialized():
            strategy.group = dist.new_group(backend="gloo")  # a background save and training must not share one
            self.signals = dist.new_group(backend="gloo")
        if trainer.is_global_zero and self.folder.exists():
            for unfinished in self.folder.glob(".step-*"):
                shutil.rmtree(unfinished)
        if threading.current_thread() is threading.main_thread():
            self.handler = signal.signal(signal.SIGTERM, self.on_sigterm)

    def on_sigterm(self, *args: Any) -> None:
        self.asked_to_stop = True

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *args: Any) -> None:
        if not at_step_end(trainer):
            return
        self.seal_if_done(trainer)
        step = trainer.global_step
        last, stop = step == trainer.max_steps, self.agreed_to_stop()
        if not last and (stop or step % self.every_steps == 0):
            self.save(trainer, step)
        if stop and not last:
            self.finalize(trainer)
            raise Preempted

    def agreed_to_stop(self) -> bool:
        """Whether any rank was asked to: all must save the same step."""
        if not dist.is_initialized():
            return self.asked_to_stop
        asked = torch.tensor(int(self.asked_to_stop))
        dist.all_reduce(asked, dist.ReduceOp.MAX, group=self.signals)
        return bool(asked)

    def save(self, trainer: L.Trainer, step: int) -> None:
        self.finalize(trainer)
        self.folder.mkdir(exist_ok=True)
        self.unsealed = self.folder / f".step-{step:08}"
        trainer.save_checkpoint(self.unsealed)
        self.seal_if_done(trainer)

    def seal_if_done(self, trainer: L.Trainer) -> None:
        saving = strategy_of(trainer).saving
        if saving is None or saving.done():
            self.finalize(trainer)

    def finalize(self, trainer: L.Trainer) -> None:
        """Wait until it is written, name it, and remove its predecessors."""
        if self.unsealed is None:
            return
        strategy = strategy_of(trainer)
        if strategy.saving is not None:
            with plain_errors():
                strategy.saving.result()
            strategy.saving = None
        # Rank 0 gathers what the others wrote before it writes the index, so its end is the end of all.
        if trainer.is_global_zero:
            named = self.unsealed.with_name(self.unsealed.name.removeprefix("."))
            os.replace(self.unsealed, named)
            for old in self.folder.glob("step-*"):
                if old != named:
                    shutil.rmtree(old)
        self.unsealed = None

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.finalize(trainer)
        if self.handler is not None:
            signal.signal(signal.SIGTERM, self.handler)


def strategy_of(trainer: L.Trainer) -> ShardedCheckpoints:
    return cast(ShardedCheckpoints, trainer.strategy)


def newest_checkpoint(folder: Path) -> Path | None:
    return max(folder.glob("step-*"), default=None)


def at_step_end(trainer: L.Trainer) -> bool:
    """Not between the micro-batches of one optimizer step."""
    return not trainer.fit_loop._should_accumulate()
