"""A Hugging Face causal language model, trained on next tokens."""

from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from entigraph.training.data import Batch
from entigraph.training.plan import SOURCES
from entigraph.training.settings import AdamWCosine


class CausalLM(L.LightningModule):
    """`steps` is the length of the schedule; it comes from the plan, never from the trainer's own estimate."""

    def __init__(self, net: PreTrainedModel, optim: AdamWCosine, steps: int) -> None:
        super().__init__()
        self.net, self.optim, self.steps = net, optim, steps
        self.grad_norm: torch.Tensor | None = None
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []  # of the micro-batches of this step

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        logits = self.net(input_ids=batch["input_ids"], use_cache=False).logits
        losses = F.cross_entropy(logits.float().flatten(0, 1), batch["labels"].flatten(), reduction="none")
        by_sample = losses.view_as(batch["labels"]).mean(1)
        self.seen.append((by_sample.detach(), batch["source"]))
        return by_sample.mean()

    def step_losses(self) -> dict[str, float]:
        """The mean loss of the sequences of one optimiser step, and of each source apart; forgets them."""
        losses, sources = (torch.cat(parts) for parts in zip(*self.seen, strict=True))
        self.seen.clear()
        apart = {f"loss_{name}": losses[sources == source] for source, name in SOURCES.items()}
        return {"loss": float(losses.mean())} | {name: float(own.mean()) for name, own in apart.items() if len(own)}

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
        # Here, and not by Trainer(gradient_clip_val=...): Lightning 2.6.6 refuses that with a fused optimiser in bf16.
        bound = self.optim.clip_norm if self.optim.clip_norm is not None else float("inf")
        self.grad_norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), bound)

    def configure_optimizers(self) -> Any:
        optimizer = self.optim.build(list(self.net.parameters()))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.optim.schedule(self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
