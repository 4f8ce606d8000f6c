"""Ranked questions of a small corpus, and a loopback endpoint for embeddings and reranking."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entigraph.retrieval import stage
from entigraph.retrieval.base import Retriever
from entigraph.retrieval.bm25 import BM25
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Question, Ranking
from tests.mock_llm_server import Config, Handle, running
from tests.retrieval.small_corpus import RankCorpus, write_corpus


@pytest.fixture
def ranked(tmp_path: Path) -> RankCorpus:
    """Ranks the questions of the small corpus; the embedding cache persists between calls."""

    def make(
        retriever: Retriever | None = None, questions: list[Question] | None = None, out: str = "out", **corpus: Any
    ) -> tuple[dict[str, Any], list[Ranking]]:
        all_questions = write_corpus(tmp_path / "corpus", **corpus)
        folder = tmp_path / out
        folder.mkdir(exist_ok=True)
        counts = stage.run(
            tmp_path / "corpus" / "documents.jsonl",
            all_questions if questions is None else questions,
            folder,
            retriever=retriever or BM25(characters=256),
            embedding_cache=tmp_path / "vectors.sqlite",
            response_cache=tmp_path / "cache",
        )
        return counts, list(read_jsonl(folder / "rankings.jsonl", Ranking))

    return make


@pytest.fixture
def endpoint() -> Iterator[Handle]:
    with running(Config(latency_s=0.0)) as server:
        yield server
