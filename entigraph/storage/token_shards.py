"""Token shards on disk: memory-mapped little-endian uint32 files; `document-ends.npy` contains the end of each text.

If texts are packed without splitting them across blocks, or if the loss covers only some tokens, there are also
`packing.json` and a `labels-*.bin` per shard with one byte per token: 1 if the token contributes to the loss.
"""

import os
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entigraph.errors import ArtifactError
from entigraph.storage.artifact import read_json, write_json
from entigraph.storage.fingerprints import checksum
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import TokenShard

TOKENS_PER_SHARD = 100_000_000
INDEX = "shards.jsonl"
DOCUMENT_ENDS = "document-ends.npy"
PACKING = "packing.json"
TOKEN_BYTES = 4


class ShardWriter:
    """Writes texts in any order into shards of known layout, each text at its position.

    `starts` are the token positions at which the shards start, followed by the end of the last one. Positions without
    text contain token 0 and label 0. Files of an interrupted writer are continued.
    """

    def __init__(self, folder: Path, starts: NDArray[np.int64], *, labeled: bool) -> None:
        self.folder, self.starts, self.labeled = folder, [int(start) for start in starts], labeled
        self.shards = self.open_files("shard", TOKEN_BYTES)
        self.labels = self.open_files("labels", 1) if labeled else []

    def open_files(self, kind: str, width: int) -> list[int]:
        files = []
        for number, tokens in enumerate(self.sizes):
            files.append(os.open(self.folder / f"{kind}-{number:05}.bin", os.O_RDWR | os.O_CREAT, 0o666))
            os.ftruncate(files[-1], tokens * width)
        return files

    @property
    def sizes(self) -> list[int]:
        return [end - start for start, end in zip(self.starts, self.starts[1:], strict=False)]

    def locate(self, start: int) -> tuple[int, int]:
        """Returns the index of the shard that contains a token position, and the offset in it."""
        shard = bisect_right(self.starts, start) - 1
        return shard, start - self.starts[shard]

    def write(self, start: int, ids: NDArray[np.uint32], labels: NDArray[np.uint8] | None = None) -> None:
        if not len(ids):
            return
        shard, offset = self.locate(start)
        write_all(self.shards[shard], ids.astype("<u4", copy=False).data.cast("B"), offset * TOKEN_BYTES)
        if labels is not None:
            write_all(self.labels[shard], labels.data, offset)

    def read(self, start: int, length: int) -> bytes:
        """Returns the bytes of the ids, followed by the bytes of the labels."""
        shard, offset = self.locate(start)
        ids = os.pread(self.shards[shard], length * TOKEN_BYTES, offset * TOKEN_BYTES)
        return ids + (os.pread(self.labels[shard], length, offset) if self.labeled else b"")

    def finish(self, ends: NDArray[np.int64], block_length: int | None) -> None:
        """Writes the index. `ends` are the end positions of all texts in order; padding counts as a text."""
        in_shards = np.diff(np.searchsorted(ends, self.starts, side="right"))
        write_jsonl(
            self.folder / INDEX,
            (
                TokenShard(
                    file=f"shard-{number:05}.bin",
                    tokens=tokens,
                    documents=int(documents),
                    sha256=checksum(self.folder / f"shard-{number:05}.bin"),
                )
                for number, (tokens, documents) in enumerate(zip(self.sizes, in_shards, strict=True))
            ),
        )
        if block_length:
            ends = np.union1d(ends, np.arange(block_length, self.starts[-1] + 1, block_length))
        np.save(self.folder / DOCUMENT_ENDS, ends)
        if self.labeled:
            write_json(self.folder / PACKING, {"block_length": block_length, "labels": True})

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        for file in (*self.shards, *self.labels):
            os.close(file)


def write_all(file: int, data: memoryview, offset: int) -> None:
    """Writes all of `data`; a single `pwrite` writes at most 2 GB, and less on a full disk."""
    while data:
        count = os.pwrite(file, data, offset)
        data, offset = data[count:], offset + count


class TokenStore:
    """The tokens of an artifact as one memory-mapped sequence.

    Attributes:
        block_length: Length of the padded blocks into which unsplit texts are packed; None: not packed.
        labels: One array per shard if the loss covers only some tokens, otherwise empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        packing = read_packing(folder)
        self.block_length: int | None = packing.get("block_length")
        self.tokens: list[NDArray[np.uint32]] = []
        self.labels: list[NDArray[np.uint8]] = []
        self.starts = [0]
        for shard in read_index(folder):
            self.tokens.append(self.open_memmap(shard.file, shard.tokens, "<u4"))
            if packing:
                self.labels.append(self.open_memmap(shard.file.replace("shard", "labels"), shard.tokens, "u1"))
            self.starts.append(self.starts[-1] + shard.tokens)

    def open_memmap(self, name: str, tokens: int, dtype: str) -> NDArray[Any]:
        file, expected = self.folder / name, tokens * np.dtype(dtype).itemsize
        size = file.stat().st_size if file.exists() else None
        if size != expected:
            state = "it is missing" if size is None else f"it has {size:,} bytes"
            raise ArtifactError(
                f"{file} must have {expected:,} bytes for {tokens:,} tokens, but {state}; "
                f"remove {self.folder} and run the same command"
            )
        return np.asarray(np.memmap(file, dtype=dtype, mode="r"))

    def __len__(self) -> int:
        return self.starts[-1]

    def read(self, start: int, length: int) -> NDArray[np.uint32]:
        """Returns `length` tokens from `start`, wrapping around at the end."""
        return self.read_across_shards(self.tokens, start, length)

    def read_labels(self, start: int, length: int) -> NDArray[np.uint8] | None:
        """Returns 1 for each token that contributes to the loss and 0 for others; None if all tokens do."""
        return self.read_across_shards(self.labels, start, length) if self.labels else None

    def read_across_shards(self, maps: Sequence[NDArray[Any]], start: int, length: int) -> NDArray[Any]:
        pieces = []
        while length > 0:
            start %= self.starts[-1]
            shard = bisect_right(self.starts, start) - 1
            offset = start - self.starts[shard]
            piece = maps[shard][offset : offset + length]
            pieces.append(piece)
            start, length = start + len(piece), length - len(piece)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def read_index(folder: Path) -> list[TokenShard]:
    try:
        return list(read_jsonl(folder / INDEX, TokenShard))
    except FileNotFoundError:
        raise ArtifactError(f"{folder / INDEX} is missing; remove {folder} and run the same command") from None


def read_packing(folder: Path) -> dict[str, int | None]:
    file = folder / PACKING
    packing: dict[str, int | None] = read_json(file) if file.exists() else {}
    return packing
