"""Speed and memory of a training run."""

import resource
import sys
import time
from typing import Any, cast

import lightning as L
import torch

from entigraph.training.datamodule import SyntheticDataModule
from entigraph.training.memory import datasheet_flops, flops_per_token
from entigraph.training.module import CausalLMModule, float64, is_logging_step, is_step_end


class Throughput(L.Callback):
    """Logs tokens per second, the fraction of time spent waiting for data, peak memory, and MFU if it is defined.

    Model FLOPs utilization (MFU) is defined for 16-bit training of Llama-like models on the GPUs in `memory.PEAKS`.
    """

    time = validation_start = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.data = cast(SyntheticDataModule, cast(Any, trainer).datamodule)
        schedule = self.data.schedule
        self.tokens_per_step = schedule.batch_size * schedule.context_length
        module = cast(CausalLMModule, pl_module)
        frozen = not all(parameter.requires_grad for parameter in module.net.parameters())
        self.flops_per_token = flops_per_token(module.net.config.to_dict(), schedule.context_length, frozen)
        self.device = trainer.strategy.root_device  # with trainer.cpu_offload, the module is on the CPU
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.peak = peak_flops(self.device, module.compute_dtype)
        self.time, self.step, self.waited = time.perf_counter(), trainer.global_step, 0.0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if not (is_step_end(trainer) and is_logging_step(trainer)):
            return
        now, step, waited = time.perf_counter(), trainer.global_step, self.data.loader.seconds
        elapsed = now - self.time
        tokens_per_second = (step - self.step) * self.tokens_per_step / elapsed
        values = {
            "tokens_per_second": tokens_per_second,
            "waiting_for_data": (waited - self.waited) / elapsed,
            "peak_memory_gib": peak_memory(self.device) / 2**30,
        }
        if self.flops_per_token and self.peak:
            values["mfu"] = tokens_per_second * self.flops_per_token / (self.peak * trainer.world_size)
        pl_module.log_dict({name: float64(value) for name, value in values.items()}, on_step=True, batch_size=1)
        self.time, self.step, self.waited = now, step, waited

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.validation_start = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.time += time.perf_counter() - self.validation_start  # validation is no part of the speed


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Returns the peak FLOP/s of one GPU by its datasheet; None if unknown, and for fp32."""
    if device.type != "cuda" or dtype == torch.float32:
        return None
    return datasheet_flops(torch.cuda.get_device_name(device))


def peak_memory(device: torch.device) -> int:
    """Returns the peak memory in bytes: allocated by torch on a GPU, the resident set size of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
