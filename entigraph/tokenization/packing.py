"""Which texts are drawn, and the token at which each of them goes: known before any of them is tokenized."""

import hashlib
import random
from bisect import bisect_left, insort
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from entigraph.storage.token_shards import TOKENS_PER_SHARD

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Layout:
    """`texts` numbers texts in the order in which they were written; one may stand in several places.

    `starts` and `lengths` are tokens. `shard_starts` ends with the end of the last shard.
    """

    texts: "NDArray[np.int64]"
    starts: "NDArray[np.int64]"
    lengths: "NDArray[np.int64]"
    shard_starts: "NDArray[np.int64]"

    @cached_property
    def by_text(self) -> "Layout":
        """The same, in the order of `texts`."""
        import numpy as np

        order = np.argsort(self.texts, kind="stable")
        return Layout(self.texts[order], self.starts[order], self.lengths[order], self.shard_starts)

    def of_texts(self, first: int, count: int) -> "Layout":
        """The places of `count` texts from `first`, numbered from 0."""
        import numpy as np

        ordered = self.by_text
        low, high = np.searchsorted(ordered.texts, (first, first + count))
        return Layout(
            ordered.texts[low:high] - first, ordered.starts[low:high], ordered.lengths[low:high], self.shard_starts
        )

    @property
    def ends(self) -> "NDArray[np.int64]":
        """Of all texts, in the order of the tokens."""
        import numpy as np

        return np.sort(self.starts + self.lengths)

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    @property
    def padding(self) -> int:
        return int(self.shard_starts[-1]) - self.tokens

    @property
    def fingerprint(self) -> str:
        found = hashlib.sha256()
        for array in (self.texts, self.starts, self.lengths, self.shard_starts):
            found.update(array.tobytes())
        return found.hexdigest()


def drawn(lengths: "NDArray[np.int64]", budget: int | None, repeat: bool, seed: int) -> "NDArray[np.int64]":
    """The longest prefix of whole texts within `budget`, of a seeded order without replacement.

    `repeat`: when all texts are drawn, they are drawn again, in another order.
    """
    import numpy as np

    chosen = [np.empty(0, dtype=np.int64)]
    left, draw = budget, 0
    while len(lengths) and (draw == 0 or repeat):
        rng = random.Random(f"draw/{seed}/{draw}")
        order = np.array(rng.sample(range(len(lengths)), len(lengths)), dtype=np.int64)
        if left is None:
            return order
        ends = np.cumsum(lengths[order])
        fitting = int(np.searchsorted(ends, left, side="right"))
        chosen.append(order[:fitting])
        if fitting < len(order) or not ends[-1]:
            break
        left, draw = left - int(ends[-1]), draw + 1
    return np.concatenate(chosen)


def in_a_stream(
    texts: "NDArray[np.int64]", lengths: "NDArray[np.int64]", tokens_a_shard: int = TOKENS_PER_SHARD
) -> Layout:
    """One behind the other; a text never spans two shards."""
    import numpy as np

    ends = np.cumsum(lengths)
    starts = ends - lengths
    shard_starts, first = [0], 0
    while first < len(ends):
        behind = int(np.searchsorted(ends, starts[first] + tokens_a_shard, side="right"))
        first = max(behind, first + 1)
        shard_starts.append(int(ends[first - 1]))
    return Layout(texts, starts, lengths, np.array(shard_starts, dtype=np.int64))


def in_blocks(
    texts: "NDArray[np.int64]",
    lengths: "NDArray[np.int64]",
    block_length: int,
    tokens_a_shard: int = TOKENS_PER_SHARD,
) -> Layout:
    """Each text whole in one block of `block_length` tokens: the longest first, each where least room is left."""
    import numpy as np

    starts = np.empty(len(texts), dtype=np.int64)
    rooms: list[int] = []  # in order, those that some block has
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
        left = room - length
        if left and left not in blocks_with:
            insort(rooms, left)
        if left:
            blocks_with.setdefault(left, []).append(block)
    blocks_a_shard = max(1, tokens_a_shard // block_length)
    shard_starts = np.array([*range(0, blocks, blocks_a_shard), blocks], dtype=np.int64) * block_length
    return Layout(texts, starts, lengths, shard_starts)
