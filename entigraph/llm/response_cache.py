"""A SQLite file with every answer ever received, so that no request is paid for twice.

The key is a hash of the whole request body (model, prompts, sampling, sample index), not of selected fields, so
answers stay valid when the budget, order, filters or augmenter settings change. Several processes may share the file.
It also records the spending of each command and the pending batches.
"""

import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from entigraph.errors import ArtifactError
from entigraph.llm.base import Completion, Usage
from entigraph.llm.stored_answers import pack_answer, unpack_answer

FILE_NAME = "response_cache.sqlite"
FORMER_FILE_NAME = "journal.sqlite"
SCHEMA_VERSION = 2
LOCK_TIMEOUT_S = 60.0
# Row ids and large pages, because rows of one or two kilobytes would otherwise overflow into separate pages.
PAGE_BYTES = 8192
SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB UNIQUE NOT NULL,
    scope BLOB NOT NULL,
    model TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    text BLOB NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    dollars REAL NOT NULL,
    attempts INTEGER NOT NULL,
    seconds REAL NOT NULL,
    time REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_by_scope ON answers (scope);
CREATE TABLE IF NOT EXISTS spending (command TEXT PRIMARY KEY, spent REAL NOT NULL, reserved REAL NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    name TEXT PRIMARY KEY, address TEXT NOT NULL, id TEXT, time REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS batched (key BLOB PRIMARY KEY, scope BLOB NOT NULL, batch TEXT NOT NULL) WITHOUT ROWID;
"""
MIGRATE_FROM_VERSION_1 = """
ALTER TABLE answers RENAME TO answers_1;
{schema}
INSERT INTO answers SELECT key, x'', model, finish_reason, text, prompt_tokens, cached_tokens, completion_tokens,
    dollars, attempts, 0, time FROM answers_1;
DROP TABLE answers_1;
"""


@dataclass(frozen=True)
class AnswerTotals:
    """Totals over answers. `seconds` is the sum of the requests' durations."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class PendingBatch:
    """A batch without collected results. `id` is the endpoint's; None if it may not have been submitted."""

    name: str
    address: str
    id: str | None = None


def response_cache_path(root: Path) -> Path:
    """Returns the cache file below `root`. An existing file of an earlier version is used under its former name."""
    former = root / FORMER_FILE_NAME
    return former if former.exists() and not (root / FILE_NAME).exists() else root / FILE_NAME


class ResponseCache:
    """All methods raise ArtifactError if the file is damaged, written by a newer version, or not writable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self.translate_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            # The writer's thread puts answers while the main thread gets them; SQLite serializes the two.
            self.database = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            self.prepare()

    def prepare(self) -> None:
        self.database.execute(f"PRAGMA page_size={PAGE_BYTES}")
        self.database.execute("PRAGMA journal_mode=WAL")
        # A killed process loses no committed answer; a power failure may lose the most recent ones.
        self.database.execute("PRAGMA synchronous=NORMAL")
        if self.version() == SCHEMA_VERSION:
            return
        self.database.execute("BEGIN IMMEDIATE")  # only one process creates the tables
        try:
            version = self.version()
            if version > SCHEMA_VERSION:
                raise ArtifactError(
                    f"{self.path} was written by a newer entigraph "
                    f"(format {version}, at most {SCHEMA_VERSION} supported); upgrade"
                )
            script = MIGRATE_FROM_VERSION_1.format(schema=SCHEMA) if version == 1 else SCHEMA
            for statement in script.split(";"):
                self.database.execute(statement)
            self.database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            self.database.execute("COMMIT")
        except BaseException:
            self.database.execute("ROLLBACK")
            raise

    def version(self) -> int:
        return int(self.database.execute("PRAGMA user_version").fetchone()[0])

    def get(self, key: bytes) -> Completion | None:
        """Returns a stored answer. Refusals and empty replies, which earlier versions stored, are not answers."""
        with self.translate_errors():
            row = self.database.execute(
                "SELECT text, model, finish_reason, prompt_tokens, cached_tokens, completion_tokens, dollars "
                "FROM answers WHERE key = ?",
                (key,),
            ).fetchone()
        if row is None:
            return None
        with self.translate_errors():
            completion = unpack_answer(row[0], row[1], row[2], Usage(*row[3:]))
        return completion if completion.is_answer else None

    def put(
        self, key: bytes, completion: Completion, *, scope: bytes = b"", attempts: int = 1, seconds: float = 0.0
    ) -> Completion:
        """Stores and commits an answer. Returns the stored one: the first answer to a request is kept. `scope` groups
        similar requests for `totals` and `examples`.
        """
        usage = completion.usage
        row = (
            key,
            scope,
            completion.model,
            completion.finish_reason,
            pack_answer(completion),
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.completion_tokens,
            usage.dollars,
            attempts,
            seconds,
            time.time(),
        )
        insert = "INSERT OR {} INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        with self.translate_errors():
            if self.database.execute(insert.format("IGNORE"), row).rowcount:
                return completion
            stored = self.get(key)
            if stored is None:  # an earlier version stored a refusal
                self.database.execute(insert.format("REPLACE"), row)
        return stored or completion

    def totals(self, scope: bytes | None = None) -> AnswerTotals:
        """Returns the totals over all answers, or over the answers of a scope."""
        where, values = ("", ()) if scope is None else (" WHERE scope = ?", (scope,))
        with self.translate_errors():
            row = self.database.execute(
                "SELECT COUNT(*), TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(dollars), TOTAL(seconds) "
                f"FROM answers{where}",
                values,
            ).fetchone()
        answers, prompt, completion, dollars, seconds = row
        return AnswerTotals(answers, int(prompt), int(completion), dollars, seconds)

    def examples(self, scope: bytes, limit: int) -> list[Completion]:
        """Returns up to `limit` complete answers of a scope."""
        with self.translate_errors():
            rows = self.database.execute(
                "SELECT key FROM answers WHERE scope = ? AND finish_reason = 'stop' LIMIT ?", (scope, limit)
            ).fetchall()
        return [completion for (key,) in rows if (completion := self.get(key))]

    # --- spending, per command: shared by all processes of a sweep ---

    def reserve(self, command: str, dollars: float, limit: float) -> bool:
        """Reserves dollars for a request. Returns False if spending and reservations would exceed the limit."""
        with self.translate_errors():
            self.database.execute("INSERT OR IGNORE INTO spending VALUES (?, 0, 0)", (command,))
            cursor = self.database.execute(
                "UPDATE spending SET reserved = reserved + ?2 WHERE command = ?1 AND spent + reserved + ?2 <= ?3",
                (command, dollars, limit),
            )
        return cursor.rowcount == 1

    def record_spending(self, command: str, reserved: float, dollars: float) -> None:
        """Replaces a reservation by the dollars spent."""
        with self.translate_errors():
            self.database.execute(
                "UPDATE spending SET reserved = MAX(0, reserved - ?2), spent = spent + ?3 WHERE command = ?1",
                (command, reserved, dollars),
            )

    # --- pending batches ---

    def begin_batch(self, batch: PendingBatch, keys: Mapping[bytes, bytes]) -> None:
        """Records a batch before it is submitted, so that it can be looked up by name after the process was killed.
        `keys` maps the requests' keys to their scopes.
        """
        rows = ((key, scope, batch.name) for key, scope in keys.items())
        with self.translate_errors(), self.transaction():
            self.database.execute(
                "INSERT INTO batches VALUES (?, ?, NULL, ?)", (batch.name, batch.address, time.time())
            )
            self.database.executemany("INSERT OR REPLACE INTO batched VALUES (?, ?, ?)", rows)

    def set_batch_id(self, name: str, batch_id: str) -> None:
        with self.translate_errors():
            self.database.execute("UPDATE batches SET id = ? WHERE name = ?", (batch_id, name))

    def end_batch(self, name: str) -> None:
        """Removes a batch after its answers were stored; requests without an answer may be sent again."""
        with self.translate_errors(), self.transaction():
            self.database.execute("DELETE FROM batched WHERE batch = ?", (name,))
            self.database.execute("DELETE FROM batches WHERE name = ?", (name,))

    def pending_batches(self, address: str) -> list[PendingBatch]:
        with self.translate_errors():
            rows = self.database.execute(
                "SELECT name, address, id FROM batches WHERE address = ? ORDER BY time", (address,)
            )
            return [PendingBatch(*row) for row in rows]

    def batch_keys(self, name: str) -> dict[bytes, bytes]:
        """Returns the keys of a batch's requests, with their scopes."""
        with self.translate_errors():
            return dict(self.database.execute("SELECT key, scope FROM batched WHERE batch = ?", (name,)).fetchall())

    def is_pending(self, key: bytes, address: str) -> bool:
        with self.translate_errors():
            row = self.database.execute(
                "SELECT 1 FROM batched JOIN batches ON name = batch WHERE key = ? AND address = ?", (key, address)
            ).fetchone()
        return row is not None

    def close(self) -> None:
        self.database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Translates SQLite and disk errors to ArtifactError."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise ArtifactError(
                f"the response cache {self.path} cannot be used: {error}. Check disk space and permissions of its "
                "folder, and run the same command: cached answers are not requested again"
            ) from None
        except (sqlite3.DatabaseError, zlib.error) as error:
            raise ArtifactError(
                f"the response cache {self.path} is damaged: {error}. Restore it from a copy, or move it away: "
                "then its answers are requested, and paid for, again"
            ) from None
        except OSError as error:
            raise ArtifactError(f"the response cache {self.path} cannot be written: {error.strerror}") from None
