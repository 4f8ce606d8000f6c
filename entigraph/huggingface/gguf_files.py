"""GGUF files (llama.cpp, Ollama) as models and tokenizers: `model.path=FILE.gguf`.

transformers reads them and dequantizes the weights: they are trained and saved like any other model. The reverse, a
trained model as GGUF, is llama.cpp's `convert_hf_to_gguf.py`.
"""

import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from entigraph.errors import ConfigError

MAGIC = b"GGUF"
STRING_TYPE = 8
ARCHITECTURE = "general.architecture"
MAX_STRING = 1_000


def is_gguf(path: str) -> bool:
    """Returns whether a path names a GGUF file, which may not exist."""
    return Path(path).suffix == ".gguf"


def pretrained_source(path: str) -> dict[str, str]:
    """Returns the arguments of `from_pretrained` for a folder, a Hub ID or a GGUF file."""
    local = Path(path).expanduser()
    if is_gguf(path):
        return {"pretrained_model_name_or_path": str(local.parent), "gguf_file": local.name}
    return {"pretrained_model_name_or_path": str(local)}


def forget_quantization(model: Any) -> None:
    """Removes the note of a GGUF file's quantization from the config: the weights are dequantized."""
    if getattr(getattr(model.config, "quantization_config", None), "quant_method", None) == "gguf":
        del model.config.quantization_config


def check_gguf(file: Path) -> None:
    """Raises ConfigError if transformers cannot read a GGUF file. Does not load the weights."""
    if find_spec("gguf") is None:
        raise ConfigError(f"model.path: {file} needs the package gguf: pip install 'entigraph[gguf]'")
    architecture = read_architecture(file)
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    names = {name.replace("_", "") for name in GGUF_SUPPORTED_ARCHITECTURES}
    if architecture.replace("-", "").replace("_", "") not in names:
        raise ConfigError(
            f"model.path: {file} has the architecture {architecture!r}, which transformers does not read from GGUF (it "
            f"reads {', '.join(sorted(GGUF_SUPPORTED_ARCHITECTURES))}); use the model's Hugging Face folder instead"
        )


def read_architecture(file: Path) -> str:
    """Returns the architecture, which the first entry of the header names. Raises ConfigError for another file."""
    problem = ConfigError(f"model.path: {file} is not a GGUF file whose header begins with {ARCHITECTURE}")
    try:
        with file.open("rb") as stream:
            magic, _, _, _ = struct.unpack("<4sIQQ", stream.read(24))  # magic, version, tensors, entries
            key = read_string(stream)
            (kind,) = struct.unpack("<I", stream.read(4))
            value = read_string(stream) if kind == STRING_TYPE else ""
    except (struct.error, OSError, UnicodeDecodeError):
        raise problem from None
    if magic != MAGIC or key != ARCHITECTURE or not value:
        raise problem
    return value


def read_string(stream: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", stream.read(8))
    return stream.read(min(length, MAX_STRING)).decode()
