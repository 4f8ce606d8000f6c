"""Draws the texts within a token budget and computes the position of each, before any of them is tokenized."""

import hashlib
import random
from bisect import bisect_left, insort
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from entigraph.storage.token_shards import TOKENS_PER_SHARD


@dataclass(frozen=True)
class TokenLayout:
    """The position of each drawn text in the token stream.

    `texts` holds the numbers of the texts in the order of generation; a text may occur several times. `starts` and
    `lengths` are in tokens. The last of `shard_starts` is the end of the last shard.
    """

    texts: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    shard_starts: NDArray[np.int64]

    @cached_property
    def sorted_by_text(self) -> "TokenLayout":
        order = np.argsort(self.texts, kind="stable")
        return TokenLayout(self.texts[order], self.starts[order], self.lengths[order], self.shard_starts)

    def select(self, first: int, count: int) -> "TokenLayout":
        """Returns the positions of `count` texts from `first`, numbered from 0."""
        ordered = self.sorted_by_text
        low, high = np.searchsorted(ordered.texts, (first, first + count))
        return TokenLayout(
            ordered.texts[low:high] - first, ordered.starts[low:high], ordered.lengths[low:high], self.shard_starts
        )

    @property
    def ends(self) -> NDArray[np.int64]:
        """The end of each text, in the order of the tokens."""
        return np.sort(self.starts + self.lengths)

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    @property
    def padding(self) -> int:
        return int(self.shard_starts[-1]) - self.tokens

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for array in (self.texts, self.starts, self.lengths, self.shard_starts):
            digest.update(array.tobytes())
        return digest.hexdigest()


def draw_texts(lengths: NDArray[np.int64], budget: int | None, repeat: bool, seed: int) -> NDArray[np.int64]:
    """Returns the longest prefix of whole texts within `budget` tokens, in a seeded random order.

    `repeat`: once all texts are drawn, they are drawn again in another order.
    """
    chosen = [np.empty(0, dtype=np.int64)]
    remaining, draw = budget, 0
    while len(lengths) and (draw == 0 or repeat):
        rng = random.Random(f"draw/{seed}/{draw}")
        order = np.array(rng.sample(range(len(lengths)), len(lengths)), dtype=np.int64)
        if remaining is None:
            return order
        ends = np.cumsum(lengths[order])
        fitting = int(np.searchsorted(ends, remaining, side="right"))
        chosen.append(order[:fitting])
        if fitting < len(order) or not ends[-1]:
            break
        remaining, draw = remaining - int(ends[-1]), draw + 1
    return np.concatenate(chosen)


def layout_stream(
    texts: NDArray[np.int64], lengths: NDArray[np.int64], tokens_per_shard: int = TOKENS_PER_SHARD
) -> TokenLayout:
    """Places the texts one after another. A text never spans two shards."""
    ends = np.cumsum(lengths)
    starts = ends - lengths
    shard_starts, first = [0], 0
    while first < len(ends):
        after = int(np.searchsorted(ends, starts[first] + tokens_per_shard, side="right"))
        first = max(after, first + 1)
        shard_starts.append(int(ends[first - 1]))
    return TokenLayout(texts, starts, lengths, np.array(shard_starts, dtype=np.int64))


def layout_blocks(
    texts: NDArray[np.int64], lengths: NDArray[np.int64], block_length: int, tokens_per_shard: int = TOKENS_PER_SHARD
) -> TokenLayout:
    """Places each text within one block of `block_length` tokens (best-fit decreasing)."""
    starts = np.empty(len(texts), dtype=np.int64)
    rooms: list[int] = []  # the free space of the blocks that have some, ascending and distinct
    blocks_with: dict[int, list[int]] = {}
    blocks = 0
    for text in np.argsort(-lengths, kind="stable"):
        length = int(lengths[text])
        best = bisect_left(rooms, length)
        room = rooms[best] if best < len(rooms) else block_length
        if best < len(rooms):
            block = blocks_with[room].pop()
            if not blocks_with[room]:
                del blocks_with[room], rooms[best]
        else:
            block, blocks = blocks, blocks + 1
        starts[text] = (block + 1) * block_length - room
        remaining = room - length
        if remaining and remaining not in blocks_with:
            insort(rooms, remaining)
        if remaining:
            blocks_with.setdefault(remaining, []).append(block)
    blocks_per_shard = max(1, tokens_per_shard // block_length)
    shard_starts = np.array([*range(0, blocks, blocks_per_shard), blocks], dtype=np.int64) * block_length
    return TokenLayout(texts, starts, lengths, shard_starts)
