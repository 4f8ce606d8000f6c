"""Embedding models and cross-encoders on this machine, by sentence-transformers (the extra `dense`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from entigraph.errors import ConfigError
from entigraph.retrieval.base import Vector
from entigraph.storage.fingerprints import fingerprint

TEXTS_AT_ONCE = 1_024  # between two of which a killed embedding goes on


class LocalEmbedder:
    """A model's own prompts for queries and documents are used where it has some."""

    def __init__(self, path: str, batch_size: int) -> None:
        self.model = loaded("SentenceTransformer", path, "model")
        self.identity, self.batch_size = identity(path), batch_size
        self.reported: dict[str, Any] = {"cut_by_model": 0}

    def embed(self, texts: Sequence[str], queries: bool) -> Iterator[dict[int, Vector]]:
        encode = self.model.encode_query if queries else self.model.encode_document
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            part = list(texts[start : start + TEXTS_AT_ONCE])
            self.reported["cut_by_model"] += longer(self.model.tokenizer, part, self.model.max_seq_length)
            found = encode(part, batch_size=self.batch_size, show_progress_bar=False)
            yield {start + number: np.asarray(vector, dtype=np.float32) for number, vector in enumerate(found)}


class LocalReranker:
    concurrency = 1

    def __init__(self, path: str, batch_size: int) -> None:
        self.model = loaded("CrossEncoder", path, "reranker")
        self.identity, self.batch_size = identity(path), batch_size
        self.reported: dict[str, Any] = {"cut_by_reranker": 0}

    def scores(self, query: str, texts: Sequence[str]) -> Vector:
        whole = [f"{query} {text}" for text in texts]
        self.reported["cut_by_reranker"] += longer(self.model.tokenizer, whole, self.model.max_seq_length)
        pairs = [(query, text) for text in texts]
        found = np.asarray(self.model.predict(pairs, batch_size=self.batch_size, show_progress_bar=False))
        if found.ndim != 1:
            raise ConfigError(f"retriever.reranker: the model gives {found.shape[1]} scores a pair; expected one")
        return found.astype(np.float32)


def loaded(kind: str, path: str, key: str) -> Any:
    try:
        import sentence_transformers
    except ImportError:
        raise ConfigError(
            f"retriever.{key}: a model on this machine needs sentence-transformers: pip install 'entigraph[dense]', "
            "or give the address of an endpoint"
        ) from None
    try:
        return getattr(sentence_transformers, kind)(str(Path(path).expanduser()))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"retriever.{key}: cannot load {path!r}: {str(error).splitlines()[0]} Give the folder of a "
            "sentence-transformers model or its hub name"
        ) from None


def identity(path: str) -> str:
    found = Path(path).expanduser()
    return fingerprint(found) if found.exists() else path


def longer(tokenizer: Any, texts: Sequence[str], most: int | None) -> int:
    """How many texts the model reads only the beginning of."""
    if most is None:
        return 0
    return sum(len(ids) > most for ids in tokenizer(list(texts), truncation=False, verbose=False)["input_ids"])
