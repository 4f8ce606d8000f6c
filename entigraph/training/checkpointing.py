"""Sharded checkpoints: each rank writes its shard, and the folder is renamed to its final name once complete.

checkpoints/
    step-00000500/          complete: tensors saved with torch.distributed.checkpoint, everything else in trainer.pt
    .step-00001000          being written, possibly while training continues; a kill loses only this one
"""

import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from pathlib import Path, PosixPath
from typing import Any, cast

import torch
import torch.distributed as dist
from hydra.utils import get_object
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save, save
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from entigraph.errors import ArtifactError, EntigraphError
from entigraph.runtime.devices import free_memory
from entigraph.storage.artifact import Fence, lost_lease_error
from entigraph.storage.durable_files import sync_file
from entigraph.training.module import CausalLMModule

TRAINER_STATE = "trainer.pt"
STANDARD_CLASSES = (defaultdict, PosixPath, timedelta)
MAX_COPY_MEMORY = 0.8  # fraction of free memory for the copy of the state made by an async save


def local_tensor(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@contextmanager
def raise_original_error() -> Iterator[None]:
    """Re-raises the error inside a CheckpointException, which derives from BaseException; for example a full disk."""
    try:
        yield
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from error


class ShardedCheckpoints:
    """Mixin for Lightning strategies: every rank saves and loads its shard of weights and optimizer state in place.

    A checkpoint can be loaded by a run with the same `identity`: the data order and the storage format of weights. It
    contains the fencing token of the process that saved it, so that a process that lost its lease, for example because
    its host was suspended, does not continue from the checkpoint of its successor.
    """

    identity: Mapping[str, Any]
    fence: Fence
    async_saves: bool  # whether training continues while a checkpoint is written
    timeout: timedelta | None = None  # of collectives among ranks
    group: Any = None
    pending_save: Future[Any] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Returns the trained weights and the optimizer state by name."""
        module = cast(CausalLMModule, self.lightning_module)  # type: ignore[attr-defined]
        trained = [(name, weight) for name, weight in module.net.named_parameters() if weight.requires_grad]
        weights = {f"weights.{name}": weight.detach() for name, weight in trained}
        states = {name: value for name, value in self.optimizer_values().items() if isinstance(value, Tensor)}
        return weights | states

    def optimizer_values(self) -> dict[str, Any]:
        """Returns every entry of the optimizer state as `optimizer.<parameter>.<entry>`, created if necessary."""
        module = cast(CausalLMModule, self.lightning_module)  # type: ignore[attr-defined]
        (optimizer,) = self.optimizers  # type: ignore[attr-defined]
        initialize_state(optimizer)
        names = {parameter: name for name, parameter in module.net.named_parameters()}
        return {
            f"optimizer.{names[parameter]}.{key}": value
            for parameter in parameters_of(optimizer)
            for key, value in optimizer.state[parameter].items()
        }

    def non_tensor_optimizer_state(self) -> dict[str, Any]:
        """Returns the parameter groups without parameters (with the current learning rate), and non-tensor state."""
        (optimizer,) = self.optimizers  # type: ignore[attr-defined]
        groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        scalars = {name: value for name, value in self.optimizer_values().items() if not isinstance(value, Tensor)}
        return {"groups": groups, "numbers": scalars}

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        folder = Path(filepath)
        no_dist = not dist.is_initialized()
        self.wait_until_saved()
        self.reshard()
        state = self.non_tensor_optimizer_state()
        if self.is_global_zero:  # type: ignore[attr-defined]
            self.fence.check()
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            saved = {**checkpoint, "identity": dict(self.identity), "fencing_number": self.fence.number, **state}
            torch.save(saved, folder / TRAINER_STATE)
            sync_file(folder / TRAINER_STATE)
        if not no_dist:
            dist.barrier(self.group)
        options: dict[str, Any] = {"checkpoint_id": folder, "process_group": self.group, "no_dist": no_dist}
        tensors = self.tensors()
        with raise_original_error():
            if self.async_saves and self.has_memory_for_copy(tensors):
                # Copying ahead opens a stream on the current device, which is GPU 0 in the writer's thread of every
                # rank. The tensors are on the CPU already.
                writer = FileSystemWriter(folder, per_thread_copy_ahead=0)
                self.pending_save = cast("Future[Any]", async_save(tensors, storage_writer=writer, **options))
            else:
                save(tensors, **options)

    def reshard(self) -> None:
        """Frees weights that FSDP2 has gathered and registers the shards, which the optimizer's state refers to.

        After a validation, where no backward pass follows, some are still gathered.
        """
        for module in cast(CausalLMModule, self.lightning_module).losses.modules():  # type: ignore[attr-defined]
            if isinstance(module, FSDPModule):
                module.reshard()

    def wait_until_saved(self) -> None:
        """Waits for the checkpoint that is being written, if there is one, and raises its error."""
        if self.pending_save is not None:
            with raise_original_error():
                self.pending_save.result()
            self.pending_save = None

    def has_memory_for_copy(self, tensors: Mapping[str, Tensor]) -> bool:
        """Returns whether the machines of all ranks have memory for the copy of the state that an async save makes."""
        size = sum(local_tensor(tensor).nbytes for tensor in tensors.values())
        fits = torch.tensor(int(size * getattr(self, "num_processes", 1) < MAX_COPY_MEMORY * free_memory()))
        if dist.is_initialized():
            dist.all_reduce(fits, dist.ReduceOp.MIN, group=self.group)
        return bool(fits)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Loads a checkpoint. Raises ArtifactError if it is damaged or belongs to another run."""
        folder = Path(checkpoint_path)
        remedy = f"remove {folder.parent} and run the same command"
        try:
            with torch.serialization.safe_globals(self.state_classes(folder / TRAINER_STATE)):
                state: dict[str, Any] = torch.load(folder / TRAINER_STATE, map_location="cpu", weights_only=True)
            differing = {key: value for key, value in state["identity"].items() if value != self.identity[key]}
            if state.get("fencing_number", 0) > self.fence.number:
                raise lost_lease_error(self.fence.folder)
            if not differing:
                with raise_original_error():
                    load(self.tensors(), checkpoint_id=folder, no_dist=not dist.is_initialized())
                self.restore_non_tensor_state(state)
        except EntigraphError:
            raise
        except Exception as error:
            raise ArtifactError(f"{folder} is damaged ({type(error).__name__}); {remedy}") from error
        if differing:
            details = ", ".join(
                f"{key} is {value} there, {self.identity[key]} here" for key, value in differing.items()
            )
            raise ArtifactError(f"{folder} belongs to a different run: {details}; {remedy}, or restore its settings")
        return state

    def state_classes(self, file: Path) -> list[Any]:
        """Returns the classes that a checkpoint may contain beyond torch's: those of its callbacks' packages.

        Loading runs no other code, because an outputs folder may come from someone else.
        """
        callbacks = self.lightning_module.trainer.callbacks  # type: ignore[attr-defined]
        packages = {type(callback).__module__.partition(".")[0] for callback in callbacks}
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
        found = [get_object(name) for name in names if name.partition(".")[0] in packages]
        return [*STANDARD_CLASSES, *(kind for kind in found if isinstance(kind, type))]

    def restore_non_tensor_state(self, state: Mapping[str, Any]) -> None:
        (optimizer,) = self.optimizers  # type: ignore[attr-defined]
        for group, saved in zip(optimizer.param_groups, state["groups"], strict=True):
            group.update(saved)
        module = cast(CausalLMModule, self.lightning_module)  # type: ignore[attr-defined]
        for name, parameter in module.net.named_parameters():
            prefix = f"optimizer.{name}."
            for key, value in state["numbers"].items():
                if key.startswith(prefix):
                    optimizer.state[parameter][key.removeprefix(prefix)] = value

    # Disables Lightning's saving and loading of model and optimizer state, which the methods above replace.
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


def parameters_of(optimizer: torch.optim.Optimizer) -> list[Any]:
    return list(chain.from_iterable(group["params"] for group in optimizer.param_groups))


def initialize_state(optimizer: torch.optim.Optimizer) -> None:
    """Creates the state that an optimizer creates in its first step, so that a checkpoint can be loaded into it.

    The general case takes a step with zero gradients and zero learning rate. AdamW's state is created directly: the
    step would need memory for gradients of the model's size.
    """
    if type(optimizer) is torch.optim.AdamW and not optimizer.defaults["amsgrad"]:
        for parameter in parameters_of(optimizer):
            if not optimizer.state[parameter]:
                optimizer.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        return
    if any(optimizer.state[parameter] for parameter in parameters_of(optimizer)):
        return
    learning_rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0 * group["lr"]  # keeps a learning rate that is a tensor a tensor
    for parameter in parameters_of(optimizer):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for group, learning_rate in zip(optimizer.param_groups, learning_rates, strict=True):
        group["lr"] = learning_rate


def latest_checkpoint(folder: Path) -> Path | None:
    return max(folder.glob("step-*"), default=None)
