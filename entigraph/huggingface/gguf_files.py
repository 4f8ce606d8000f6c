"""GGUF files (llama.cpp, Ollama) as models and tokenizers: `model.path=FILE.gguf`.

transformers reads them and dequantizes the weights: they are trained and saved like any other model. To export a
trained model to GGUF, use llama.cpp's `convert_hf_to_gguf.py`.
"""

import struct
from contextlib import AbstractContextManager, nullcontext, redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO

from entigraph.errors import ConfigError

MAGIC = b"GGUF"
ARCHITECTURE, ALIGNMENT, DEFAULT_ALIGNMENT = "general.architecture", "general.alignment", 32
# The value types of GGUF metadata.
STRING, ARRAY = 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def is_gguf(path: str) -> bool:
    """Returns whether a path has the suffix .gguf; the file need not exist."""
    return Path(path).suffix == ".gguf"


def without_progress_bar(path: str) -> AbstractContextManager[object]:
    """Hides the progress bar of transformers' GGUF reader, which `disable_progress_bar` leaves visible."""
    return redirect_stderr(StringIO()) if is_gguf(path) else nullcontext()


def clear_gguf_quantization(model: Any) -> None:
    """Removes the `quantization_config` that transformers sets for GGUF files, whose weights are dequantized."""
    if getattr(getattr(model.config, "quantization_config", None), "quant_method", None) == "gguf":
        del model.config.quantization_config


def check_gguf(file: Path) -> None:
    """Raises ConfigError if transformers cannot read a GGUF file, or it is incomplete. Does not load the weights."""
    if find_spec("gguf") is None:
        raise ConfigError(f"model.path: {file} needs the package gguf: pip install 'entigraph[gguf]'")
    header = read_header(file)
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    names = {name.replace("_", "") for name in GGUF_SUPPORTED_ARCHITECTURES}
    if header.architecture.replace("-", "").replace("_", "") not in names:
        raise ConfigError(
            f"model.path: {file} has the architecture {header.architecture!r}, which transformers does not read from "
            f"GGUF (it reads {', '.join(sorted(GGUF_SUPPORTED_ARCHITECTURES))}); use the model's Hugging Face folder "
            "instead"
        )
    size = file.stat().st_size
    if size <= header.last_tensor_offset:
        raise ConfigError(
            f"model.path: {file} is incomplete: it must have more than {header.last_tensor_offset:,} bytes, got "
            f"{size:,}; download it again"
        )


@dataclass(frozen=True)
class GgufHeader:
    """`last_tensor_offset` is the byte offset of the last tensor in the file; -1 if there is none."""

    architecture: str
    last_tensor_offset: int = -1


def read_header(file: Path) -> GgufHeader:
    """Returns the header of a GGUF file. Raises ConfigError if the file is not GGUF or its header is truncated."""
    try:
        with file.open("rb") as stream:
            return HeaderReader(stream, file.stat().st_size).read()
    except (struct.error, OSError, UnicodeDecodeError, KeyError, ValueError):
        raise ConfigError(
            f"model.path: {file} is not a complete GGUF file: its header cannot be read; download it again"
        ) from None


class HeaderReader:
    """Reads the header of a GGUF file: its metadata, such as the vocabulary, and the offsets of its tensors."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.size = stream, size

    def read(self) -> GgufHeader:
        magic, _version, tensors, entries = self.unpack("<4sIQQ")
        if magic != MAGIC:
            raise ValueError("not a GGUF file")
        values = dict(self.read_entry() for _ in range(entries))
        offsets = [self.read_offset() for _ in range(tensors)]
        alignment = int(values.get(ALIGNMENT) or DEFAULT_ALIGNMENT)
        data_start = -(-self.stream.tell() // alignment) * alignment
        return GgufHeader(values[ARCHITECTURE].decode(), data_start + max(offsets) if offsets else -1)

    def read_entry(self) -> tuple[str, Any]:
        return self.read_string().decode(), self.read_value(*self.unpack("<I"))

    def read_value(self, kind: int) -> Any:
        """Returns a string or a number; None for an array."""
        if kind == STRING:
            return self.read_string()
        if kind == ARRAY:
            kind, length = self.unpack("<IQ")
            if kind in NUMBERS:
                self.read_bytes(struct.calcsize(NUMBERS[kind]) * length)
            else:
                for _ in range(length):
                    self.read_value(kind)
            return None
        return self.unpack(f"<{NUMBERS[kind]}")[0]

    def read_offset(self) -> int:
        """Returns the offset of a tensor from the start of the data."""
        self.read_string()
        (dimensions,) = self.unpack("<I")
        return int(self.unpack(f"<{dimensions}QIQ")[-1])

    def read_string(self) -> bytes:
        return self.read_bytes(*self.unpack("<Q"))

    def unpack(self, fmt: str) -> tuple[Any, ...]:
        return struct.unpack(fmt, self.stream.read(struct.calcsize(fmt)))

    def read_bytes(self, length: int) -> bytes:
        if self.stream.tell() + length > self.size:
            raise ValueError("truncated header")
        return self.stream.read(length)
