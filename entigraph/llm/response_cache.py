"""Every answer that was ever paid for, in one SQLite file: whatever was answered once is free from then on.

Keyed by a hash of the whole request as it is sent (model, prompts, sampling, sample number), never by a list of chosen
fields. It outlives changes of budget, order, filters and augmenter settings. Several processes may share it.
Beside the answers it keeps what each command has spent, and which batches are on their way.
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

FILE_NAME = "response_cache.sqlite"
FORMER_FILE_NAME = "journal.sqlite"
SCHEMA_VERSION = 2
SECONDS_TO_WAIT_FOR_OTHERS = 60.0
# A table with row ids and large pages: rows of a kilobyte or two would otherwise spill into pages of their own.
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
FROM_VERSION_1 = """
ALTER TABLE answers RENAME TO answers_1;
{schema}
INSERT INTO answers SELECT key, x'', model, finish_reason, text, prompt_tokens, cached_tokens, completion_tokens,
    dollars, attempts, 0, time FROM answers_1;
DROP TABLE answers_1;
"""


@dataclass(frozen=True)
class AnswerTotals:
    """`seconds` is the sum of the times that the answers took."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class PendingBatch:
    """A batch that was begun and not collected. `id` is the endpoint's; None: perhaps it never learned of it."""

    name: str
    address: str
    id: str | None = None


def response_cache_path(root: Path) -> Path:
    """Returns the cache file below `root`; one that an earlier version started keeps its name, and is used."""
    former = root / FORMER_FILE_NAME
    return former if former.exists() and not (root / FILE_NAME).exists() else root / FILE_NAME


