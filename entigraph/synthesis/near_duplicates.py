"""Finds texts that nearly repeat an earlier one, about any document, by MinHash; reports or removes them."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import NearDuplicate, SyntheticText
from entigraph.storage.texts import read_texts, write_texts
from entigraph.text.writing_systems import split_words

WORDS_PER_SHINGLE = 5
PERMUTATIONS = 64
TEXTS_PER_BATCH = 10_000


def write_report(folder: Path, similarity: float) -> set[str]:
    """Writes near_duplicates.jsonl and returns the ids in it."""
    duplicates = list(find_near_duplicates(folder, similarity))
    write_jsonl(folder / "near_duplicates.jsonl", duplicates)
    return {duplicate.id for duplicate in duplicates}


def find_near_duplicates(folder: Path, similarity: float) -> Iterator[NearDuplicate]:
    """Yields each text whose estimated share of word n-grams in common with an earlier text is at least `similarity`.

    The texts are read once; of each, 256 bytes of hashes and its id are held in memory.
    """
    ids, hashes = hash_texts(folder)
    buckets_of = shared_buckets(hashes, similarity)
    kept: dict[tuple[int, int], list[int]] = defaultdict(list)  # the distinct texts of each bucket
    for text, buckets in buckets_of.items():
        earlier = {other for bucket in buckets for other in kept[bucket]}
        candidates = [(float((hashes[text] == hashes[other]).mean()), ids[other]) for other in earlier]
        best, original = max(candidates, default=(0.0, ""))
        if best >= similarity:
            yield NearDuplicate(id=ids[text], original_id=original, similarity=round(best, 3))
        else:
            for bucket in buckets:
                kept[bucket].append(text)


def hash_texts(folder: Path) -> tuple[Sequence[str], NDArray[np.uint32]]:
    """Returns the ids of the texts, and a row of minimum hashes for each."""
    ids: list[str] = []
    batches: list[NDArray[np.uint32]] = []
    batch: list[Any] = []
    for text in read_texts(folder):
        ids.append(text.id)
        batch.append(minhash(text.text).hashvalues.astype(np.uint32))
        if len(batch) == TEXTS_PER_BATCH:
            batches.append(np.stack(batch))
            batch = []
    batches += [np.stack(batch)] if batch else []
    return ids, np.concatenate(batches) if batches else np.empty((0, PERMUTATIONS), dtype=np.uint32)


def shared_buckets(hashes: NDArray[np.uint32], similarity: float) -> dict[int, list[tuple[int, int]]]:
    """Returns the buckets (band and number) of each text that shares one with another text, in the order of the texts.

    Texts are in one bucket if they agree in all hashes of a band. datasketch chooses the bands for the similarity.
    """
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=similarity, num_perm=PERMUTATIONS)
    buckets_of: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for band in range(index.b):
        rows = np.ascontiguousarray(hashes[:, band * index.r : (band + 1) * index.r])
        keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * index.r))).ravel()
        _, numbers, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        for text in np.flatnonzero(sizes[numbers] > 1).tolist():
            buckets_of[text].append((band, int(numbers[text])))
    return dict(sorted(buckets_of.items()))


def minhash(text: str) -> Any:
    from datasketch import MinHash

    words = split_words(text.casefold())
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
