"""Token shards on disk: little-endian uint32 files, memory-mapped; `document-ends.npy` says where each text ends.

Where texts were packed whole into blocks, or only some of their tokens are to be learned, `packing.json` says so, and
beside each shard stands `labels-*.bin`: one byte a token, 1 where a model is to predict that token.
"""

import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entigraph.errors import ArtifactError
from entigraph.storage.artifact import write_json
from entigraph.storage.fingerprints import checksum
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import TokenShard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOKENS_PER_SHARD = 100_000_000
INDEX = "shards.jsonl"
DOCUMENT_ENDS = "document-ends.npy"
PACKING = "packing.json"
TOKEN_BYTES = 4


class ShardWriter:
    """Shards whose layout is known: texts are written in any order, each where it belongs.

    `starts` are the tokens at which the shards begin, and the end of the last. What a text does not cover is 0, and
    no label. Files that an interrupted writer left are written on.
    """

    def __init__(self, folder: Path, starts: "NDArray[np.int64]", *, labeled: bool) -> None:
        self.folder, self.starts, self.labeled = folder, [int(start) for start in starts], labeled
        self.shards = self.opened("shard", TOKEN_BYTES)
        self.labels = self.opened("labels", 1) if labeled else []

    def opened(self, kind: str, width: int) -> list[int]:
        files = []
        for number, tokens in enumerate(self.sizes):
            files.append(os.open(self.folder / f"{kind}-{number:05}.bin", os.O_RDWR | os.O_CREAT, 0o666))
            os.ftruncate(files[-1], tokens * width)
        return files

    @property
    def sizes(self) -> list[int]:
        return [end - start for start, end in zip(self.starts, self.starts[1:], strict=False)]

    def place(self, start: int) -> tuple[int, int]:
        shard = bisect_right(self.starts, start) - 1
        return shard, start - self.starts[shard]

    def write(self, start: int, ids: "NDArray[np.uint32]", labels: "NDArray[np.uint8] | None" = None) -> None:
        if not len(ids):
            return
        shard, offset = self.place(start)
        write_all(self.shards[shard], ids.astype("<u4", copy=False).data.cast("B"), offset * TOKEN_BYTES)
        if labels is not None:
            write_all(self.labels[shard], labels.data, offset)

    def read(self, start: int, length: int) -> bytes:
        """What stands there, labels behind ids."""
        shard, offset = self.place(start)
        ids = os.pread(self.shards[shard], length * TOKEN_BYTES, offset * TOKEN_BYTES)
        return ids + (os.pread(self.labels[shard], length, offset) if self.labeled else b"")

    def finish(self, ends: "NDArray[np.int64]", block_length: int | None) -> None:
        """Describe the files. `ends`: of all texts, in the order of the tokens; padding is written down as a text."""
        import numpy as np

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
    """A single call writes 2 GB at most, and less on a full disk."""
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written


class TokenStore:
    """The tokens of an artifact as one long memory-mapped sequence.

    `block_length`: texts lie whole in blocks of so many tokens, the last tokens of a block may be padding. `labels`:
    some tokens are not to be learned.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        packing = read_packing(folder)
        self.block_length: int | None = packing.get("block_length")
        self.tokens: list[NDArray[np.uint32]] = []
        self.labels: list[NDArray[np.uint8]] = []
        self.starts = [0]
        for shard in read_index(folder):
            self.tokens.append(self.mapped(shard.file, shard.tokens, "<u4"))
            if packing:
                self.labels.append(self.mapped(shard.file.replace("shard", "labels"), shard.tokens, "u1"))
            self.starts.append(self.starts[-1] + shard.tokens)

    def mapped(self, name: str, tokens: int, kind: str) -> "NDArray[Any]":
        import numpy as np

        file, expected = self.folder / name, tokens * np.dtype(kind).itemsize
        found = file.stat().st_size if file.exists() else None
        if found != expected:
            state = "is missing" if found is None else f"has {found:,} bytes"
            raise ArtifactError(
                f"{file} {state}, not the {expected:,} bytes of its {tokens:,} tokens; "
                f"remove {self.folder} and run the same command"
            )
        return np.asarray(np.memmap(file, dtype=kind, mode="r"))

    def __len__(self) -> int:
        return self.starts[-1]

    def read(self, start: int, length: int) -> "NDArray[np.uint32]":
        """`length` tokens from `start`, continuing from the beginning past the end."""
        return self.joined(self.tokens, start, length)

    def read_labels(self, start: int, length: int) -> "NDArray[np.uint8] | None":
        """1 for each token that is to be learned; None where all are."""
        return self.joined(self.labels, start, length) if self.labels else None

    def joined(self, maps: "Sequence[NDArray[Any]]", start: int, length: int) -> "NDArray[Any]":
        import numpy as np

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
    packing: dict[str, int | None] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return packing
