"""Loads Hugging Face models and configs, with clear error messages, and checks model folders."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from entigraph.errors import ConfigError
from entigraph.huggingface.gguf_files import check_gguf, forget_quantization, pretrained_source

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel


def load_model(path: str) -> "PreTrainedModel":
    """Returns the model in fp32. Raises ConfigError if the folder or Hub ID cannot be loaded."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(**pretrained_source(path), dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        raise model_error(path, error) from None
    forget_quantization(model)
    return model


def model_error(path: str, error: BaseException) -> ConfigError:
    """Returns a ConfigError that explains why the model cannot be loaded."""
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__name__ == "GatedRepoError":
            return ConfigError(
                f"model.path: {path} is gated: accept its license on https://huggingface.co/{path}, create a token "
                "with the same account on https://huggingface.co/settings/tokens, and put it into the environment: "
                "export HF_TOKEN=..."
            )
        cause = cause.__cause__ or cause.__context__
    return ConfigError(
        f"model.path: cannot load {path!r}: {str(error).splitlines()[0]} "
        "Set it to a Hugging Face folder (config.json and safetensors) or a Hub ID; for a gated model, accept its "
        "license on its page and put HF_TOKEN into the environment"
    )


def build_meta_model(path: str) -> "PreTrainedModel":
    """Returns the model on the meta device, in fp32, without reading weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(**pretrained_source(path))
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise model_error(path, error) from None
    return model


def load_config(path: str) -> tuple[Any, "GenerationConfig"]:
    """Returns the model's config and generation config. Raises ConfigError if the config cannot be read."""
    from transformers import AutoConfig, GenerationConfig

    source = pretrained_source(path)
    try:
        config = AutoConfig.from_pretrained(**source)
    except (OSError, ValueError) as error:
        raise model_error(path, error) from None
    try:
        return config, GenerationConfig.from_pretrained(source["pretrained_model_name_or_path"])
    except OSError:  # many models have no generation_config.json
        return config, GenerationConfig.from_model_config(config)


def eos_token_ids(generation: "GenerationConfig | None") -> list[int]:
    """Returns the EOS token ids of a generation config."""
    ids = getattr(generation, "eos_token_id", None)
    return [token for token in (ids if isinstance(ids, list) else [ids]) if token is not None]


def weights_folder(path: str) -> Path | None:
    """Returns the folder with a model's safetensors, downloaded from the hub if needed; None if it has none."""
    from huggingface_hub import snapshot_download

    folder = Path(path).expanduser()
    if not folder.exists():
        try:
            folder = Path(snapshot_download(path, allow_patterns=["*.safetensors", "*.json"]))
        except (OSError, ValueError) as error:
            raise model_error(path, error) from None
    return folder if list(folder.glob("*.safetensors")) else None


def check_model_path(path: str) -> None:
    """Raises ConfigError if the path does not exist or is not a model folder. Does not load the model."""
    local = Path(path).expanduser()
    if local.suffix == ".gguf" and local.is_file():
        check_gguf(local)
    elif local.exists():
        if not (local / "config.json").is_file():
            raise ConfigError(f"model.path: {local} contains no config.json; expected a Hugging Face model folder")
    elif local.is_absolute() or path.startswith((".", "~")):
        raise ConfigError(f"model.path: {path} does not exist; set it to a Hugging Face folder or Hub ID")
