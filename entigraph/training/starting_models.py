"""Base models for training: a pretrained causal language model, or a Llama with random weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError
from entigraph.huggingface.model_folders import read_config
from entigraph.training.adapters import LoraAdapter, adapter_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class StartingModel(Protocol):
    """The model that training starts from. `path` is the source of the weights; empty if they are random."""

    name: str
    path: str

    def build(self, vocabulary: int) -> "PreTrainedModel": ...

    def config_values(self, vocabulary: int) -> Mapping[str, Any] | None:
        """Returns the values of its config.json; None if they are unknown without a download."""


def compared_model(model: StartingModel) -> str:
    """Returns the model that the trained one is compared with; empty where training starts from random weights.

    With `add_difference` it is that one: the base model plus the difference.
    """
    return difference_of(model) or model.path


def difference_of(model: StartingModel) -> str | None:
    """Returns the model whose difference is added to the trained one; None for models that add none."""
    difference: str | None = getattr(model, "add_difference", None)
    return difference


@dataclass(frozen=True, kw_only=True)
class RandomLlama:
    """A Llama with random weights, for the laptop-scale study. Fields are named as in transformers' LlamaConfig."""

    name: str = "tiny_llama"
    path: str = runtime_field("")
    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    intermediate_size: int = 320
    max_position_embeddings: int = 512
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.path:
            raise ConfigError(
                f"model.path: this model starts from random weights; choose model=pretrained for {self.path!r}"
            )
        sizes = (
            self.hidden_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            self.num_key_value_heads,
            self.intermediate_size,
            self.max_position_embeddings,
        )
        if min(sizes) < 1:
            raise ConfigError(f"model: all sizes must be at least 1, got {sizes}")
        if self.hidden_size % self.num_attention_heads or self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                "model: hidden_size, num_attention_heads, num_key_value_heads: each must divide the preceding one, "
                f"got {self.hidden_size}, {self.num_attention_heads} and {self.num_key_value_heads}"
            )

    def config_values(self, vocabulary: int) -> Mapping[str, Any]:
        return {
            "vocab_size": vocabulary,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "initializer_range": self.initializer_range,
            "tie_word_embeddings": self.tie_word_embeddings,
        }

    def build(self, vocabulary: int) -> "PreTrainedModel":
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(**self.config_values(vocabulary), bos_token_id=None, eos_token_id=None)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return LlamaForCausalLM(config)


@dataclass(frozen=True, kw_only=True)
class PretrainedModel:
    """Any Hugging Face causal language model, by folder or Hub ID.

    `shape` contains values of its config.json, so that a plan for a model on the Hub needs no download. `adapter`, a
    `LoraAdapter`, is trained instead of the weights. `add_difference`, a folder or Hub ID, is a model tuned from this
    one: the exported model is the trained one plus what that tuning changed.
    """

    name: str = "pretrained"
    path: str = runtime_field("")
    shape: dict[str, Any] = runtime_field(default_factory=dict)
    adapter: Any = None
    add_difference: str | None = runtime_field(None)  # enters the training's cache key by content

    def __post_init__(self) -> None:
        if self.add_difference == "":
            raise ConfigError("model.add_difference must be a Hugging Face folder, a Hub ID or null, got ''")
        if not self.path:
            raise ConfigError("model.path: not set; set it to a Hugging Face folder or Hub ID")
        if self.adapter and not isinstance(self.adapter, LoraAdapter):
            raise ConfigError(
                f"model.adapter must be an adapter, got {self.adapter!r}; choose an option of its group: "
                "model/adapter=lora, model/adapter=qlora or model/adapter=none"
            )

    def build(self, vocabulary: int) -> "PreTrainedModel":
        from entigraph.huggingface.models import load_model

        adapter = adapter_of(self)
        return adapter.load_base(self.path) if adapter else load_model(self.path)

    def config_values(self, vocabulary: int) -> Mapping[str, Any] | None:
        return read_config(self.path) or self.shape or None
