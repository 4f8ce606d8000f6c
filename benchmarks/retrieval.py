"""Measures the CPU seconds that ranking takes at QuALITY's size.

265 documents of 5,000 words, 4,609 questions, 128 passages per question.

python benchmarks/retrieval.py [--characters 1024] [--width 1024]

Lexical ranking with bm25s, and exact ranking by random embeddings of the given width: NumPy's search only, no model.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from entigraph.retrieval.base import Ranked, RetrievalContext
from entigraph.retrieval.bm25 import BM25
from entigraph.retrieval.dense import rank_by_distance
from entigraph.retrieval.embedding_cache import EmbeddingCache, Vector
from entigraph.retrieval.passages import split_documents
from entigraph.storage.schemas import Document

DOCUMENTS, WORDS, QUESTIONS, DEPTH, VOCABULARY = 265, 5_000, 4_609, 128, 40_000


class RandomEmbedder:
    """An embedder without a model."""

    identity = "random"

    def __init__(self, width: int) -> None:
        self.width = width
        self.counts: dict[str, Any] = {}

    def embed(self, texts: Sequence[str], queries: bool) -> Iterator[dict[int, Vector]]:
        rng = np.random.default_rng(queries)
        yield dict(enumerate(rng.standard_normal((len(texts), self.width), dtype=np.float32)))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--characters", type=int, default=1024)
    arguments.add_argument("--width", type=int, default=1024)
    options = arguments.parse_args()
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(VOCABULARY)]
    weights = [1 / (rank + 1) for rank in range(VOCABULARY)]  # Zipf's law
    documents = [
        Document(id=f"d{number}", title=f"Title {number}", text=" ".join(rng.choices(words, weights, k=WORDS)))
        for number in range(DOCUMENTS)
    ]
    questions = [" ".join(rng.choices(words, weights, k=60)) for _ in range(QUESTIONS)]
    started = time.process_time()
    texts = [passage.text for passage in split_documents(documents, options.characters)]
    print(f"splitting    {time.process_time() - started:6.2f} s   {len(texts):,} passages")
    with tempfile.TemporaryDirectory() as folder:
        context = RetrievalContext(EmbeddingCache(Path(folder) / "vectors.sqlite"), None)
        embedder = RandomEmbedder(options.width)
        print(f"bm25         {measure_ranking(lambda: BM25(depth=DEPTH).rank(texts, questions, context))}")
        list(rank_by_distance(texts, questions, DEPTH, embedder, context))  # fills the embedding cache
        rate = measure_ranking(lambda: rank_by_distance(texts, questions, DEPTH, embedder, context))
        print(f"embeddings   {rate}, {options.width} dimensions, vectors read from the cache")


def measure_ranking(rank: Callable[[], Iterator[Ranked]]) -> str:
    started = time.process_time()
    rankings = list(rank())
    took = time.process_time() - started
    return f"{took:6.2f} s   {len(rankings) / took:,.0f} questions per second, index included"


if __name__ == "__main__":
    main()
