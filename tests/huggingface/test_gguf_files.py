"""GGUF files: their headers, and one error for each file that cannot be read."""

import struct
from pathlib import Path

import pytest

from entigraph.errors import ConfigError
from entigraph.huggingface import gguf_files
from entigraph.huggingface.gguf_files import check_gguf, read_header
from entigraph.huggingface.model_folders import pretrained_source


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def write_header(file: Path, architecture: str, key: str = "general.architecture") -> Path:
    """Writes a GGUF file without tensors, with one entry."""
    entry = string(key) + struct.pack("<I", 8) + string(architecture)
    file.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + entry)
    return file


def model_file() -> bytes:
    """Returns a GGUF file with a vocabulary, scores, a different alignment, and two tensors of 8 and 64 bytes."""
    tokens = string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string("b")
    scores = string("tokenizer.ggml.scores") + struct.pack("<IIQ2f", 9, 6, 2, 0.5, 1.5)
    alignment = string("general.alignment") + struct.pack("<II", 4, 64)
    architecture = string("general.architecture") + struct.pack("<I", 8) + string("llama")
    tensors = string("norm") + struct.pack("<IQIQ", 1, 2, 0, 0) + string("head") + struct.pack("<IQQIQ", 2, 4, 4, 0, 64)
    header = struct.pack("<4sIQQ", b"GGUF", 3, 2, 4) + tokens + scores + alignment + architecture + tensors
    return header + bytes(-len(header) % 64) + bytes(128)


def test_architecture_in_the_header(tmp_path: Path) -> None:
    assert read_header(write_header(tmp_path / "model.gguf", "gemma3")).architecture == "gemma3"


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04" + bytes(60)])
def test_file_in_a_different_format_is_an_error(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.gguf is not a complete GGUF file"):
        read_header(file)


def test_header_without_an_architecture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a complete GGUF file"):
        read_header(write_header(tmp_path / "model.gguf", "llama", key="general.name"))


def test_incomplete_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_files, "find_spec", lambda name: object())
    content, file = model_file(), tmp_path / "model.gguf"
    file.write_bytes(content)
    check_gguf(file)
    for size in range(0, len(content) - 64, 7):
        file.write_bytes(content[:size])
        with pytest.raises(ConfigError, match=r"model\.gguf is (incomplete|not a complete).* download it again"):
            check_gguf(file)


def test_architecture_that_transformers_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_files, "find_spec", lambda name: object())
    with pytest.raises(ConfigError, match="has the architecture 'rwkv7'.* use the model's Hugging Face folder instead"):
        check_gguf(write_header(tmp_path / "model.gguf", "rwkv7"))
    for known in ("llama", "gemma3", "qwen3", "qwen2moe"):
        check_gguf(write_header(tmp_path / "model.gguf", known))


def test_missing_package_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_files, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'entigraph\[gguf\]'"):
        check_gguf(write_header(tmp_path / "model.gguf", "llama"))


def test_source_of_folders_files_and_hub_ids(tmp_path: Path) -> None:
    no_code = {"trust_remote_code": False}
    assert pretrained_source("org/model") == {"pretrained_model_name_or_path": "org/model", **no_code}
    source = {"pretrained_model_name_or_path": str(tmp_path), "gguf_file": "model.gguf", **no_code}
    assert pretrained_source(str(tmp_path / "model.gguf")) == source
