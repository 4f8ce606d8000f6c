"""AdamW: torch's fused kernel over fp32 weights, or the same kernel over weights kept as two 16-bit halves.

A model in plain bf16 does not train at the paper's learning rate: half a step of a bf16 weight of 0.014 is 3e-5, an
update at most 5e-6, so nearly all of them round away. `SplitBF16AdamW` keeps the other 16 bits of every fp32 weight
beside the bf16 weight that the model computes with. No fp32 copy exists, and none is missed: the pair is the fp32
weight, bit for bit.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn

from entigraph.training.optim.adamw_cosine import AdamWCosine

PIECE = 2**26  # elements that exist in fp32 at once during a step: 256 MiB each for weights and gradients


def split(weights: Tensor) -> tuple[Tensor, Tensor]:
    """fp32 → bf16 (rounded half up) and the int16 that `join` adds to its bits."""
    bits = weights.contiguous().view(torch.int32)
    high = (bits + 0x8000) >> 16
    low = bits - (high << 16)
    return high.to(torch.int16).view(torch.bfloat16), low.to(torch.int16)


def join(high: Tensor, low: Tensor) -> Tensor:
    """The fp32 weights that `split` was given, bit for bit."""
    return ((high.contiguous().view(torch.int16).to(torch.int32) << 16) + low).view(torch.float32)


def groups_of(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; norms and biases do not."""
    every = list(parameters)
    return [
        {"params": [parameter for parameter in every if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in every if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def build_fused_adamw(parameters: Iterable[nn.Parameter], optim: AdamWCosine) -> torch.optim.Optimizer:
    groups = groups_of(parameters, optim.weight_decay)
    return torch.optim.AdamW(groups, lr=optim.lr, betas=(optim.beta1, optim.beta2), fused=True)


class SplitBF16AdamW(torch.optim.Optimizer):
    """AdamW on exact 16-bit pairs: given the same gradients, the trajectory of fp32 weights bit for bit.

    `parameters` are bf16; `lows` holds the other halves of those that are not exactly representable, by parameter.
    With `gradient_dtype_fp32`, gradients of micro-batches are added in fp32 as soon as backward has them, in `sums`;
    otherwise they accumulate in the parameter's own bf16 `.grad`.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        optim: AdamWCosine,
        lows: dict[nn.Parameter, Tensor] | None = None,
        gradient_dtype_fp32: bool = False,
    ) -> None:
        defaults = {"lr": optim.lr, "betas": (optim.beta1, optim.beta2), "eps": 1e-8}
        super().__init__(groups_of(parameters, optim.weight_decay), defaults)
        self.sums: dict[nn.Parameter, Tensor] = {}
        self.hooks = []
        for parameter in chain.from_iterable(group["params"] for group in self.param_groups):
            low = lows.get(parameter) if lows else None
            self.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "low": torch.zeros_like(parameter, dtype=torch.int16) if low is None else low,
                "exp_avg": torch.zeros_like(parameter, dtype=torch.float32),
                "exp_avg_sq": torch.zeros_like(parameter, dtype=torch.float32),
            }
            if gradient_dtype_fp32:
                self.hooks.append(parameter.register_post_accumulate_grad_hook(self.add))

    def add(self, parameter: Tensor) -> None:
        gradient = cast(Tensor, parameter.grad)
        key = cast(nn.Parameter, parameter)
        if key in self.sums:
            self.sums[key].add_(gradient)
        else:
            self.sums[key] = gradient.float()
        parameter.grad = None

    def gradients(self) -> list[Tensor]:
        """Whatever this step would use: what is clipped."""
        return [gradient for _, _, gradient in self.pending()]

    def pending(self) -> Iterator[tuple[dict[str, Any], nn.Parameter, Tensor]]:
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = self.sums.get(parameter, parameter.grad)
                if gradient is not None:
                    yield group, parameter, gradient

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.sums.clear()
        super().zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group, parameter, gradient in self.pending():
            state = self.state[parameter]
            state["step"] += 1
            flat = [parameter.data.view(-1), state["low"].view(-1), gradient.reshape(-1)]
            flat += [state["exp_avg"].view(-1), state["exp_avg_sq"].view(-1)]
            for high, low, slope, first, second in zip(*(tensor.split(PIECE) for tensor in flat), strict=True):
                self.advance(group, high, low, slope, first, second, state["step"])
        return loss

    def advance(
        self,
        group: dict[str, Any],
        high: Tensor,
        low: Tensor,
        slope: Tensor,
        first: Tensor,
        second: Tensor,
        step: Tensor,
    ) -> None:
        weights = join(high, low)
        torch._fused_adamw_(
            [weights],
            [slope.float()],
            [first],
            [second],
            [],
            [step],
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
        new_high, new_low = split(weights)
        high.copy_(new_high)
        low.copy_(new_low)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As saved: torch's own way would round the fp32 moments to the parameters' 16 bits."""
        super().load_state_dict(state_dict)
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        own = chain.from_iterable(group["params"] for group in self.param_groups)
        for number, parameter in zip(saved, own, strict=True):
            self.state[parameter] = {
                name: value.to(parameter.device) for name, value in state_dict["state"][number].items()
            }


def split_weights(net: nn.Module) -> dict[nn.Parameter, Tensor]:
    """Turn a model's weights into bf16; the other halves, by parameter. Buffers stay: rotary angles need fp32."""
    lows = {}
    for parameter in net.parameters():
        if parameter.dtype == torch.float32:
            parameter.data, lows[parameter] = split(parameter.data)
    return lows


def whole_weights(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """A model's weights in fp32 on the CPU, by name, joined from their halves."""
    return {
        name: join(parameter.detach().cpu(), optimizer.state[parameter]["low"].cpu())
        for name, parameter in net.named_parameters(remove_duplicate=False)
    }


def prepared(optimizer: torch.optim.Optimizer) -> None:
    """Give torch's AdamW the state that its first step would make, so that a checkpoint can be read into it."""
    for parameter in chain.from_iterable(group["params"] for group in optimizer.param_groups):
        if not optimizer.state[parameter]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
