"""What a run does besides training: it keeps checkpoints and says how it goes."""

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L

from entigraph.errors import EntigraphError
from entigraph.progress import Advance
from entigraph.training.module import CausalLM
from entigraph.training.plan import Plan

Record = Callable[[dict[str, float]], None]


class DivergedError(EntigraphError):
    pass


class Checkpoints(L.Callback):
    """The newest checkpoint only; it gets its name when it is whole, and its predecessor goes after that."""

    def __init__(self, folder: Path, every_steps: int) -> None:
        self.folder, self.every_steps = folder, every_steps

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *args: Any) -> None:
        step = trainer.global_step
        last = step == trainer.max_steps
        if step % self.every_steps or last or not at_step_end(trainer):
            return
        self.folder.mkdir(exist_ok=True)
        target = self.folder / f"step-{step:08}.ckpt"
        unfinished = self.folder / f".{target.name}"
        trainer.save_checkpoint(unfinished)
        os.replace(unfinished, target)
        for old in self.folder.glob("step-*.ckpt"):
            if old != target:
                old.unlink()


def newest_checkpoint(folder: Path) -> Path | None:
    return max(folder.glob("step-*.ckpt"), default=None)


class Metrics(L.Callback):
    """Loss, gradient norm, learning rate and speed, to metrics.jsonl first and to the tracker second."""

    def __init__(self, file: Path, plan: Plan, every_steps: int, record: Record, advance: Advance) -> None:
        self.file, self.plan, self.every_steps = file, plan, every_steps
        self.record, self.advance = record, advance
        self.step_tokens = plan.batch_size * plan.context_length

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Lines beyond the checkpoint that a killed run had written are written again by this one."""
        lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True) if self.file.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= trainer.global_step]
        self.file.write_text("".join(kept), encoding="utf-8")
        self.advance(trainer.global_step * self.step_tokens)
        self.since, self.since_step = time.perf_counter(), trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *args: Any) -> None:
        if not at_step_end(trainer):
            return
        self.advance(self.step_tokens)
        step = trainer.global_step
        assert isinstance(module, CausalLM) and module.grad_norm is not None
        if step % self.every_steps and step != trainer.max_steps:
            module.seen.clear()
            return
        now = time.perf_counter()
        values = module.step_losses() | {"grad_norm": module.grad_norm.item()}
        if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
            raise DivergedError(
                f"training diverged at step {step}: loss {values['loss']}, gradient norm {values['grad_norm']}. "
                "Lower optim.lr, or use trainer.precision=32-true"
            )
        line = {
            "step": step,
            "tokens_seen": step * self.step_tokens,
            **values,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "tokens_per_second": (step - self.since_step) * self.step_tokens / (now - self.since),
        }
        self.since, self.since_step = now, step
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.record(line)


def at_step_end(trainer: L.Trainer) -> bool:
    """Not between the micro-batches of one optimiser step."""
    return not trainer.fit_loop._should_accumulate()
