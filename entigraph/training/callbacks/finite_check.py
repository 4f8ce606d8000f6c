"""Stops a run whose loss or gradient norm is NaN or infinite."""

import math
from typing import Any, cast

import lightning as L
import torch

from entigraph.training.model_checks import NonFiniteLossError
from entigraph.training.module import CausalLMModule, is_logging_step, is_step_end


class FiniteCheck(L.Callback):
    """Checks loss and gradient norm of each step without synchronizing the GPU: values are read one step later."""

    def __init__(self) -> None:
        self.step = 0
        self.copy: torch.Tensor | None = None
        self.copy_event: Any = None  # recorded on the CUDA stream after the copy

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        module = cast(CausalLMModule, pl_module)
        if not is_step_end(trainer) or module.step_losses is None or module.grad_norm is None:
            return
        self.check_last_step()
        loss = module.step_losses[0].mean().float()
        values = torch.stack([loss, module.grad_norm.float().to(loss.device)])  # of the CPU, with trainer.cpu_offload
        self.step = trainer.global_step
        if values.is_cuda:
            self.copy = torch.empty(2, pin_memory=True).copy_(values, non_blocking=True)
            self.copy_event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.copy_event.record()
        else:
            self.copy = values
        if not values.is_cuda or is_logging_step(trainer):
            self.check_last_step()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.check_last_step()  # never saves non-finite weights

    def check_last_step(self) -> None:
        """Raises NonFiniteLossError if the last copied values are not finite."""
        if self.copy is None:
            return
        if self.copy_event is not None:
            self.copy_event.synchronize()
        loss, norm = self.copy.tolist()
        self.copy = self.copy_event = None
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NonFiniteLossError(
                f"training: non-finite loss at step {self.step}: loss {loss}, gradient norm {norm}. This step was not "
                "saved. Lower optim.lr, or set trainer.precision=32-true"
            )
