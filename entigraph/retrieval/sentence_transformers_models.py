"""Local embedding models and cross-encoders, loaded with sentence-transformers (the extra `dense`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from entigraph.errors import ConfigError
from entigraph.huggingface.model_folders import find_hub_error, offline_folder
from entigraph.huggingface.models import first_sentence
from entigraph.retrieval.embedding_cache import Vector
from entigraph.storage.fingerprints import fingerprint

TEXTS_PER_BATCH = 1_024  # a killed run loses at most that many embeddings


class LocalEmbedder:
    """An `Embedder` that applies the model's prompts for queries and documents, if it defines any."""

    def __init__(self, path: str, batch_size: int) -> None:
        self.model = load_sentence_transformer("SentenceTransformer", path, "model")
        self.identity, self.batch_size = identify_model(path), batch_size
        self.counts: dict[str, Any] = {"truncated_by_model": 0}

    def embed(self, texts: Sequence[str], queries: bool) -> Iterator[dict[int, Vector]]:
        import numpy as np

        encode = self.model.encode_query if queries else self.model.encode_document
        for start in range(0, len(texts), TEXTS_PER_BATCH):
            batch = list(texts[start : start + TEXTS_PER_BATCH])
            self.counts["truncated_by_model"] += count_truncated(self.model.tokenizer, batch, self.model.max_seq_length)
            vectors = encode(batch, batch_size=self.batch_size, show_progress_bar=False)
            yield {index: np.asarray(vector, dtype=np.float32) for index, vector in enumerate(vectors, start)}


class LocalReranker:
    """A `Reranker` that scores (query, text) pairs with a cross-encoder."""

    concurrency = 1

    def __init__(self, path: str, batch_size: int) -> None:
        self.model = load_sentence_transformer("CrossEncoder", path, "reranker")
        self.identity, self.batch_size = identify_model(path), batch_size
        self.counts: dict[str, Any] = {"truncated_by_reranker": 0}

    def scores(self, query: str, texts: Sequence[str]) -> Vector:
        import numpy as np

        joined = [f"{query} {text}" for text in texts]
        self.counts["truncated_by_reranker"] += count_truncated(self.model.tokenizer, joined, self.model.max_seq_length)
        pairs = [(query, text) for text in texts]
        scores = np.asarray(self.model.predict(pairs, batch_size=self.batch_size, show_progress_bar=False))
        if scores.ndim != 1:
            raise ConfigError(f"retriever.reranker must return one score per pair, got {scores.shape[1]}")
        return scores.astype(np.float32)


def load_sentence_transformer(kind: str, path: str, key: str) -> Any:
    """Loads a model. Raises ConfigError if sentence-transformers is not installed or the model cannot be loaded."""
    try:
        import sentence_transformers
    except ImportError:
        raise ConfigError(
            f"retriever.{key}: a local model needs sentence-transformers: pip install 'entigraph[dense]', "
            "or set the URL of an endpoint"
        ) from None
    try:
        hub_id = path if "/" in path else f"sentence-transformers/{path}"  # as the library completes short names
        if not Path(path).expanduser().exists() and (error := find_hub_error(hub_id, needs_config=False)):
            raise error
        return getattr(sentence_transformers, kind)(offline_folder(hub_id) or str(Path(path).expanduser()))
    except Exception as error:  # the Hub client raises many types, with the same remedy for the user
        raise ConfigError(
            f"retriever.{key}: cannot load {path!r}: {first_sentence(error)} Set it to the folder or Hub ID "
            "of a sentence-transformers model"
        ) from None


def identify_model(path: str) -> str:
    """Returns a folder's content hash, or the Hub ID."""
    folder = Path(path).expanduser()
    return fingerprint(folder) if folder.exists() else path


def count_truncated(tokenizer: Any, texts: Sequence[str], max_length: int | None) -> int:
    """Returns the number of texts that exceed the model's maximum length in tokens."""
    if max_length is None:
        return 0
    return sum(len(ids) > max_length for ids in tokenizer(list(texts), truncation=False, verbose=False)["input_ids"])
