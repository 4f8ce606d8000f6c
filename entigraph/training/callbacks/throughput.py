"""How a run goes: its metrics, and the end of one that diverges."""

import json
import math
import time
from collections.abc import Callable
from typing import Any, cast

import lightning as L
import torch
import torch.distributed as dist

from entigraph.runtime.progress import Advance
from entigraph.training.checkpointing import at_step_end
from entigraph.training.data_schedule import DataSchedule
from entigraph.training.datamodule import SyntheticDataModule
from entigraph.training.memory import flops_per_token
from entigraph.training.model_checks import NonFiniteLossError
from entigraph.training.module import CausalLMModule, Samples, means
from entigraph.training.training_job import TrainingJob

METRICS = "metrics.jsonl"
Record = Callable[[dict[str, float]], None]


class Metrics(L.Callback):
    """Losses, speed and memory, to metrics.jsonl first and to `record` second; rank 0 writes for all ranks."""

    def __init__(self, job: TrainingJob, plan: DataSchedule, precision: str, record: Record, advance: Advance) -> None:
        self.file, self.every_steps = job.out / METRICS, job.trainer.log_every_n_steps
        self.record, self.advance = record, advance
        self.step_tokens = plan.batch_size * plan.context_length
        self.context_length, self.bf16 = plan.context_length, precision != "32-true"
        self.finite = FiniteCheck()

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            for line in keep_metrics_until(self.file, trainer.global_step):
                self.record(line)  # a kill may have come before it
        self.advance(trainer.global_step * self.step_tokens)
        self.flops = flops_per_token(cast(CausalLMModule, module).net.config.to_dict(), self.context_length)
        self.peak = peak_flops(module.device, self.bf16)
        self.since, self.since_step, self.waited = time.perf_counter(), trainer.global_step, 0.0

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *args: Any) -> None:
        if not at_step_end(trainer):
            return
        self.advance(self.step_tokens)
        assert isinstance(module, CausalLMModule) and module.grad_norm is not None
        step = trainer.global_step
        samples = module.step_samples()
        logs = step % self.every_steps == 0 or step == trainer.max_steps
        self.finite.look(step, samples[0].mean(), module.grad_norm, wait=logs)
        if not logs:
            return
        whole = from_all_ranks(samples)
        now = time.perf_counter()
        seconds, steps = now - self.since, step - self.since_step
        waited = cast(SyntheticDataModule, cast(Any, trainer).datamodule).loader.seconds
        speed = steps * self.step_tokens / seconds
        line = {
            "step": step,
            "tokens_seen": step * self.step_tokens,
            **means(whole),
            "grad_norm": module.grad_norm.item(),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "tokens_per_second": speed,
            "waiting_for_data": (waited - self.waited) / seconds,
            "peak_memory_gib": peak_memory(module.device) / 2**30,
        }
        if self.flops and self.peak:
            line["mfu"] = speed * self.flops / (self.peak * trainer.world_size)
        self.since, self.since_step, self.waited = now, step, waited
        if trainer.is_global_zero:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self.record(line)

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.finite.settle()  # nothing that is no number is ever saved


class FiniteCheck:
    """Looks at each step's loss and gradient norm without making the GPU wait: their copy is read one step later."""

    def __init__(self) -> None:
        self.step = 0
        self.copy: torch.Tensor | None = None
        self.arrived: Any = None

    def look(self, step: int, loss: torch.Tensor, norm: torch.Tensor, wait: bool) -> None:
        self.settle()
        values = torch.stack([loss.float(), norm.float()])
        self.step = step
        if values.is_cuda:
            self.copy = torch.empty(2, pin_memory=True).copy_(values, non_blocking=True)
            self.arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.arrived.record()
        else:
            self.copy, wait = values, True
        if wait:
            self.settle()

    def settle(self) -> None:
        """Raises NonFiniteLossError where the last step that was looked at has a value that is no number."""
        if self.copy is None:
            return
        if self.arrived is not None:
            self.arrived.synchronize()
        loss, norm = self.copy.tolist()
        self.copy = self.arrived = None
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NonFiniteLossError(
                f"training diverged at step {self.step}: loss {loss}, gradient norm {norm}. Nothing of it was saved. "
                "Lower optim.lr, or use trainer.precision=32-true"
            )


def from_all_ranks(samples: Samples) -> Samples:
    """Of the whole step, alike on every rank."""
    if not dist.is_initialized():
        return samples
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, tuple(part.cpu() for part in samples))
    losses, sources, counted = (torch.cat(parts) for parts in zip(*found, strict=True))
    return losses, sources, counted


def keep_metrics_until(file: Any, step: int) -> list[dict[str, float]]:
    """Lines beyond the checkpoint that a killed run had written are written again by this one; returns the others."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    whole = [(line, json.loads(line)) for line in lines if line.endswith("\n")]
    kept = [(line, values) for line, values in whole if values["step"] <= step]
    file.write_text("".join(line for line, _ in kept), encoding="utf-8")
    return [values for _, values in kept]


def peak_flops(device: torch.device, bf16: bool) -> float | None:
    """Of one device, by its datasheet; None where it is not known."""
    if device.type != "cuda":
        return None
    from lightning.fabric.utilities.throughput import get_available_flops

    return get_available_flops(device, torch.bfloat16 if bf16 else torch.float32)


def peak_memory(device: torch.device) -> int:
    """Bytes: of the GPU what torch had allocated at most, of a CPU process its largest resident size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
