"""Digests of values, and fingerprints of file contents."""

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from entigraph.errors import ArtifactError

Item = TypeVar("Item")
WHOLE_FILE_BYTES, WHOLE_WEIGHTS_BYTES = 4 << 30, 64 << 20
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx"}
ABSENT = "not set"  # shown for a missing value
SAMPLED_PARTS, SAMPLED_BYTES = 16, 64 << 10


def digest(value: Any) -> str:
    """Returns eight hex digits that identify the canonical JSON of a value."""
    content = json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return hashlib.sha256(content).hexdigest()[:8]


def checksum(file: Path) -> str:
    """Returns the SHA-256 of a file in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """Returns a digest of the content of a file or folder outside artifacts. Raises ArtifactError if unreadable.

    Weights above 64 MiB, and any file above 4 GiB, are sampled: 16 parts of 64 KiB, and the time of its last change
    unless it has weights. Reading them would delay every plan.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    try:
        return digest([[str(file.relative_to(path)), file.stat().st_size, content_sample(file)] for file in files])
    except OSError as error:
        raise ArtifactError(f"cannot read {error.filename or path}: {error.strerror}") from None


def content_sample(file: Path) -> str:
    """Returns the SHA-256 of a file, or of evenly spaced parts of a large file."""
    status = file.stat()
    if status.st_size <= WHOLE_WEIGHTS_BYTES:
        return checksum(file)
    return large_content_sample(file, status.st_size, status.st_mtime_ns)


@cache
def large_content_sample(file: Path, size: int, changed_ns: int) -> str:
    """Cached, because every job of a sweep asks for it."""
    weights = file.suffix in WEIGHTS
    if not weights and size <= WHOLE_FILE_BYTES:
        return checksum(file)
    sample = hashlib.sha256(b"" if weights else str(changed_ns).encode())
    with file.open("rb") as stream:
        for part in range(SAMPLED_PARTS):
            stream.seek(part * (size - SAMPLED_BYTES) // (SAMPLED_PARTS - 1))
            sample.update(stream.read(SAMPLED_BYTES))
    return sample.hexdigest()


def sample_by_hash(items: Iterable[Item], size: int, name: Callable[[Item], str]) -> list[Item]:
    """Returns the items whose names have the lowest hashes: a random sample, of which any smaller one is a part.

    Holds only `size` items in memory.
    """
    return heapq.nsmallest(size, items, key=lambda item: hash_name(name(item)))


def hash_name(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def differing_values(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns the values of each key that is not the same in both mappings, sorted by key."""
    names = sorted(one.keys() | other.keys())
    pairs = {name: (one.get(name, ABSENT), other.get(name, ABSENT)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a nested mapping as a flat one with dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def flatten_cache_key(cache_key: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a cache key, as read from a manifest, as a flat mapping with one field for each source file."""
    sources = cache_key.get("sources")
    if isinstance(sources, list) and all(isinstance(source, list) and len(source) == 2 for source in sources):
        return flatten({**cache_key, "sources": dict(sources)})
    return flatten(cache_key)
