"""The loss of every token, computed in chunks without the logits of the entire batch.

A sequence of 2,048 tokens with a vocabulary of 128k needs 3 GiB for logits, their softmax and its gradient. Here logits
exist only for a chunk of rows at a time. On a GPU, the backward pass recomputes them, at the cost of one more product
with the head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

IGNORED = -100  # label of tokens that are not in the loss
MAX_UNCHUNKED_LOGITS = 2**24  # 64 MiB in fp32; more are computed in chunks, with recomputation
# Logits per chunk. Every chunk reads the head and adds to its gradient, so GPUs are faster with few, large chunks.
CHUNK_LOGITS = {"cpu": 2**26, "cuda": 2**27}
GRADIENTS_IN_FORWARD = {"cpu": True, "cuda": False}  # see ChunkedLosses
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
    rows = rows or chunk_rows(hidden.device.type, weight.shape[0])
    if not torch.is_grad_enabled():  # the weight would still count as one that needs a gradient
        hidden, weight = hidden.detach(), weight.detach()
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


def chunk_rows(device: str, vocabulary: int) -> int:
    """Returns the rows of a chunk of logits; on GPUs a multiple of 128, the tiles of their matrix products."""
    rows = max(1, CHUNK_LOGITS.get(device, CHUNK_LOGITS["cuda"]) // vocabulary)
    return rows if device == "cpu" else rows // 128 * 128 or rows


class ChunkedLosses(torch.autograd.Function):
    """Chunked cross-entropy. Matrix products are in the dtype of the input; losses and softmax in fp32.

    On a CPU, where the products with the head take most of the time, the forward pass also computes the gradients for
    equal weights of all tokens, while it has the logits. On a GPU, the backward pass recomputes the logits, since the
    head's gradient would occupy memory next to all activations.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, rows: int) -> Tensor:
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        sums = torch.empty_like(losses)
        gradients = None
        if GRADIENTS_IN_FORWARD.get(hidden.device.type) and any(ctx.needs_input_grad):
            gradients = HeadGradients(hidden, weight, ctx.needs_input_grad[1])
        for part in row_slices(len(hidden), rows):
            logits = (hidden[part] @ weight.T).float()
            targets = logits.gather(1, labels[part].clamp_min(0)[:, None])[:, 0]
            largest = logits.amax(1)
            exponentials = logits.sub_(largest[:, None]).exp_()
            totals = exponentials.sum(1)
            sums[part] = totals.log() + largest
            losses[part] = sums[part] - targets
            if gradients is not None:
                included = (labels[part] != IGNORED).float()
                gradients.add(part, exponentials.mul_((included / totals)[:, None]), labels[part], included)
            del logits, exponentials  # otherwise they exist until those of the next chunk are computed
        ctx.save_for_backward(hidden, weight, labels, sums)
        ctx.rows, ctx.gradients = rows, gradients
        return losses.masked_fill_(labels == IGNORED, 0.0)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        hidden, weight, labels, sums = ctx.saved_tensors
        scale = upstream[0].masked_fill(labels == IGNORED, 0.0)
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None or not all_equal(upstream[0]):
            gradients = HeadGradients(hidden, weight, ctx.needs_input_grad[1])
            for part in row_slices(len(hidden), ctx.rows):
                probabilities = (hidden[part] @ weight.T).float().sub_(sums[part, None]).exp_()
                gradients.add(part, probabilities.mul_(scale[part, None]), labels[part], scale[part])
        else:
            gradients.scale(upstream[0][0])
        return gradients.hidden, gradients.weight, None, None


class HeadGradients:
    """The gradients of hidden states and head, from the probabilities of one chunk of tokens after another.

    A frozen head has no gradient (`weight` is None).
    """

    def __init__(self, hidden: Tensor, weight: Tensor, needs_weight: bool) -> None:
        self.inputs = hidden, weight
        self.hidden = torch.empty_like(hidden)
        self.weight = torch.zeros_like(weight) if needs_weight else None

    def add(self, part: slice, probabilities: Tensor, labels: Tensor, scale: Tensor) -> None:
        """Adds the chunk `part`. `probabilities` are multiplied by `scale`, the weight of each token's loss."""
        hidden, weight = self.inputs
        probabilities.scatter_add_(1, labels.clamp_min(0)[:, None], -scale[:, None])
        logits_gradient = probabilities.to(weight.dtype)
        self.hidden[part] = logits_gradient @ weight
        if self.weight is not None:
            self.weight.addmm_(logits_gradient.T, hidden[part])

    def scale(self, factor: Tensor) -> None:
        self.hidden.mul_(factor)
        if self.weight is not None:
            self.weight.mul_(factor)


def all_equal(values: Tensor) -> bool:
    return bool((values == values[0]).all())


def row_slices(total: int, rows: int) -> list[slice]:
    return [slice(start, min(start + rows, total)) for start in range(0, total, rows)]
