"""Low-rank adapters (LoRA, Hu et al. 2021; QLoRA, Dettmers et al. 2023) trained instead of a model's weights.

Importing this module does not import torch or peft. The layers are those of `peft`; their initial weights are a
function of seed and name, so that they are the same on any number of ranks.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from entigraph.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

BASE_LAYER = ".base_layer."  # infix in the names of frozen weights with an adapter
ADAPTER_WEIGHTS = (".lora_A.", ".lora_B.")
WEIGHTS_FILE, PREFIX = "adapter_model.safetensors", "base_model.model."  # file name and name prefix in peft's folders


@dataclass(frozen=True, kw_only=True)
class LoraAdapter:
    """Adds the product of two matrices of `rank` times `alpha / rank` to each linear layer, and trains only those.

    Without a rank, all weights are trained, so that a sweep over ranks can include full training. `target_modules` are
    names or name endings of linear layers; null: all but the head. `train_embeddings` and `train_head` also train these
    fully, which a new vocabulary needs; models with tied weights need both or neither.
    """

    rank: int | None = 64
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: list[str] | None = None
    train_embeddings: bool = False
    train_head: bool = False
    quantized: ClassVar[bool] = False

    def __post_init__(self) -> None:
        problems = []
        if self.rank is not None and self.rank < 1:
            problems.append(f"model.adapter.rank must be at least 1, got {self.rank}")
        if self.alpha <= 0:
            problems.append(f"model.adapter.alpha must be positive, got {self.alpha}")
        if not 0 <= self.dropout < 1:
            problems.append(f"model.adapter.dropout must be at least 0 and below 1, got {self.dropout}")
        if self.target_modules is not None and not self.target_modules:
            problems.append("model.adapter.target_modules must not be empty; null trains all linear layers")
        if problems:
            raise ConfigError("\n".join(problems))

    @property
    def scale(self) -> float:
        return self.alpha / self.adapter_rank

    @property
    def adapter_rank(self) -> int:
        assert self.rank is not None, "an adapter without a rank is not built"
        return self.rank

    def check(self) -> None:
        """Raises ConfigError if this machine cannot train the adapter."""

    def load_base(self, path: str) -> "PreTrainedModel":
        """Returns the model that the adapter is added to."""
        from entigraph.huggingface.models import load_model

        return load_model(path)

    def add_to(self, net: "PreTrainedModel", seed: int) -> None:
        """Adds the adapter to a model in place, and makes only its weights trainable.

        Raises ConfigError if a target matches no layer, or the rank exceeds a layer's size.
        """
        from peft import inject_adapter_in_model

        targets = self.find_targets(net)
        inject_adapter_in_model(self.peft_config(sorted(targets)), net)
        for name, parameter in net.named_parameters():
            if is_adapter_weight(name) and not parameter.is_meta:
                parameter.data.copy_(initial_weight(name, parameter, seed))
        for module, trained in self.fully_trained_modules(net):
            module.weight.requires_grad_(trained)

    def find_targets(self, net: "PreTrainedModel") -> "dict[str, nn.Module]":
        """Returns the layers that get an adapter, by name."""
        from torch import nn

        head = net.get_output_embeddings()  # type: ignore[no-untyped-call]
        linear = {name: module for name, module in net.named_modules() if is_linear(module) and module is not head}
        selected = self.target_modules
        if selected is None:
            targets = linear
        else:
            unmatched = [target for target in selected if not any(matches_target(name, target) for name in linear)]
            if unmatched:
                endings = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
                raise ConfigError(
                    "model.adapter.target_modules must match linear layers of the model, whose names end in "
                    f"{endings}; got {', '.join(unmatched)}"
                )
            targets = {
                name: module for name, module in linear.items() if any(matches_target(name, t) for t in selected)
            }
        if not targets:
            raise ConfigError(
                "model.adapter: the model has no linear layers but the head; train all weights: model/adapter=none"
            )
        for name, module in targets.items():
            smallest = (
                min(module.in_features, module.out_features) if isinstance(module, nn.Linear) else self.adapter_rank
            )
            if self.adapter_rank > smallest:
                raise ConfigError(
                    f"model.adapter.rank must be at most {smallest}, the dimensions of {name}, got {self.rank}; lower "
                    "it, or train all weights: model/adapter=none"
                )
        tied = head is not None and head.weight is net.get_input_embeddings().weight
        if tied and self.train_embeddings != self.train_head:
            raise ConfigError(
                "model.adapter: train_embeddings and train_head differ, but this model uses one matrix for both; "
                "set both to true or both to false"
            )
        return targets

    def fully_trained_modules(self, net: "PreTrainedModel") -> "Iterator[tuple[Any, bool]]":
        """Yields embeddings and head, and whether they are trained fully."""
        yield net.get_input_embeddings(), self.train_embeddings
        head = net.get_output_embeddings()  # type: ignore[no-untyped-call]
        if head is not None:
            yield head, self.train_head

    def peft_config(self, targets: list[str], fully_trained: list[str] | None = None, base: str | None = None) -> Any:
        from peft import LoraConfig

        return LoraConfig(
            r=self.adapter_rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=targets,
            modules_to_save=fully_trained or None,
            task_type="CAUSAL_LM",
            base_model_name_or_path=base,
        )

    def save(self, net: "PreTrainedModel", weights: "dict[str, Tensor]", folder: Path, base: str) -> None:
        """Writes the adapter as a folder that peft and vLLM load. `weights` are the trained weights by name."""
        from safetensors.torch import save_file

        names = {id(module): name for name, module in net.named_modules()}
        fully_trained = [
            names[id(module)].rsplit(".", 1)[-1] for module, trained in self.fully_trained_modules(net) if trained
        ]
        targets = sorted({name.split(".lora_")[0].rsplit(".", 1)[-1] for name in weights if is_adapter_weight(name)})
        folder.mkdir(parents=True, exist_ok=True)
        config = self.peft_config(targets, fully_trained, base)
        config.inference_mode = True
        config.save_pretrained(str(folder))
        stored = {PREFIX + name.replace(".default.", "."): value.contiguous() for name, value in weights.items()}
        save_file(stored, folder / WEIGHTS_FILE, {"format": "pt"})


@dataclass(frozen=True, kw_only=True)
class QloraAdapter(LoraAdapter):
    """LoRA on a base model whose frozen weights are quantized to 4 bits by bitsandbytes, on one NVIDIA GPU."""

    quantization: str = "nf4"  # or fp4
    double_quantization: bool = True
    quantized: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quantization not in ("nf4", "fp4"):
            raise ConfigError(f"model.adapter.quantization must be nf4 or fp4, got {self.quantization!r}")

    def check(self) -> None:
        from importlib.util import find_spec

        import torch

        missing = []
        if find_spec("bitsandbytes") is None:
            missing.append("bitsandbytes is not installed (pip install 'entigraph[quantization]')")
        if not torch.cuda.is_available():
            missing.append("torch finds no CUDA device")
        if missing:
            raise ConfigError(f"model.adapter: qlora is not available: {'; '.join(missing)}. Use model/adapter=lora")

    def load_base(self, path: str) -> "PreTrainedModel":
        import torch
        from transformers import BitsAndBytesConfig

        from entigraph.huggingface.models import load_checked

        self.check()
        config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type=self.quantization,
            bnb_4bit_use_double_quant=self.double_quantization,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        return load_checked(path, quantization_config=config, device_map={"": 0})


def adapter_of(model: Any) -> LoraAdapter | None:
    """Returns the adapter that is trained on a starting model; None if all weights are."""
    adapter = getattr(model, "adapter", None)
    return adapter if isinstance(adapter, LoraAdapter) and adapter.rank is not None else None


def check_adapter(adapter: LoraAdapter, path: str) -> None:
    """Raises ConfigError if this machine cannot train an adapter, or it does not fit the model at `path`."""
    from entigraph.huggingface.models import build_meta_model

    adapter.check()
    if (Path(path).expanduser() / "config.json").is_file():
        adapter.find_targets(build_meta_model(path))


def is_adapter_weight(name: str) -> bool:
    return any(part in name for part in ADAPTER_WEIGHTS)


def base_name(name: str) -> str:
    """Returns the name that a weight has in the model without the adapter."""
    return name.replace(BASE_LAYER, ".")


def is_linear(module: Any) -> bool:
    from torch import nn

    return isinstance(module, nn.Linear)  # bitsandbytes' layers are subclasses


def matches_target(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def initial_weight(name: str, parameter: Any, seed: int) -> "Tensor":
    """Returns the initial value of an adapter's weight in fp32: zero for B, peft's uniform distribution for A.

    A function of seed and name, so that the value is the same on any number of ranks.
    """
    import torch

    shape = tuple(parameter.shape)
    if ".lora_B." in name:
        return torch.zeros(shape)
    digest = hashlib.blake2b(f"adapter/{seed}/{name}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    bound = shape[1] ** -0.5  # kaiming_uniform_ with a = sqrt(5)
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def merge_adapter(base: "PreTrainedModel", weights: "Mapping[str, Tensor]", scale: float) -> None:
    """Adds an adapter to the weights of its base model in place, in the dtype of the base model.

    `weights` are the trained weights by name: the pairs A and B, and embeddings or head if they were trained.
    """
    import torch

    parameters = dict(base.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            if ".lora_A." in name:
                target = parameters[name.split(".lora_A.")[0] + ".weight"]
                target.add_(weights[name.replace(".lora_A.", ".lora_B.")].to(target) @ value.to(target), alpha=scale)
            elif not is_adapter_weight(name):
                parameters[base_name(name)].copy_(value)
