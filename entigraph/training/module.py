"""A Hugging Face causal language model, trained on next tokens."""

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from entigraph.training.data_schedule import SOURCES
from entigraph.training.datamodule import Batch
from entigraph.training.loss import IGNORED, TokenLosses
from entigraph.training.optim.adamw_cosine import AdamWCosine
from entigraph.training.optim.split_bf16_adamw import SplitBF16AdamW, build_fused_adamw, split_weights

Samples = tuple[Tensor, Tensor, Tensor]  # of each: its mean loss, its source, its tokens with loss


class CausalLMModule(L.LightningModule):
    """`steps` is the length of the schedule; it comes from the plan, never from the trainer's own estimate.

    `shard` turns the model into this rank's share of it, on the device mesh that it is given. `pairs`: 16-bit weights
    with the other 16 bits in the optimizer, which adds gradients in fp32 where there is something to `accumulate`.
    """

    def __init__(
        self,
        net: PreTrainedModel,
        optim: AdamWCosine,
        steps: int,
        seed: int = 0,
        pairs: bool = False,
        accumulate: bool = False,
        shard: Callable[[TokenLosses, Any], None] | None = None,
    ) -> None:
        super().__init__()
        self.losses = TokenLosses(net)
        self.optim, self.steps, self.seed, self.shard = optim, steps, seed, shard
        self.lows = split_weights(net) if pairs else None
        self.accumulate = accumulate
        self.grad_norm: Tensor | None = None
        self.seen: list[Samples] = []  # of the micro-batches of this step

    @property
    def net(self) -> PreTrainedModel:
        return self.losses.net

    def configure_model(self) -> None:
        if self.shard:
            self.shard(self.losses, self.device_mesh)
            self.shard = None

    def training_step(self, batch: Batch, index: int) -> Tensor:
        # What is random in a model (dropout) is a function of the seed, the micro-batch and the rank, so of no restart.
        torch.manual_seed(hash((self.seed, index, self.global_rank)) % 2**63)
        labels = batch["labels"]
        losses: Tensor = self.losses(batch["input_ids"], labels, batch.get("position_ids"))
        by_sample = losses.mean(1)
        counted = (labels != IGNORED).sum(1) / labels.shape[1]
        self.seen.append((by_sample.detach() / counted.clamp_min(1e-9), batch["source"], counted))
        return by_sample.mean() * batch["scale"]

    def step_samples(self) -> Samples:
        """Of the sequences that this rank had in one optimizer step; forgets them."""
        losses, sources, counted = (torch.cat(parts) for parts in zip(*self.seen, strict=True))
        self.seen.clear()
        return losses, sources, counted

    def optimizer_step(self, epoch: int, batch: int, optimizer: Any, closure: Any = None) -> None:
        super().optimizer_step(epoch, batch, optimizer, closure)
        optimizer.zero_grad()  # now, not before the next backward pass: activations then never meet old gradients

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
        # Here, and not by Trainer(gradient_clip_val=...): Lightning 2.6.6 refuses that with a fused optimizer in bf16.
        bound = self.optim.clip_norm if self.optim.clip_norm is not None else float("inf")
        own = getattr(optimizer, "_optimizer", optimizer)
        if isinstance(own, SplitBF16AdamW):
            self.grad_norm = clip(own.gradients(), bound)
            return
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), bound)
        self.grad_norm = norm.full_tensor() if isinstance(norm, DTensor) else norm

    def configure_optimizers(self) -> Any:
        parameters = list(self.net.parameters())
        optimizer = (
            build_fused_adamw(parameters, self.optim)
            if self.lows is None
            else SplitBF16AdamW(parameters, self.optim, self.lows, self.accumulate)
        )
        self.lows = None if self.lows is None else {}
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.optim.schedule(self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def clip(gradients: list[Tensor], bound: float) -> Tensor:
    """As torch's clip_grad_norm_, for gradients that no parameter holds. The norm is summed in fp32."""
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    torch._foreach_mul_(gradients, torch.clamp(bound / (norm + 1e-6), max=1.0))
    return norm


def means(samples: Samples) -> dict[str, float]:
    """The mean loss over all tokens of one optimizer step, and of each source apart."""
    losses, sources, counted = samples
    apart = {f"loss_{name}": sources == source for source, name in SOURCES.items()}
    chosen = {"loss": torch.ones_like(sources, dtype=torch.bool), **apart}
    return {
        name: float((losses[own] * counted[own]).sum() / counted[own].sum())
        for name, own in chosen.items()
        if counted[own].sum() > 0
    }
