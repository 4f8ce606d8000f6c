"""Texts that say nearly the same as an earlier one about their document: found by MinHash, reported or removed."""

import re
from binascii import crc32
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import NearDuplicate, SyntheticText
from entigraph.storage.texts import read_texts, write_texts

WORDS_A_SHINGLE = 5
PERMUTATIONS = 64
TEXTS_AT_ONCE = 50_000  # whose hashes are in memory together, about 150 MB


def near_duplicates(folder: Path, texts: int, similarity: float) -> Iterator[NearDuplicate]:
    """Each text that resembles an earlier one of its document: the share of their word sequences in common, estimated.

    The texts are read once for every `TEXTS_AT_ONCE` of them, some of the documents each time.
    """
    groups = max(1, ceil(texts / TEXTS_AT_ONCE))
    for group in range(groups):
        seen: dict[str, Seen] = {}
        for text in read_texts(folder):
            if crc32(text.document_id.encode()) % groups == group:
                known = seen.setdefault(text.document_id, Seen(similarity))
                found = known.like(text)
                if found:
                    yield NearDuplicate(id=text.id, original_id=found[0], similarity=found[1])


class Seen:
    """The texts of one document so far that are not like each other."""

    def __init__(self, similarity: float) -> None:
        from datasketch import MinHashLSH

        self.similarity = similarity
        self.index = MinHashLSH(threshold=similarity, num_perm=PERMUTATIONS)
        self.hashes: dict[str, Any] = {}

    def like(self, text: SyntheticText) -> tuple[str, float] | None:
        """The text that it resembles most, and how much; where there is none it joins them."""
        own = minhash(text.text)
        alike = [(own.jaccard(self.hashes[name]), name) for name in self.index.query(own)]
        most, name = max(alike, default=(0.0, ""))
        if most >= self.similarity:
            return name, round(float(most), 3)
        self.index.insert(text.id, own, check_duplication=False)
        self.hashes[text.id] = own
        return None


def minhash(text: str) -> Any:
    from datasketch import MinHash

    words = re.findall(r"\w+", text.casefold())
    shingles = {
        " ".join(words[start : start + WORDS_A_SHINGLE]).encode()
        for start in range(max(1, len(words) - WORDS_A_SHINGLE + 1))
    }
    found = MinHash(num_perm=PERMUTATIONS)
    found.update_batch(shingles)
    return found


def report(folder: Path, texts: int, similarity: float) -> set[str]:
    """Writes near_duplicates.jsonl; returns the ids."""
    found = list(near_duplicates(folder, texts, similarity))
    write_jsonl(folder / "near_duplicates.jsonl", found)
    return {each.id for each in found}


def remove(folder: Path, unwanted: set[str], kept: Callable[[SyntheticText], None]) -> None:
    """Writes the texts anew without the unwanted ones; `kept` is called with each that stays."""
    before = folder / "before_removal"
    before.mkdir()
    for file in folder.glob("texts-*.parquet"):
        file.rename(before / file.name)

    def wanted() -> Iterator[SyntheticText]:
        for text in read_texts(before):
            if text.id not in unwanted:
                kept(text)
                yield text

    write_texts(folder, wanted())
    for file in before.iterdir():
        file.unlink()
    before.rmdir()
