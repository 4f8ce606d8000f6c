"""A SQLite file with all computed embeddings and reranker scores, keyed by the content of the request.

An embedding computed for one run is reused by all others, whatever their depth, order and number of passages. Several
processes may share the file.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from entigraph.errors import ArtifactError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Vector: TypeAlias = "NDArray[np.float32]"
LOCK_TIMEOUT_S = 60.0
KEYS_PER_QUERY = 500


class EmbeddingCache:
    """Stores vectors by key. All methods raise ArtifactError if the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.translate_errors():
            self.database = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S, isolation_level=None)
            self.database.execute("PRAGMA journal_mode=WAL")
            self.database.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, value BLOB NOT NULL)")

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """Returns the cached vectors, without the keys that are not cached."""
        import numpy as np

        vectors: dict[bytes, Vector] = {}
        for start in range(0, len(keys), KEYS_PER_QUERY):
            batch = keys[start : start + KEYS_PER_QUERY]
            placeholders = ",".join("?" * len(batch))
            with self.translate_errors():
                rows = self.database.execute(f"SELECT key, value FROM vectors WHERE key IN ({placeholders})", batch)
                vectors |= {key: np.frombuffer(value, dtype="<f4") for key, value in rows}
        return vectors

    def put(self, vectors: Mapping[bytes, Vector]) -> None:
        """Stores vectors; they are on disk when this returns."""
        import numpy as np

        rows = [(key, np.ascontiguousarray(value, dtype="<f4").tobytes()) for key, value in vectors.items()]
        with self.translate_errors():
            self.database.execute("BEGIN IMMEDIATE")
            self.database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
            self.database.execute("COMMIT")

    def close(self) -> None:
        self.database.close()

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise ArtifactError(
                f"{self.path} cannot be used: {error}. Check disk space and permissions of its folder; if it is "
                "damaged, remove it: its contents will be computed, or paid for, again"
            ) from None


def hash_request(*request: object) -> bytes:
    return hashlib.blake2b(json.dumps(request, ensure_ascii=False).encode(), digest_size=16).digest()
