"""Loads Hugging Face models and configs, with clear error messages."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from entigraph.errors import ConfigError, error_chain
from entigraph.huggingface.gguf_files import clear_gguf_quantization, without_progress_bar
from entigraph.huggingface.model_folders import find_hub_error, is_local_path, pretrained_source

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

LOADING_LOGGERS = ("modeling_utils", "distributed.tensor_parallel")
MAX_NAMES = 5  # weights listed in an error message


def load_model(path: str, dtype: str = "float32") -> "PreTrainedModel":
    """Returns the model. Raises ConfigError if the folder or Hub ID cannot be loaded completely."""
    return load_checked(path, dtype=dtype)


def check_weights(path: str) -> None:
    """Raises ConfigError if the files do not contain exactly the model's weights. Reads their names and shapes."""
    load_checked(path, dtype="float32", device_map="meta")


def load_checked(path: str, **options: Any) -> "PreTrainedModel":
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    # Allows different shapes, in order to report them together with missing weights.
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        with without_load_report(), without_progress_bar(path):
            loaded: Any = AutoModelForCausalLM.from_pretrained(**pretrained_source(path), **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise model_error(path, error) from None
    except KeyError as error:  # of the index of shards
        raise model_error(path, ValueError(f"model.safetensors.index.json has no {error}.")) from None
    model, info = loaded
    problems = "; ".join(part for part in (weight_problems(info), *stored_problems(model, path)) if part)
    clear_gguf_quantization(model)
    if problems:
        raise ConfigError(f"model.path: {path} does not contain the weights that its config.json describes: {problems}")
    return cast("PreTrainedModel", model)


@contextmanager
def without_load_report() -> Iterator[None]:
    """Hides the reports of transformers on weights, which are errors here, and on tensor parallelism."""
    loggers = [logging.getLogger(f"transformers.{name}") for name in LOADING_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def weight_problems(info: Mapping[str, Any]) -> str:
    """Returns the differences between a model and its files; empty if there are none.

    `info` is the loading info of transformers, which omits tied weights and buffers that are not stored.
    """
    shapes = [
        f"{name} ({list(stored)} instead of {list(expected)})" for name, stored, expected in info["mismatched_keys"]
    ]
    groups = {"missing": info["missing_keys"], "unexpected": info["unexpected_keys"], "of a different shape": shapes}
    problems = [f"{kind}: {list_names(names)}" for kind, names in groups.items() if names]
    if any(".lora_A." in name for name in info["unexpected_keys"]):
        problems.append("it was saved with a LoRA adapter; merge the adapter first (merge_and_unload() of peft)")
    return "; ".join(problems)


def stored_problems(model: "PreTrainedModel", path: str) -> Iterator[str]:
    """Yields the problems of a local folder's safetensors that transformers ignores: integer weights without a
    quantization config, and an LM head that differs from the embeddings although config.json ties them.
    """
    import torch
    from safetensors import safe_open

    files: dict[str, Any] = {}  # by the name of the weight
    for file in sorted(Path(path).expanduser().glob("*.safetensors")):
        opened: Any = safe_open(file, "pt")
        files |= dict.fromkeys(opened.keys(), opened)
    is_quantized = hasattr(model.config, "quantization_config")
    trained = [name for name, _ in model.named_parameters() if name in files and not is_quantized]
    if integers := [name for name in trained if files[name].get_slice(name).get_dtype().startswith(("I", "U"))]:
        yield f"integers without a quantization_config: {list_names(integers)}"
    for name, source in (getattr(model, "all_tied_weights_keys", None) or {}).items():
        if {name, source} <= {*files} and not torch.equal(
            files[name].get_tensor(name), files[source].get_tensor(source)
        ):
            yield f"{name} differs from {source}; set tie_word_embeddings to false in config.json"


def list_names(names: Iterable[str]) -> str:
    ordered = sorted(names)
    rest = f" and {len(ordered) - MAX_NAMES:,} more" if len(ordered) > MAX_NAMES else ""
    return ", ".join(ordered[:MAX_NAMES]) + rest


def model_error(path: str, error: BaseException) -> ConfigError:
    """Returns a ConfigError that explains why the model cannot be loaded."""
    if any(type(cause).__name__ == "GatedRepoError" for cause in error_chain(error)):
        return ConfigError(
            f"model.path: {path} is gated: accept its license on https://huggingface.co/{path}, create a token with "
            "the same account on https://huggingface.co/settings/tokens, and put it into the environment: "
            "export HF_TOKEN=..."
        )
    return ConfigError(
        f"model.path: cannot load {path!r}: {first_sentence(error)} "
        "Set it to a Hugging Face folder (config.json and safetensors) or a Hub ID; for a gated model, accept its "
        "license on its page and put HF_TOKEN into the environment"
    )


def check_hub_model(path: str) -> None:
    """Raises ConfigError if a Hub ID is neither in the local cache nor on the Hub."""
    if error := find_hub_error(path):
        raise model_error(path, error)


def first_sentence(error: BaseException) -> str:
    """Returns the first line of an error's message, with a period."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"{line.rstrip('.')}."


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


def load_fast_tokenizer(path: str, key: str) -> Any:
    """Returns the tokenizer of a folder, Hub ID or GGUF file. Raises ConfigError, which names `key`."""
    from transformers import AutoTokenizer

    if is_local_path(path) and not Path(path).expanduser().exists():
        raise ConfigError(f"{key}: {path} does not exist; set it to a folder with tokenizer.json, or a Hub ID")
    try:
        if error := find_hub_error(path, needs_config=False):
            raise error
        tokenizer = AutoTokenizer.from_pretrained(**pretrained_source(path))
    except Exception as error:  # the Hub client raises many types, with the same remedy for the user
        raise ConfigError(
            f"{key}: cannot load the tokenizer of {path!r}: {first_sentence(error)} Set it to a folder with "
            "tokenizer.json, or a Hub ID (a gated one needs its license and HF_TOKEN)"
        ) from None
    if not tokenizer.is_fast:
        raise ConfigError(f"{key}: {path!r} has no tokenizer.json (a slow tokenizer); convert it with transformers")
    return tokenizer


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
    """Returns the folder with a model's safetensors, downloaded from the Hub if needed; None if it has none."""
    from huggingface_hub import snapshot_download

    folder = Path(path).expanduser()
    if not folder.exists():
        try:
            folder = Path(snapshot_download(path, allow_patterns=["*.safetensors", "*.json"]))
        except (OSError, ValueError) as error:
            raise model_error(path, error) from None
    return folder if list(folder.glob("*.safetensors")) else None
