"""Hugging Face models on disk: loading with one clear message, and what a folder must hold."""

from pathlib import Path
from typing import TYPE_CHECKING

from entigraph.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_model(path: str) -> "PreTrainedModel":
    """The model in fp32. Raises ConfigError where the folder or hub name cannot be loaded."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(str(Path(path).expanduser()), dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(
            f"model.path: cannot load {path!r}: {str(error).splitlines()[0]} "
            "Give a Hugging Face folder (config.json and safetensors) or a hub name; a gated one needs its licence "
            "accepted on its page and HF_TOKEN in the environment"
        ) from None
    return model


def check_model_path(path: str) -> None:
    """What can be known without loading: a path that exists must be a model; one that looks like a path must exist."""
    found = Path(path).expanduser()
    if found.exists():
        if not (found / "config.json").is_file():
            raise ConfigError(f"model.path: {found} holds no config.json; expected a Hugging Face model folder")
    elif found.is_absolute() or path.startswith((".", "~")):
        raise ConfigError(f"model.path: {path} does not exist; give a Hugging Face folder or hub name")
