"""Artificial tokens folders for benchmarks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entigraph.storage.token_shards import ShardWriter, TokenStore


def write_tokens_folder(folder: Path, texts: Sequence[Sequence[int] | NDArray[Any]]) -> TokenStore:
    """Writes the texts one after another into one shard."""
    ends = np.cumsum([len(ids) for ids in texts])
    with ShardWriter(folder, np.array([0, ends[-1]]), labeled=False) as shards:
        for ids, end in zip(texts, ends.tolist(), strict=True):
            shards.write(end - len(ids), np.asarray(ids, dtype=np.uint32))
        shards.finish(ends, None)
    return TokenStore(folder)