class ResponseCache:
    """Raises ArtifactError for a file that is damaged, newer than this program, or cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self.explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            # One thread puts and another gets; SQLite itself serializes them.
            self.database = sqlite3.connect(
                path, timeout=SECONDS_TO_WAIT_FOR_OTHERS, isolation_level=None, check_same_thread=False
            )
            self.prepare()

    def prepare(self) -> None:
        self.database.execute(f"PRAGMA page_size={PAGE_BYTES}")
        self.database.execute("PRAGMA journal_mode=WAL")
        # A killed process loses nothing that was written; a power cut may lose the last answers.
        self.database.execute("PRAGMA synchronous=NORMAL")
        if self.version() == SCHEMA_VERSION:
            return
        self.database.execute("BEGIN IMMEDIATE")  # one process makes the tables, others find them made
        try:
            version = self.version()
            if version > SCHEMA_VERSION:
                raise ArtifactError(
                    f"{self.path} was written by a newer entigraph "
                    f"(format {version}, this one knows {SCHEMA_VERSION}); upgrade"
                )
            script = FROM_VERSION_1.format(schema=SCHEMA) if version == 1 else SCHEMA
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
        with self.explained():
            row = self.database.execute(
                "SELECT text, model, finish_reason, prompt_tokens, cached_tokens, completion_tokens, dollars "
                "FROM answers WHERE key = ?",
                (key,),
            ).fetchone()
        if row is None:
            return None
        with self.explained():
            text = zlib.decompress(row[0]).decode("utf-8")
        return Completion(text=text, model=row[1], finish_reason=row[2], usage=Usage(*row[3:]))

    def put(
        self, key: bytes, completion: Completion, *, scope: bytes = b"", attempts: int = 1, seconds: float = 0.0
    ) -> Completion:
        """Committed when this returns; of two answers to one request the first is kept, and returned. `scope` is what
        siblings are counted by: `totals`.
        """
        usage = completion.usage
        with self.explained():
            done = self.database.execute(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    key,
                    scope,
                    completion.model,
                    completion.finish_reason,
                    zlib.compress(completion.text.encode("utf-8")),
                    usage.prompt_tokens,
                    usage.cached_tokens,
                    usage.completion_tokens,
                    usage.dollars,
                    attempts,
                    seconds,
                    time.time(),
                ),
            )
        return completion if done.rowcount else self.get(key) or completion

    def totals(self, scope: bytes | None = None) -> AnswerTotals:
        """Of all answers, or of those that share a scope."""
        which, values = ("", ()) if scope is None else (" WHERE scope = ?", (scope,))
        with self.explained():
            row = self.database.execute(
                "SELECT COUNT(*), TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(dollars), TOTAL(seconds) "
                f"FROM answers{which}",
                values,
            ).fetchone()
        answers, prompt, completion, dollars, seconds = row
        return AnswerTotals(answers, int(prompt), int(completion), dollars, seconds)

    def sample(self, scope: bytes, most: int) -> list[Completion]:
        """Some whole answers of a scope."""
        with self.explained():
            rows = self.database.execute(
                "SELECT key FROM answers WHERE scope = ? AND finish_reason = 'stop' LIMIT ?", (scope, most)
            ).fetchall()
        return [found for (key,) in rows if (found := self.get(key))]

    # --- what each command has spent: shared by all processes of a sweep ---

    def reserve(self, command: str, dollars: float, limit: float) -> bool:
        """Sets dollars aside for a request; False where what is spent and set aside would pass the limit."""
        with self.explained():
            self.database.execute("INSERT OR IGNORE INTO spending VALUES (?, 0, 0)", (command,))
            done = self.database.execute(
                "UPDATE spending SET reserved = reserved + ?2 WHERE command = ?1 AND spent + reserved + ?2 <= ?3",
                (command, dollars, limit),
            )
        return done.rowcount == 1

    def settle(self, command: str, reserved: float, dollars: float) -> None:
        """What was set aside is spent, or free again."""
        with self.explained():
            self.database.execute(
                "UPDATE spending SET reserved = MAX(0, reserved - ?2), spent = spent + ?3 WHERE command = ?1",
                (command, reserved, dollars),
            )

    # --- batches on their way ---

    def begin_batch(self, batch: PendingBatch, keys: Mapping[bytes, bytes]) -> None:
        """Noted before the endpoint hears of it: a kill in between leaves a name to look for there. `keys` come with
        their scopes.
        """
        rows = ((key, scope, batch.name) for key, scope in keys.items())
        with self.explained(), self.transaction():
            self.database.execute(
                "INSERT INTO batches VALUES (?, ?, NULL, ?)", (batch.name, batch.address, time.time())
            )
            self.database.executemany("INSERT OR REPLACE INTO batched VALUES (?, ?, ?)", rows)

    def name_batch(self, name: str, endpoints_id: str) -> None:
        with self.explained():
            self.database.execute("UPDATE batches SET id = ? WHERE name = ?", (endpoints_id, name))

    def end_batch(self, name: str) -> None:
        """After its answers were put: what of it has none may be sent again."""
        with self.explained(), self.transaction():
            self.database.execute("DELETE FROM batched WHERE batch = ?", (name,))
            self.database.execute("DELETE FROM batches WHERE name = ?", (name,))

    def batches(self, address: str) -> list[PendingBatch]:
        with self.explained():
            rows = self.database.execute(
                "SELECT name, address, id FROM batches WHERE address = ? ORDER BY time", (address,)
            )
            return [PendingBatch(*row) for row in rows]

    def batched(self, name: str) -> dict[bytes, bytes]:
        """The keys of a batch's requests, with their scopes."""
        with self.explained():
            return dict(self.database.execute("SELECT key, scope FROM batched WHERE batch = ?", (name,)).fetchall())

    def is_batched(self, key: bytes, address: str) -> bool:
        with self.explained():
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
    def explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise ArtifactError(
                f"the response cache {self.path} cannot be used: {error}. Check disk space and permissions of its "
                "folder, and run the same command: what it holds is not asked again"
            ) from None
        except (sqlite3.DatabaseError, zlib.error) as error:
            raise ArtifactError(
                f"the response cache {self.path} is damaged: {error}. Restore it from a copy, or move it away: "
                "then its answers are asked, and paid, again"
            ) from None
        except OSError as error:
            raise ArtifactError(f"the response cache {self.path} cannot be written: {error.strerror}") from None
