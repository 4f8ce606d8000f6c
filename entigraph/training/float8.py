"""FP8 matrix products of the linear layers, by torchao. Importing this module does not import torch."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from entigraph.errors import ConfigError
from entigraph.training.adapters import LoraAdapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIN_CAPABILITY = (8, 9)  # CUDA compute capability with FP8 matrix products
SIZE_MULTIPLE = 16  # both sizes of a layer must be multiples of it


def check_float8(recipe: str, adapter: LoraAdapter | None) -> None:
    """Raises ConfigError if FP8 is configured and this machine or the adapter does not support it."""
    if recipe == "none":
        return
    import torch

    problem = ""
    if adapter is not None:
        problem = "adapters are trained on layers in bf16; set model/adapter=none"
    elif not torch.cuda.is_available():
        problem = "torch finds no CUDA device"
    elif torch.cuda.get_device_capability() < MIN_CAPABILITY:
        problem = "{} has compute capability {}.{}".format(
            torch.cuda.get_device_name(), *torch.cuda.get_device_capability()
        )
    elif find_spec("torchao") is None:
        problem = "torchao is not installed: pip install 'entigraph[float8]'"
    if problem:
        raise ConfigError(
            f"trainer.float8={recipe} needs torchao and a GPU of compute capability 8.9 or higher (L40S, RTX 4090, "
            f"H100), but {problem}. Without it: trainer.float8=none"
        )


def convert_to_float8(net: "PreTrainedModel", recipe: str, emulate: bool = False) -> int:
    """Converts all linear layers except the head to FP8 matrix products; returns their number.

    Weights keep their dtype and names. `recipe` is torchao's: one scale per tensor, or one per row. `emulate` computes
    the products in a higher precision on any device.
    """
    from dataclasses import replace

    from torch import nn
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    from torchao.float8.float8_linear import Float8Linear

    head = net.get_output_embeddings()  # type: ignore[no-untyped-call]

    def is_converted(module: nn.Module, name: str) -> bool:
        sizes = (module.in_features, module.out_features) if isinstance(module, nn.Linear) else (1,)
        return module is not head and all(size % SIZE_MULTIPLE == 0 for size in sizes)

    config = replace(Float8LinearConfig.from_recipe_name(recipe), emulate=emulate)
    convert_to_float8_training(net, config=config, module_filter_fn=is_converted)
    count = sum(isinstance(module, Float8Linear) for module in net.modules())
    if not count:
        raise ConfigError(
            f"trainer.float8={recipe} needs linear layers with sizes that {SIZE_MULTIPLE} divides, got none; set none"
        )
    return count
