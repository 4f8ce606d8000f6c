"""Hugging Face models on disk: loading with one clear message, and what a folder must hold."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from entigraph.errors import ConfigError

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel


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
        raise model_error(path, error) from None
    return model


def model_error(path: str, error: BaseException) -> ConfigError:
    """One message for whatever stood in the way of a model."""
    link: BaseException | None = error
    while link is not None:
        if type(link).__name__ == "GatedRepoError":
            return ConfigError(
                f"model.path: {path} is gated: accept its license on https://huggingface.co/{path}, make a token on "
                "https://huggingface.co/settings/tokens with the account that did, and put it into the environment: "
                "export HF_TOKEN=..."
            )
        link = link.__cause__ or link.__context__
    return ConfigError(
        f"model.path: cannot load {path!r}: {str(error).splitlines()[0]} "
        "Give a Hugging Face folder (config.json and safetensors) or a hub name; a gated one needs its license "
        "accepted on its page and HF_TOKEN in the environment"
    )


def build_meta_model(path: str) -> "PreTrainedModel":
    """The model's structure on the meta device, in fp32, without reading a weight."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(str(Path(path).expanduser()))
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise model_error(path, error) from None
    return model


def load_config(path: str) -> tuple[Any, "GenerationConfig"]:
    """Its configuration, and how it generates, without a weight. Raises ConfigError where it cannot be read."""
    from transformers import AutoConfig, GenerationConfig

    folder = str(Path(path).expanduser())
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise model_error(path, error) from None
    try:
        return config, GenerationConfig.from_pretrained(folder)
    except OSError:  # none beside the weights, which is not rare
        return config, GenerationConfig.from_model_config(config)


def eos_token_ids(generation: "GenerationConfig | None") -> list[int]:
    """The tokens that end a text, as the model itself says."""
    found = getattr(generation, "eos_token_id", None)
    return [token for token in (found if isinstance(found, list) else [found]) if token is not None]


def weights_folder(path: str) -> Path | None:
    """Where a model's safetensors lie, downloaded once where the name is one on a hub; None where it has none."""
    from huggingface_hub import snapshot_download

    folder = Path(path).expanduser()
    if not folder.exists():
        try:
            folder = Path(snapshot_download(path, allow_patterns=["*.safetensors", "*.json"]))
        except (OSError, ValueError) as error:
            raise model_error(path, error) from None
    return folder if list(folder.glob("*.safetensors")) else None


def check_model_path(path: str) -> None:
    """What can be known without loading: a path that exists must be a model; one that looks like a path must exist."""
    found = Path(path).expanduser()
    if found.exists():
        if not (found / "config.json").is_file():
            raise ConfigError(f"model.path: {found} holds no config.json; expected a Hugging Face model folder")
    elif found.is_absolute() or path.startswith((".", "~")):
        raise ConfigError(f"model.path: {path} does not exist; give a Hugging Face folder or hub name")
