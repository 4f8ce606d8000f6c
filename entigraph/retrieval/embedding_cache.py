"""Every embedding and every reranker's score that was ever computed, in one SQLite file, by the content of what asked.

A passage embedded for one grid point is free for all others, whatever the passages' depth, order or number; several
processes may share the file.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from entigraph.errors import ArtifactError
from entigraph.retrieval.base import Vector

SECONDS_TO_WAIT_FOR_OTHERS = 60.0
KEYS_AT_ONCE = 500


class Vectors:
    """Of any width, by key. Raises ArtifactError where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.explained():
            self.database = sqlite3.connect(path, timeout=SECONDS_TO_WAIT_FOR_OTHERS, isolation_level=None)
            self.database.execute("PRAGMA journal_mode=WAL")
            self.database.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, value BLOB NOT NULL)")

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """Those that are known."""
        found: dict[bytes, Vector] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            asked = keys[start : start + KEYS_AT_ONCE]
            places = ",".join("?" * len(asked))
            with self.explained():
                rows = self.database.execute(f"SELECT key, value FROM vectors WHERE key IN ({places})", asked)
                found |= {key: np.frombuffer(value, dtype="<f4") for key, value in rows}
        return found

    def put(self, values: Mapping[bytes, Vector]) -> None:
        """On disk when this returns."""
        rows = [(key, np.ascontiguousarray(value, dtype="<f4").tobytes()) for key, value in values.items()]
        with self.explained():
            self.database.execute("BEGIN IMMEDIATE")
            self.database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
            self.database.execute("COMMIT")

    def close(self) -> None:
        self.database.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise ArtifactError(
                f"{self.path} cannot be used: {error}. Check disk space and permissions of its folder; where it is "
                "damaged, remove it: what it held is computed, or paid for, again"
            ) from None


def key_of(*asked: object) -> bytes:
    return hashlib.blake2b(json.dumps(asked, ensure_ascii=False).encode(), digest_size=16).digest()
