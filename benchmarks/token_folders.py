"""Artificial tokens folders for benchmarks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from entigraph.storage.token_shards import ShardWriter, TokenStore


def write_tokens_folder(folder: Path, texts: Sequence[Sequence[int]]) -> TokenStore:
    """Writes the texts one after another into one shard."""
    ends = np.cumsum([len(ids) for ids in texts])
    with ShardWriter(folder, np.array([0, ends[-1]]), labeled=False) as shards:
        for ids, end in zip(texts, ends.tolist(), strict=True):
            shards.write(end - len(ids), np.asarray(ids, dtype=np.uint32))
        shards.finish(ends, None)
    return TokenStore(folder)
