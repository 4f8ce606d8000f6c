"""AdamW for fp32 weights stored as two 16-bit halves.

Plain bf16 weights do not train at the paper's learning rate: half a unit in the last place of a bf16 weight of 0.014 is
3e-5 and an update is at most 5e-6, so nearly all updates are rounded away. `SplitBF16AdamW` stores the low 16 bits of
every fp32 weight in the optimizer state; the model computes with the high half, the rounded bf16 weight. No fp32 copy
is needed: the two halves are the fp32 weight, bit for bit.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, ClassVar, cast
from weakref import WeakMethod

import torch
from torch import Tensor, nn

CHUNK = 2**26  # maximum fp32 elements during a step: 256 MiB each for weights and gradients
BLOCK, MIN_8BIT_SIZE = 256, 4096  # bitsandbytes' kernel quantizes in blocks of this size, and larger parameters only


def split(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the high halves of fp32 weights, rounded half up to bf16, and the int16 that `join` adds."""
    bits = weights.contiguous().view(torch.int32)
    high = (bits + 0x8000) >> 16
    low = bits - (high << 16)
    return high.to(torch.int16).view(torch.bfloat16), low.to(torch.int16)


def join(high: Tensor, low: Tensor) -> Tensor:
    """Returns the fp32 weights that `split` received, bit for bit."""
    return ((high.contiguous().view(torch.int16).to(torch.int32) << 16) + low).view(torch.float32)


def store(weights: Tensor, high: Tensor, low: Tensor) -> None:
    """Writes fp32 weights to their two halves."""
    for half, value in zip((high, low), split(weights), strict=True):
        half.copy_(value)


