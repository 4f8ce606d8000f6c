"""LightningModule that trains a Hugging Face causal language model on packed sequences."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from entigraph.errors import ConfigError
from entigraph.training.component_errors import construction_errors
from entigraph.training.data_schedule import SOURCES
from entigraph.training.datamodule import Batch
from entigraph.training.loss import IGNORED, TokenLosses
from entigraph.training.optim import OptimizerFactory, parameter_groups
from entigraph.training.optim.schedules import SchedulerFactory, build_scheduler
from entigraph.training.optim.split_bf16_adamw import SplitBF16AdamW, split_weights

SequenceLosses = tuple[Tensor, Tensor, Tensor]  # per sequence: mean loss, source, fraction of tokens in the loss


class CausalLMModule(L.LightningModule):
    """Trains `net`. A subclass set with `module._target_` receives the same arguments.

    `num_training_steps` comes from the data schedule, not from Lightning's estimate. `shard` shards the model over a
    device mesh. With `split_bf16`, weights are bf16 and their low 16 bits are stored in the optimizer, which
    accumulates gradients in fp32 if `fp32_gradients`. `config` is saved as the hyperparameters.

    Logs `loss`, `loss_synthetic`, `loss_replay`, `grad_norm` and `lr` every `trainer.log_every_n_steps` optimizer
    steps and at the last one, and `val_loss` (mean over tokens) after each validation.
    """

    def __init__(
        self,
        net: PreTrainedModel,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        num_training_steps: int,
        seed: int = 0,
        split_bf16: bool = False,
        fp32_gradients: bool = False,
        compute_dtype: torch.dtype = torch.float32,
        shard: Callable[[TokenLosses, Any], None] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(dict(config or {}))
        self.losses = TokenLosses(net)
        self.optimizer_factory, self.scheduler_factory = optimizer, scheduler
        self.num_training_steps, self.seed, self.shard = num_training_steps, seed, shard
        self.low_halves = split_weights(net) if split_bf16 else None
        self.fp32_gradients, self.compute_dtype = fp32_gradients, compute_dtype
        self.grad_norm: Tensor | None = None
        self.micro_batches: list[SequenceLosses] = []  # of the optimizer step in progress
        self.metrics: dict[str, float] = {}  # of the last logged or saved optimizer step
        self.step_losses: SequenceLosses | None = None  # of the last optimizer step, this rank's sequences

    @property
    def net(self) -> PreTrainedModel:
        return self.losses.net

    def configure_model(self) -> None:
        if self.shard:
            self.shard(self.losses, self.device_mesh)
            self.shard = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        # Dropout depends only on the seed, the micro-batch and the rank, so that resuming does not change it.
        torch.manual_seed(hash((self.seed, batch_idx, self.global_rank)) % 2**63)
        if isinstance(self.losses, FSDPModule):  # with copies on several nodes, only sums of a step travel between them
            self.losses.set_requires_all_reduce(is_step_end(self.trainer))
        labels = batch["labels"]
        losses: Tensor = self.losses(batch["input_ids"], labels, batch.get("position_ids"))
        by_sequence = losses.mean(1)
        fraction = (labels != IGNORED).sum(1) / labels.shape[1]  # of the tokens that are in the loss
        self.micro_batches.append((by_sequence.detach() / fraction.clamp_min(1e-9), batch["source"], fraction))
        return by_sequence.mean() * batch["scale"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        labels = batch["labels"]
        losses: Tensor = self.losses(batch["input_ids"], labels, batch.get("position_ids"))
        loss_tokens = int((labels != IGNORED).sum())
        mean = losses.sum() / max(1, loss_tokens)
        self.log("val_loss", mean, on_step=False, on_epoch=True, sync_dist=True, batch_size=loss_tokens, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        self.log("step", float64(self.global_step), batch_size=1)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        optimizer.zero_grad()  # before the next forward pass, so that activations never coexist with old gradients
        losses, sources, fractions = (torch.cat(parts) for parts in zip(*self.micro_batches, strict=True))
        self.step_losses = losses, sources, fractions
        self.micro_batches.clear()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not is_step_end(self.trainer) or not is_logging_step(self.trainer):
            return
        if is_last_step(self.trainer):
            self.trainer.should_stop = True  # makes Lightning log and validate at the last step
        values = self.step_metrics()
        self.log_dict({name: float64(value) for name, value in values.items()}, on_step=True, batch_size=1)

    def step_metrics(self) -> dict[str, float]:
        """Returns the metrics of the last optimizer step over all ranks. Every rank must call it."""
        if self.metrics.get("step") != self.global_step:
            assert self.step_losses is not None and self.grad_norm is not None
            self.metrics = {
                **mean_losses(gather_losses(self.step_losses)),
                "grad_norm": self.grad_norm.item(),
                "lr": self.trainer.optimizers[0].param_groups[0]["lr"],
                "step": self.global_step,
            }
        return self.metrics

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the metrics of the step: a checkpoint is saved before Lightning passes them to the loggers."""
        if is_logging_step(self.trainer):
            checkpoint["step_metrics"] = self.step_metrics()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the metrics of the step, and converts Lightning's count of micro-batches, whose size may change."""
        self.metrics = checkpoint.get("step_metrics", {})
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        micro_batches = checkpoint["global_step"] * self.trainer.accumulate_grad_batches
        for counts in (progress["total"], progress["current"]):
            shift = micro_batches - counts["ready"]
            counts.update({name: count + shift for name, count in counts.items()})

    def on_train_start(self) -> None:
        """Logs the metrics of the step that training resumes from, because a killed run may not have logged them."""
        data = cast(Any, self.trainer).datamodule
        if data.config.document_mask:
            self.check_document_mask(data.micro_batch_size, data.config.context_length)
        if self.metrics:
            values = {name: value for name, value in self.metrics.items() if name != "step"}
            for logger in self.loggers:
                logger.log_metrics(values, step=int(self.metrics["step"]))

    @torch.no_grad()
    def check_document_mask(self, rows: int, length: int) -> None:
        """Raises ConfigError if a document affects the losses of the next one.

        Models derive the mask from the position ids. Some architectures have none, and FlashAttention-2 has it for
        single sequences only.
        """
        half, generator = length // 2, torch.Generator().manual_seed(0)
        draws = torch.randint(self.net.config.get_text_config().vocab_size, (2, rows, length), generator=generator)
        ids, other = draws.to(self.trainer.strategy.root_device)
        other[:, half:] = ids[:, half:]
        positions = torch.cat([torch.arange(half), torch.arange(length - half)]).repeat(rows, 1).to(ids.device)
        self.net.train(False)
        with self.trainer.precision_plugin.forward_context():
            second, expected = (self.losses(inputs, ids, positions)[:, half:] for inputs in (ids, other))
        self.net.train()
        tolerance = 1e-5 if self.compute_dtype == torch.float32 else 0.05
        # A leak changes nearly all losses. Experts and FP8 scales depend on the other tokens, and change some of them.
        if not (second - expected).abs().nanmedian() <= tolerance:
            config = self.net.config
            attention = str(config._attn_implementation)
            others = ", trainer.attention=sdpa or trainer.micro_batch_size=1" if "flash" in attention else ""
            raise ConfigError(
                f"data.document_mask: {config.model_type} with trainer.attention={attention} does not restrict "
                f"attention to documents; set data.document_mask=false{others}"
            )

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips gradients and stores the norm before clipping. Lightning rejects fused optimizers in bf16-mixed."""
        optimizer = getattr(optimizer, "_optimizer", optimizer)
        if isinstance(optimizer, SplitBF16AdamW):
            gradients = optimizer.gradients()
        else:
            gradients = [parameter.grad for parameter in self.net.parameters() if parameter.grad is not None]
        if gradient_clip_algorithm == "value" and gradient_clip_val:
            self.grad_norm = clip_norm(gradients, float("inf"))
            torch._foreach_clamp_min_(gradients, -gradient_clip_val)
            torch._foreach_clamp_max_(gradients, gradient_clip_val)
            return
        max_norm = gradient_clip_val or float("inf")  # as in Lightning, 0 disables clipping
        if isinstance(optimizer, SplitBF16AdamW):
            self.grad_norm = clip_norm(gradients, max_norm)
            return
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), max_norm)
        self.grad_norm = norm.full_tensor() if isinstance(norm, DTensor) else norm

    def configure_optimizers(self) -> Any:
        arguments: dict[str, Any] = {}
        if self.low_halves is not None:
            arguments = {"low_halves": self.low_halves, "fp32_gradients": self.fp32_gradients}
            self.low_halves = {}  # now owned by the optimizer's state
        with construction_errors("optim", self.optimizer_factory):
            optimizer = self.optimizer_factory(parameter_groups(self.net.parameters()), **arguments)
        with construction_errors("scheduler", self.scheduler_factory):
            scheduler = build_scheduler(self.scheduler_factory, optimizer, self.num_training_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def is_step_end(trainer: L.Trainer) -> bool:
    """Returns whether the current micro-batch is the last one of an optimizer step."""
    return not trainer.fit_loop._should_accumulate()


def is_last_step(trainer: L.Trainer) -> bool:
    return trainer.global_step == trainer.max_steps


def is_logging_step(trainer: L.Trainer) -> bool:
    every = getattr(trainer, "log_every_n_steps", 0)
    return bool(every) and (trainer.global_step % every == 0 or trainer.should_stop or is_last_step(trainer))


def float64(value: float) -> Tensor:
    """Returns a float64 tensor, because Lightning rounds logged plain numbers to fp32."""
    return torch.tensor(value, dtype=torch.float64)


def clip_norm(gradients: list[Tensor], max_norm: float) -> Tensor:
    """Clips like torch's `clip_grad_norm_`, for gradients that are not parameters' `.grad`. The norm is in fp32."""
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    torch._foreach_mul_(gradients, torch.clamp(max_norm / (norm + 1e-6), max=1.0))
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def gather_losses(losses: SequenceLosses) -> SequenceLosses:
    """Returns the losses of the step's sequences of all ranks, in the same order on every rank."""
    if not dist.is_initialized():
        return losses
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, tuple(part.cpu() for part in losses))
    means, sources, fractions = (torch.cat(parts) for parts in zip(*gathered, strict=True))
    return means, sources, fractions


def mean_losses(losses: SequenceLosses) -> dict[str, float]:
    """Returns the mean loss over the tokens of an optimizer step, in total and by source."""
    means, sources, fractions = losses
    masks = {"loss": torch.ones_like(sources, dtype=torch.bool)}
    masks |= {f"loss_{name}": sources == source for source, name in SOURCES.items()}
    return {
        name: float((means[mask] * fractions[mask]).sum() / fractions[mask].sum())
        for name, mask in masks.items()
        if fractions[mask].sum() > 0
    }
