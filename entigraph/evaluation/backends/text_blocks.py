"""What a page holds for its script to read: JSON in compressed blocks, each inflated when something of it is shown.

A block is base64 of gzip, so nothing in it can end the element that it stands in.
"""

import gzip
import json
from base64 import b64encode
from hashlib import blake2b
from typing import Any

CHARACTERS_A_BLOCK = 400_000
QUESTIONS_A_BLOCK = 128


def packed(value: Any) -> str:
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return b64encode(gzip.compress(content, 6, mtime=0)).decode()


class Texts:
    """Every text once, by its number; at most `limit` characters of all together, beyond which `add` gives None."""

    def __init__(self, limit: int) -> None:
        self.room = limit
        self.blocks: list[str] = []
        self.firsts: list[int] = []  # the number of each block's first text
        self.waiting: list[str] = []
        self.characters = self.count = 0
        self.numbers: dict[bytes, int] = {}

    def add(self, text: str) -> int | None:
        key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key in self.numbers:
            return self.numbers[key]
        self.room -= len(text)
        if self.room < 0:
            return None
        self.numbers[key] = self.count
        self.waiting.append(text)
        self.count, self.characters = self.count + 1, self.characters + len(text)
        if self.characters >= CHARACTERS_A_BLOCK:
            self.close()
        return self.numbers[key]

    def close(self) -> None:
        if self.waiting:
            self.firsts.append(self.count - len(self.waiting))
            self.blocks.append(packed(self.waiting))
            self.waiting, self.characters = [], 0
