"""Finds texts that nearly repeat an earlier one about their document, by MinHash, and reports or removes them."""

import re
from binascii import crc32
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import NearDuplicate, SyntheticText
from entigraph.storage.texts import read_texts, write_texts

WORDS_PER_SHINGLE = 5
PERMUTATIONS = 64
TEXTS_IN_MEMORY = 50_000  # their hashes take about 150 MB


def write_report(folder: Path, texts: int, similarity: float) -> set[str]:
    """Writes near_duplicates.jsonl and returns the ids in it. `texts` is the number of texts in the folder."""
    duplicates = list(find_near_duplicates(folder, texts, similarity))
    write_jsonl(folder / "near_duplicates.jsonl", duplicates)
    return {duplicate.id for duplicate in duplicates}


def find_near_duplicates(folder: Path, texts: int, similarity: float) -> Iterator[NearDuplicate]:
    """Yields each text that has at least the share `similarity` of its word sequences in common with an earlier text
    about its document, by estimate.

    The texts are read once per `TEXTS_IN_MEMORY` of them, each time with a part of the documents.
    """
    groups = max(1, ceil(texts / TEXTS_IN_MEMORY))
    for group in range(groups):
        indexes: dict[str, SimilarityIndex] = {}
        for text in read_texts(folder):
            if crc32(text.document_id.encode()) % groups == group:
                index = indexes.setdefault(text.document_id, SimilarityIndex(similarity))
                if duplicate := index.find_or_add(text):
                    yield duplicate


class SimilarityIndex:
    """The distinct texts of one document."""

    def __init__(self, similarity: float) -> None:
        from datasketch import MinHashLSH

        self.similarity = similarity
        self.index = MinHashLSH(threshold=similarity, num_perm=PERMUTATIONS)
        self.hashes: dict[str, Any] = {}

    def find_or_add(self, text: SyntheticText) -> NearDuplicate | None:
        """Returns the most similar text if it is similar enough; otherwise adds the text and returns None."""
        text_hash = minhash(text.text)
        candidates = [(text_hash.jaccard(self.hashes[name]), name) for name in self.index.query(text_hash)]
        similarity, name = max(candidates, default=(0.0, ""))
        if similarity >= self.similarity:
            return NearDuplicate(id=text.id, original_id=name, similarity=round(float(similarity), 3))
        self.index.insert(text.id, text_hash, check_duplication=False)
        self.hashes[text.id] = text_hash
        return None


def minhash(text: str) -> Any:
    from datasketch import MinHash

    words = re.findall(r"\w+", text.casefold())
    shingles = {
        " ".join(words[start : start + WORDS_PER_SHINGLE]).encode()
        for start in range(max(1, len(words) - WORDS_PER_SHINGLE + 1))
    }
    text_hash = MinHash(num_perm=PERMUTATIONS)
    text_hash.update_batch(shingles)
    return text_hash


def remove_texts(folder: Path, ids: set[str], on_kept: Callable[[SyntheticText], None]) -> None:
    """Rewrites the texts without those in `ids`; `on_kept` is called with each remaining one."""
    before = folder / "before_removal"
    before.mkdir()
    for file in folder.glob("texts-*.parquet"):
        file.rename(before / file.name)

    def remaining_texts() -> Iterator[SyntheticText]:
        for text in read_texts(before):
            if text.id not in ids:
                on_kept(text)
                yield text

    write_texts(folder, remaining_texts())
    for file in before.iterdir():
        file.unlink()
    before.rmdir()
