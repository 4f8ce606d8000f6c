"""Token shards on disk: little-endian uint32 files, memory-mapped; `document-ends.npy` says where each text ends."""

from pathlib import Path
from typing import TYPE_CHECKING

from entigraph.artefact import checksum
from entigraph.errors import ArtefactError
from entigraph.records import TokenShard, read_jsonl, write_jsonl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOKENS_A_SHARD = 100_000_000
INDEX = "shards.jsonl"
ENDS = "document-ends.npy"


class ShardWriter:
    """Appends texts; a text never spans two shards."""

    def __init__(self, folder: Path, tokens_a_shard: int = TOKENS_A_SHARD) -> None:
        self.folder, self.tokens_a_shard = folder, tokens_a_shard
        self.tokens = self.documents = 0
        self.shards: list[TokenShard] = []
        self.ends: list[int] = []
        self.open()

    def open(self) -> None:
        self.path = self.folder / f"shard-{len(self.shards):05}.bin"
        self.file = self.path.open("wb")
        self.shard_tokens = self.shard_documents = 0

    def add(self, ids: list[int]) -> None:
        import numpy as np

        if self.shard_tokens and self.shard_tokens + len(ids) > self.tokens_a_shard:
            self.close()
            self.open()
        self.file.write(np.asarray(ids, dtype="<u4").tobytes())
        self.shard_tokens += len(ids)
        self.shard_documents += 1
        self.tokens += len(ids)
        self.documents += 1
        self.ends.append(self.tokens)

    def close(self) -> None:
        self.file.close()
        self.shards.append(
            TokenShard(
                file=self.path.name,
                tokens=self.shard_tokens,
                documents=self.shard_documents,
                sha256=checksum(self.path),
            )
        )

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        import numpy as np

        if kind is not None:
            self.file.close()
            return
        self.close()
        write_jsonl(self.folder / INDEX, self.shards)
        np.save(self.folder / ENDS, np.asarray(self.ends, dtype=np.int64))


class TokenStore:
    """The tokens of an artefact as one long memory-mapped sequence."""

    def __init__(self, folder: Path) -> None:
        import numpy as np

        self.folder = folder
        self.maps: list[NDArray[np.uint32]] = []
        starts = [0]
        for shard in read_jsonl(folder / INDEX, TokenShard):
            file = folder / shard.file
            found = file.stat().st_size if file.exists() else 0
            if found != shard.tokens * 4:
                raise ArtefactError(
                    f"{file} has {found:,} bytes, not the {shard.tokens * 4:,} of its {shard.tokens:,} tokens; "
                    f"remove {folder} and run the same command"
                )
            self.maps.append(np.memmap(file, dtype="<u4", mode="r"))
            starts.append(starts[-1] + shard.tokens)
        self.starts = np.asarray(starts, dtype=np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, start: int, length: int) -> "NDArray[np.uint32]":
        """`length` tokens from `start`, continuing from the beginning past the end."""
        import numpy as np

        pieces = []
        while length > 0:
            start %= len(self)
            shard = int(np.searchsorted(self.starts, start, side="right")) - 1
            offset = start - int(self.starts[shard])
            piece = self.maps[shard][offset : offset + length]
            pieces.append(piece)
            start, length = start + len(piece), length - len(piece)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