def weak_hook(method: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
    """Returns a hook that calls a bound method without keeping its object alive.

    A tensor that holds a hook that holds the tensor is a cycle through C++ that the garbage collector cannot free.
    """
    reference = WeakMethod(method)

    def hook(tensor: Tensor) -> None:
        if target := reference():
            target(tensor)

    return hook


class SplitBF16AdamW(torch.optim.Optimizer):
    """AdamW on split weights: for the same gradients, bitwise identical to AdamW on fp32 weights.

    The parameters are bf16; `low_halves` maps parameters to their low 16 bits (zero if missing). With `fp32_gradients`,
    the gradients of micro-batches are accumulated in fp32 as soon as the backward pass has computed them; otherwise
    they accumulate in each parameter's bf16 `.grad`.
    """

    trains_split_weights = True
    # The moments in the state of a parameter, and how many weights have one value in common.
    MOMENTS: ClassVar[Mapping[str, int]] = {"exp_avg": 1, "exp_avg_sq": 1}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        low_halves: Mapping[nn.Parameter, Tensor] | None = None,
        fp32_gradients: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps})
        self.join, self.store = join, store
        self.gradient_sums: dict[nn.Parameter, Tensor] = {}
        self.hooks = []
        for parameter in chain.from_iterable(group["params"] for group in self.param_groups):
            low = low_halves.get(parameter) if low_halves else None
            self.state[parameter] = {
                "low": torch.zeros_like(parameter, dtype=torch.int16) if low is None else low,
                **self.initial_state(parameter),
            }
            if fp32_gradients:
                self.hooks.append(parameter.register_post_accumulate_grad_hook(weak_hook(self.accumulate)))

    def compile(self) -> None:
        """Compiles what a step does before and after AdamW's kernel into one kernel each, with the same results.

        Uncompiled, it is about 15 kernels, which read and write more than twice as many bytes.
        """
        self.join, self.store = torch.compile(join, dynamic=True), torch.compile(store, dynamic=True)

    def initial_state(self, parameter: Tensor) -> dict[str, Any]:
        """Returns the number of steps and the moments of a parameter before the first step."""
        zeros = {name: torch.zeros_like(parameter, dtype=torch.float32) for name in SplitBF16AdamW.MOMENTS}
        return {"step": torch.zeros((), device=parameter.device), **zeros}

    def accumulate(self, parameter: Tensor) -> None:
        gradient = cast(Tensor, parameter.grad)
        key = cast(nn.Parameter, parameter)
        if key in self.gradient_sums:
            self.gradient_sums[key].add_(gradient)
        else:
            self.gradient_sums[key] = gradient.float()
        parameter.grad = None

    def gradients(self) -> list[Tensor]:
        """Returns the gradients that the next step will use, for clipping."""
        return [gradient for _, _, gradient in self.pending()]

    def pending(self) -> Iterator[tuple[dict[str, Any], nn.Parameter, Tensor]]:
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = self.gradient_sums.get(parameter, parameter.grad)
                if gradient is not None:
                    yield group, parameter, gradient

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.gradient_sums.clear()
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
            # Only the gradient may be copied (reshape); the others are updated in place, so they must be views.
            flat = [parameter.data.view(-1), state["low"].view(-1), gradient.reshape(-1)]
            chunks = [tensor.split(CHUNK) for tensor in flat]
            chunks += [
                state[name].view(-1).split(CHUNK // size) for name, size in self.MOMENTS.items() if name in state
            ]
            for high, low, part, *moments in zip(*chunks, strict=True):
                weights = self.join(high, low)
                self.update(group, state["step"], weights, part.float(), moments)
                self.store(weights, high, low)
        return loss

    def update(
        self, group: Mapping[str, Any], step: Any, weights: Tensor, gradient: Tensor, moments: Sequence[Tensor]
    ) -> None:
        """Updates fp32 weights and their moments in place, with torch's fused kernel."""
        exp_avg, exp_avg_sq = moments
        torch._fused_adamw_(
            [weights],
            [gradient],
            [exp_avg],
            [exp_avg_sq],
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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state with its dtypes; torch's method would round fp32 moments to bf16."""
        super().load_state_dict(state_dict)
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        for number, parameter in zip(saved, parameters, strict=True):
            self.state[parameter] = {
                name: value.to(parameter.device) if isinstance(value, Tensor) else value
                for name, value in state_dict["state"][number].items()
            }


class SplitBF16AdamW8bit(SplitBF16AdamW):
    """The same with moments of 8 bits, quantized in blocks by bitsandbytes: 6 bytes per parameter instead of 12.

    Moments of parameters with fewer than `MIN_8BIT_SIZE` elements stay in fp32, as in `bitsandbytes.optim`.
    """

    MOMENTS = {"exp_avg": 1, "exp_avg_sq": 1, "exp_avg_max": BLOCK, "exp_avg_sq_max": BLOCK}

    def initial_state(self, parameter: Tensor) -> dict[str, Any]:
        if parameter.numel() < MIN_8BIT_SIZE:
            return super().initial_state(parameter)
        codes = {name: torch.zeros_like(parameter, dtype=torch.uint8) for name in SplitBF16AdamW.MOMENTS}
        blocks = -(-parameter.numel() // BLOCK)
        largest = {f"{name}_max": torch.zeros(blocks, device=parameter.device) for name in codes}
        return {"step": 0, **codes, **largest}

    def update(
        self, group: Mapping[str, Any], step: Any, weights: Tensor, gradient: Tensor, moments: Sequence[Tensor]
    ) -> None:
        from bitsandbytes.functional import optimizer_update_8bit_blockwise

        if len(moments) == len(SplitBF16AdamW.MOMENTS):
            super().update(group, step, weights, gradient, moments)
            return
        exp_avg, exp_avg_sq, exp_avg_max, exp_avg_sq_max = moments
        signed, unsigned = code_books(weights.device)
        optimizer_update_8bit_blockwise(
            "adam",  # its weight decay is decoupled, as in AdamW
            gradient,
            weights,
            exp_avg,
            exp_avg_sq,
            *group["betas"],
            beta3=0.0,
            alpha=0.0,
            eps=group["eps"],
            step=step,
            lr=group["lr"],
            qmap1=signed,
            qmap2=unsigned,
            absmax1=exp_avg_max,
            absmax2=exp_avg_sq_max,
            weight_decay=group["weight_decay"],
        )


@cache
def code_books(device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the values of the 256 codes of the first moment, which has a sign, and of the second."""
    from bitsandbytes.functional import create_dynamic_map

    return create_dynamic_map(signed=True).to(device), create_dynamic_map(signed=False).to(device)


def split_weights(net: nn.Module) -> dict[nn.Parameter, Tensor]:
    """Replaces a model's weights with their bf16 high halves; returns the low halves of trained ones by parameter.

    Buffers keep their dtype: the frequencies of rotary embeddings need fp32.
    """
    low_halves = {}
    for parameter in net.parameters():
        if parameter.dtype == torch.float32:
            parameter.data, low = split(parameter.data)
            if parameter.requires_grad:
                low_halves[parameter] = low
    return low_halves


def joined_weights(net: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """Yields a model's weights, in fp32 on the CPU, joined from their halves one at a time, and its saved buffers."""
    for name, parameter in net.named_parameters(remove_duplicate=False):
        high, state = parameter.detach().cpu(), optimizer.state.get(parameter, {})
        yield name, join(high, state["low"].cpu()) if "low" in state else high.float()
    parameters = {name for name, _ in net.named_parameters(remove_duplicate=False)}
    yield from ((name, value.cpu()) for name, value in net.state_dict().items() if name not in parameters)
