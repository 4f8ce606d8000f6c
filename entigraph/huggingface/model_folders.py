"""Checks model folders and Hub IDs, and how to load them, without loading a model or importing torch."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from entigraph.errors import ConfigError
from entigraph.huggingface.gguf_files import check_gguf, is_gguf
from entigraph.storage.artifact import read_json

TOKENIZER = "tokenizer.json"
ADAPTER_CONFIG = "adapter_config.json"
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
NO_HUB_NAMES = ("models", "datasets", "spaces")  # paths of the Hub's website, which no account has as its name
POSITION_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len")
HUB_TIMEOUT_SECONDS = 10
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def is_local_path(path: str) -> bool:
    """Returns whether a path can only be a local path, even if it does not exist, and not a Hub ID."""
    local = Path(path).expanduser()
    if local.exists() or local.is_absolute() or is_gguf(path):
        return True
    if path.startswith((".", "~")) or not HUB_ID.fullmatch(path):
        return True
    owner, slash, _ = path.partition("/")
    return bool(slash) and (owner in NO_HUB_NAMES or Path(owner).is_dir())


def absolute_model_path(path: str) -> str:
    """Returns the absolute path of a local model, which is valid in any working directory. A Hub ID is unchanged."""
    local = Path(path).expanduser()
    return str(local.resolve()) if path and local.exists() else path


def check_model_path(path: str) -> None:
    """Raises ConfigError if the path does not exist or is not a model folder. Does not load the model."""
    local = Path(path).expanduser()
    if not local.exists():
        if is_local_path(path):
            raise ConfigError(f"model.path: {path} does not exist; set it to a Hugging Face folder or Hub ID")
        return
    if is_gguf(path):
        check_gguf(local)
        return
    if (local / ADAPTER_CONFIG).is_file():
        base = read_json(local / ADAPTER_CONFIG).get("base_model_name_or_path")
        raise ConfigError(
            f"model.path: {local} contains a LoRA adapter of {base or 'an unknown base model'}, not a model; merge it "
            "first (merge_and_unload() of peft, then save_pretrained), or set the folder of the merged model"
        )
    if not (local / "config.json").is_file():
        raise ConfigError(f"model.path: {local} contains no config.json; expected a Hugging Face model folder")
    if pointers := [file.name for file in sorted(local.iterdir()) if file.is_file() and is_lfs_pointer(file)]:
        raise ConfigError(
            f"model.path: {local} contains Git LFS pointers instead of files: {', '.join(pointers)}; "
            "run git lfs pull there"
        )


def is_lfs_pointer(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(LFS_POINTER)) == LFS_POINTER


def pretrained_source(path: str) -> dict[str, Any]:
    """Returns the arguments of `from_pretrained` for a folder, a Hub ID or a GGUF file.

    Code in it is never executed; otherwise transformers asks on the terminal, where other input may answer.
    """
    local = Path(path).expanduser()
    if is_gguf(path):
        files = {"pretrained_model_name_or_path": str(local.parent), "gguf_file": local.name}
    else:
        files = {"pretrained_model_name_or_path": offline_folder(path) or str(local)}
    return {**files, "trust_remote_code": False}


def find_hub_error(path: str, needs_config: bool = True) -> Exception | None:
    """Returns why a Hub ID is neither in the local cache nor on the Hub; None if it is in one of them.

    It sends one request without retries: transformers would retry for a minute. Repositories of tokenizers need no
    config.json.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    try:
        if not is_local_path(path) and not cached_folder(path):
            get_hf_file_metadata(hf_hub_url(path, "config.json"), timeout=HUB_TIMEOUT_SECONDS)
    except EntryNotFoundError as error:
        return error if needs_config else None
    except Exception as error:  # the Hub client raises many types, with the same remedy for the user
        return error
    return None


def cached_folder(hub_id: str) -> str | None:
    """Returns the folder of a Hub model in the local cache; None if it is not cached."""
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(hub_id, "config.json")
    return str(Path(file).parent) if isinstance(file, str) else None


def offline_folder(path: str) -> str | None:
    """Returns the folder of a cached Hub model if the Hub cannot be reached, else None.

    With the Hub ID, transformers would retry for half a minute for each optional file that the model does not have.
    """
    folder = None if is_local_path(path) else cached_folder(path)
    return folder if folder and not hub_is_reachable() else None


@cache
def hub_is_reachable() -> bool:
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_SECONDS)
    except Exception:  # of many types
        return False
    return True


def read_config(path: str) -> dict[str, Any] | None:
    """Returns the values of a local model's config.json, with the values of the text model if it has several parts."""
    file = Path(path).expanduser() / "config.json"
    if not file.is_file():
        return None
    try:
        values: dict[str, Any] = read_json(file)
    except ValueError as error:
        raise ConfigError(f"model.path: {file} is not JSON: {error}") from None
    return {**values, **values["text_config"]} if isinstance(values.get("text_config"), dict) else values


def max_positions(values: Mapping[str, Any]) -> int | None:
    """Returns the longest sequence that a model's config.json allows; None if it has no limit."""
    return next((values[key] for key in POSITION_KEYS if isinstance(values.get(key), int)), None)


def token_ids(file: Path) -> Mapping[str, int]:
    """Returns the id of every token of a tokenizer.json."""
    return parse_tokenizer(file, file.stat().st_mtime_ns)


def text_vocabulary(file: Path) -> int:
    """Returns the number of embeddings that the ids of a tokenizer.json need, without the special tokens at its end.

    Gemma 3 has a special token for images beyond the embeddings of its text models; texts never contain its id.
    """
    content = read_tokenizer(file, file.stat().st_mtime_ns)
    special = {added["content"] for added in content.get("added_tokens", []) if added.get("special")}
    return 1 + max((number for token, number in token_ids(file).items() if token not in special), default=-1)


@cache
def read_tokenizer(file: Path, modified: int) -> dict[str, Any]:
    content: dict[str, Any] = read_json(file)
    return content


@cache
def parse_tokenizer(file: Path, modified: int) -> Mapping[str, int]:
    content = read_tokenizer(file, modified)
    vocabulary = content["model"].get("vocab", {})
    if isinstance(vocabulary, list):  # unigram: a list of [token, score], the id is the index
        vocabulary = {entry[0]: index for index, entry in enumerate(vocabulary)}
    return {**vocabulary, **{added["content"]: added["id"] for added in content.get("added_tokens", [])}}
