"""The default optimizer, and checks of optimizer arguments. Importing this module does not import torch."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from entigraph.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

# Maps parameter groups to an optimizer, for example a `functools.partial` of a class in `torch.optim`.
OptimizerFactory = Callable[..., "Optimizer"]


def adamw(
    params: Iterable[Any],
    lr: float,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.98),
    eps: float = 1e-8,
    *,
    low_halves: "Mapping[nn.Parameter, Tensor] | None" = None,
    fp32_gradients: bool = False,
) -> "Optimizer":
    """Returns torch's fused AdamW, or `SplitBF16AdamW` if the low halves of bf16 weights are passed.

    The default beta2 is for the tiny model: short runs average squared gradients over fewer steps. The paper's
    experiments set `optim.betas: [0.9, 0.999]`.
    """
    beta1, beta2 = betas  # a list if set in a config
    if low_halves is not None:
        from entigraph.training.optim.split_bf16_adamw import SplitBF16AdamW

        return SplitBF16AdamW(params, lr, weight_decay, (beta1, beta2), eps, low_halves, fp32_gradients)
    from torch.optim import AdamW

    return AdamW(params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True)


def adamw_8bit(
    params: Iterable[Any],
    lr: float,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.98),
    eps: float = 1e-8,
    *,
    low_halves: "Mapping[nn.Parameter, Tensor] | None" = None,
    fp32_gradients: bool = False,
) -> "Optimizer":
    """Returns AdamW with moments of 8 bits: of bitsandbytes, or `SplitBF16AdamW8bit` if low halves are passed."""
    beta1, beta2 = betas
    if low_halves is not None:
        from entigraph.training.optim.split_bf16_adamw import SplitBF16AdamW8bit

        return SplitBF16AdamW8bit(params, lr, weight_decay, (beta1, beta2), eps, low_halves, fp32_gradients)
    from bitsandbytes.optim import AdamW8bit

    optimizer: Optimizer = AdamW8bit(params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)
    return optimizer


# Optimizers with this attribute receive `low_halves` and `fp32_gradients` if trainer.precision is bf16-true.
adamw.trains_split_weights = adamw_8bit.trains_split_weights = True  # type: ignore[attr-defined]
# Bytes per parameter of the moments, for estimates; `adamw`'s are assumed for optimizers without this attribute.
ADAMW_MOMENTS = 8.0
adamw_8bit.moment_bytes = 2 + 8 / 256  # type: ignore[attr-defined] # two codes, and two fp32 values for each 256 of them


def trains_split_weights(optim: OptimizerFactory) -> bool:
    """Returns whether an optimizer can train fp32 weights stored as two 16-bit halves."""
    return bool(getattr(getattr(optim, "func", optim), "trains_split_weights", False))


def moment_bytes(optim: OptimizerFactory) -> float:
    """Returns the bytes per trained parameter of an optimizer's state, without the weights."""
    return float(getattr(getattr(optim, "func", optim), "moment_bytes", ADAMW_MOMENTS))


def check_optimizer_sharding(optim: OptimizerFactory, sharded: bool) -> None:
    """Raises ConfigError if the optimizer cannot train sharded weights."""
    if sharded and getattr(optim, "func", optim) is adamw_8bit:
        raise ConfigError(
            "optim: adamw_8bit trains on one device, without trainer.cpu_offload; several devices share the moments of "
            "optim=adamw"
        )


def check_optimizer_package(optim: OptimizerFactory) -> None:
    """Raises ConfigError if the optimizer's package is not installed."""
    if getattr(optim, "func", optim) is adamw_8bit and find_spec("bitsandbytes") is None:
        raise ConfigError(
            "optim: adamw_8bit needs bitsandbytes: pip install 'entigraph[quantization]'; or set optim=adamw"
        )


def check_optimizer(optim: OptimizerFactory) -> None:
    """Raises ConfigError if the optimizer is not `_partial_`, or listing its arguments that are out of range."""
    if not isinstance(optim, partial):
        raise ConfigError("optim: set optim._partial_=true; the parameters of the model are added when training starts")
    problems = []
    lr, weight_decay = optim.keywords.get("lr"), optim.keywords.get("weight_decay")
    if isinstance(lr, int | float) and lr <= 0:
        problems.append(f"optim.lr must be positive, got {lr}")
    if isinstance(weight_decay, int | float) and not 0 <= weight_decay <= 1:
        problems.append(f"optim.weight_decay must be between 0 and 1, got {weight_decay}")
    betas = optim.keywords.get("betas")
    if betas is not None and not (len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
        problems.append(f"optim.betas must be two numbers in [0, 1), got {list(betas)}")
    if problems:
        raise ConfigError("\n".join(problems))


def parameter_groups(parameters: "Iterable[nn.Parameter]") -> list[dict[str, Any]]:
    """Returns two parameter groups: matrices with the optimizer's weight decay; norms and biases without."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trainable if parameter.ndim > 1]},
        {"params": [parameter for parameter in trainable if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
