"""The loss of every token, computed in chunks without the logits of the entire batch.

A sequence of 2,048 tokens with a vocabulary of 128k needs 3 GiB for logits, their softmax and its gradient. Here logits
exist only for a chunk of rows at a time. The backward pass recomputes them, at the cost of one more product with the
head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

IGNORED = -100  # the label of a token that is not in the loss
MAX_UNCHUNKED_LOGITS = 2**24  # up to this many (64 MiB in fp32) are computed without chunks and recomputation
# Logits per chunk. Every chunk reads the head and adds to its gradient, so GPUs are faster with few, large chunks.
CHUNK_LOGITS = {"cpu": 2**24, "cuda": 2**27}
# Some architectures modify the logits after the head; for these, all logits are computed at once.
LOGIT_TRANSFORMS = (
    "final_logit_softcapping",
    "logits_soft_cap",
    "logit_scale",
    "logits_scaling",
    "output_multiplier_scale",
)


class TokenLosses(torch.nn.Module):
    """Wraps model and loss in one module, so that FSDP gathers embedding and head once."""

    def __init__(self, net: PreTrainedModel) -> None:
        super().__init__()
        self.net = net
        self.plain_head = has_plain_head(net)

    def forward(self, input_ids: Tensor, labels: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Returns fp32 losses in the shape of `labels`; 0 for IGNORED labels."""
        inputs = {"input_ids": input_ids, "position_ids": position_ids, "use_cache": False}
        if not self.plain_head:
            return token_losses(self.net(**inputs).logits, labels)
        hidden = self.net.base_model(**inputs).last_hidden_state
        head = self.net.get_output_embeddings()  # type: ignore[no-untyped-call]
        if labels.numel() * head.weight.shape[0] <= MAX_UNCHUNKED_LOGITS:
            return token_losses(head(hidden), labels)
        return chunked_losses(hidden.flatten(0, 1), head.weight, labels.flatten()).view_as(labels)


def has_plain_head(net: PreTrainedModel) -> bool:
    """Returns whether the logits are just the last hidden states times a matrix."""
    head = net.get_output_embeddings()  # type: ignore[no-untyped-call]
    transformed = any(getattr(net.config, name, None) not in (None, 1, 1.0) for name in LOGIT_TRANSFORMS)
    return type(head) is torch.nn.Linear and head.bias is None and not transformed


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    losses = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none", ignore_index=IGNORED)
    return losses.view_as(labels)


def chunked_losses(hidden: Tensor, weight: Tensor, labels: Tensor, rows: int | None = None) -> Tensor:
    """Returns fp32 losses (N,) for hidden states (N, H) and the head (V, H), computed for `rows` at a time.

    fp32 input uses torch's `linear_cross_entropy`. For 16-bit input it would round each loss to 16 bits (11.94 for
    11.968) and, on a CPU, need as much memory as the logits, so `ChunkedLosses` is used.
    """
    rows = rows or max(1, CHUNK_LOGITS.get(hidden.device.type, CHUNK_LOGITS["cuda"]) // weight.shape[0])
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    if hidden.dtype == torch.float32 and hasattr(torch.nn, "LinearCrossEntropyOptions"):
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=rows, chunking_method=None)
        losses: Tensor = F.linear_cross_entropy(
            hidden, weight, labels, reduction="none", ignore_index=IGNORED, options=options
        )
        return losses
    return ChunkedLosses.apply(hidden, weight, labels, rows)  # type: ignore[no-any-return, no-untyped-call]


class ChunkedLosses(torch.autograd.Function):
    """Chunked cross-entropy. Matrix products are in the dtype of the input; losses and softmax in fp32."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, rows: int) -> Tensor:
        sums = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        targets = torch.empty_like(sums)
        for part in row_slices(len(hidden), rows):
            logits = (hidden[part] @ weight.T).float()
            targets[part] = logits.gather(1, labels[part].clamp_min(0)[:, None])[:, 0]
            sums[part] = logits.logsumexp(1)
        ctx.save_for_backward(hidden, weight, labels, sums)
        ctx.rows = rows
        return (sums - targets).masked_fill_(labels == IGNORED, 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        hidden, weight, labels, sums = ctx.saved_tensors
        scale = gradients[0].masked_fill(labels == IGNORED, 0.0)[:, None]
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None  # a frozen head has none
        for part in row_slices(len(hidden), ctx.rows):
            logits_gradient = (hidden[part] @ weight.T).float()
            logits_gradient.sub_(sums[part, None]).exp_()
            minus_one = torch.full_like(logits_gradient[:, :1], -1.0)
            logits_gradient.scatter_add_(1, labels[part].clamp_min(0)[:, None], minus_one)
            logits_gradient = logits_gradient.mul_(scale[part]).to(weight.dtype)
            hidden_gradient[part] = logits_gradient @ weight
            if weight_gradient is not None:
                weight_gradient.addmm_(logits_gradient.T, hidden[part])
        return hidden_gradient, weight_gradient, None, None


def row_slices(total: int, rows: int) -> list[slice]:
    return [slice(start, min(start + rows, total)) for start in range(0, total, rows)]
