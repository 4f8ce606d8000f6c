"""The two kinds of files that hold answers: logs, which processes write, and SQLite files, which never change.

A log turns into a SQLite file when its process closes it, and the files of several processes are merged into one by
`entigraph clean`. SQLite files are found by key and scope without reading them whole, and open in any SQLite tool.
"""

import json
import os
import sqlite3
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from entigraph.errors import ArtifactError
from entigraph.storage import locks
from entigraph.storage.durable_files import UNFINISHED, sync_file, sync_folder
from entigraph.storage.record_log import LogReader

LOG, DATABASE = ".log", ".sqlite"
FORMER_FILE_NAMES = ("response_cache.sqlite", "journal.sqlite")  # written by earlier versions, next to the folder
SCHEMA_VERSION = 2
WAL_MODE = 2  # value of byte 18 of a SQLite file
LOCK_TIMEOUT_S = 60.0
# Row ids and large pages, because rows of one or two kilobytes would otherwise overflow into separate pages.
PAGE_BYTES = 8192
SCHEMA = """
CREATE TABLE answers (
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
CREATE INDEX answers_by_scope ON answers (scope);
"""
MIGRATE_FROM_VERSION_1 = """
BEGIN IMMEDIATE;
ALTER TABLE answers RENAME TO answers_1;
{schema}
INSERT INTO answers SELECT key, x'', model, finish_reason, text, prompt_tokens, cached_tokens, completion_tokens,
    dollars, attempts, 0, time FROM answers_1;
DROP TABLE answers_1;
CREATE TABLE IF NOT EXISTS batches (name TEXT PRIMARY KEY, address TEXT NOT NULL, id TEXT, time REAL NOT NULL);
CREATE TABLE IF NOT EXISTS batched (key BLOB PRIMARY KEY, scope BLOB NOT NULL, batch TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version=2;
COMMIT;
"""
ANSWER, EVENT = b"A", b"E"  # the first byte of a record in a log
LENGTHS = struct.Struct("<BBH")  # lengths of the key, the scope and the JSON of the other values


class StoredAnswer(NamedTuple):
    """A row of the table `answers`. `text` is compressed."""

    key: bytes
    scope: bytes
    model: str
    finish_reason: str
    text: bytes
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    dollars: float
    attempts: int
    seconds: float
    time: float

    def encode(self) -> bytes:
        """Returns the record of a log."""
        values = json.dumps([self.model, self.finish_reason, *self[5:]]).encode()
        lengths = LENGTHS.pack(len(self.key), len(self.scope), len(values))
        return b"".join((ANSWER, lengths, self.key, self.scope, values, self.text))

    @classmethod
    def decode(cls, record: bytes) -> "StoredAnswer":
        key, scope, start = decode_key(record)
        end = start + LENGTHS.unpack_from(record, 1)[2]
        model, finish_reason, *numbers = json.loads(record[start:end])
        return cls(key, scope, model, finish_reason, record[end:], *numbers)


def decode_key(record: bytes) -> tuple[bytes, bytes, int]:
    """Returns the key and the scope of an answer in a log, and where they end."""
    key, scope, _ = LENGTHS.unpack_from(record, 1)
    start = 1 + LENGTHS.size
    return record[start : start + key], record[start + key : start + key + scope], start + key + scope


class AnswerLog:
    """The log of a process, with answers by position. `events` are its other records, about pending batches."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reader = LogReader(path)
        self.by_scope: defaultdict[bytes, list[int]] = defaultdict(list)
        self.events: list[dict[str, str]] = []

    def read_new(self) -> Iterator[tuple[int, bytes]]:
        """Yields position and key of each answer that was added since the last call."""
        for position, record in self.reader.read_new():
            if key := self.add(position, record):
                yield position, key

    def read_damaged(self) -> None:
        """Reads what follows a damaged record. Only for a log that no process writes any more."""
        for position, record in self.reader.read_damaged():
            self.add(position, record)

    def add(self, position: int, record: bytes) -> bytes | None:
        """Returns the key of an answer; None for another record."""
        if record[:1] == EVENT:
            self.events.append(json.loads(record[1:]))
            return None
        key, scope, _ = decode_key(record)
        self.by_scope[scope].append(position)
        return key

    def read(self, position: int) -> StoredAnswer:
        return StoredAnswer.decode(self.reader.read(position))

    def answers(self, scope: bytes | None) -> Iterator[tuple[int, StoredAnswer]]:
        """Yields the answers of a scope, or all answers, with their positions."""
        groups = self.by_scope.values() if scope is None else [self.by_scope.get(scope, [])]
        for position in sorted(position for positions in groups for position in positions):
            yield position, self.read(position)


def open_file(path: Path) -> "AnswerFile":
    if path.name in FORMER_FILE_NAMES:
        return FormerFile(path)
    return AnswerLog(path) if path.suffix == LOG else AnswerDatabase(path)


def list_files(folder: Path) -> list[Path]:
    """Returns the files of a cache in the order in which their answers take precedence.

    Those of earlier versions come last, because they also contain refusals.
    """
    former = [path for name in FORMER_FILE_NAMES if (path := folder.with_name(name)).is_file()]
    names = sorted(os.listdir(folder)) if folder.exists() else []
    files = [folder / name for name in names if name.endswith((LOG, DATABASE)) and not name.startswith(".")]
    return files + former


def encode_event(event: dict[str, str]) -> bytes:
    return EVENT + json.dumps(event).encode()


class AnswerDatabase:
    """A SQLite file that no process writes: it is read without locks, which hosts may not share."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unread = True
        self.connection: sqlite3.Connection | None = None

    def connect(self) -> sqlite3.Connection:
        if self.connection is None:
            address = f"file:{quote(str(self.path))}?mode=ro&immutable=1"
            self.connection = sqlite3.connect(address, uri=True, check_same_thread=False)
        return self.connection

    def disconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def read_new(self) -> Iterator[tuple[int, bytes]]:
        if self.unread:
            yield from self.connect().execute("SELECT rowid, key FROM answers")
            self.unread = False

    def read(self, position: int) -> StoredAnswer:
        row = self.connect().execute("SELECT * FROM answers WHERE rowid = ?", (position,)).fetchone()
        return StoredAnswer(*row)

    def answers(self, scope: bytes | None) -> Iterator[tuple[int, StoredAnswer]]:
        where, values = ("", ()) if scope is None else (" WHERE scope = ?", (scope,))
        for position, *row in self.connect().execute(f"SELECT rowid, * FROM answers{where}", values):
            yield position, StoredAnswer(*row)


AnswerFile = AnswerLog | AnswerDatabase


def write_database(path: Path, answers: Iterable[StoredAnswer]) -> int:
    """Writes a SQLite file atomically and durably. Of several answers to a request, the first is stored.

    Returns the number of stored answers.
    """
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished, isolation_level=None)) as database:
        for pragma in (f"page_size={PAGE_BYTES}", "journal_mode=OFF", "synchronous=OFF"):
            database.execute(f"PRAGMA {pragma}")
        database.executescript(SCHEMA)
        database.execute("BEGIN")
        insert = "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        count = database.executemany(insert, answers).rowcount
        database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        database.execute("COMMIT")
    sync_file(unfinished)
    unfinished.rename(path)
    sync_folder(path.parent)
    return count


class FormerFile(AnswerDatabase):
    """The only file of an earlier version, which used a write-ahead log.

    Hosts cannot share one, so it is merged into the file first; after that the file never changes.
    """

    def connect(self) -> sqlite3.Connection:
        if self.connection is None and self.has_write_ahead_log():
            with locks.lock(self.path, self.path.parent):
                if self.has_write_ahead_log():
                    self.convert()
        connection = super().connect()
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            age, remedy = ("a newer", "upgrade") if version > SCHEMA_VERSION else ("an unknown", "move it away")
            raise ArtifactError(
                f"{self.path} was written by {age} entigraph (format {version}, {SCHEMA_VERSION} supported); {remedy}"
            )
        return connection

    def has_write_ahead_log(self) -> bool:
        with self.path.open("rb") as file:
            return file.read(19)[18:] == bytes([WAL_MODE])

    def convert(self) -> None:
        with closing(sqlite3.connect(self.path, timeout=LOCK_TIMEOUT_S, isolation_level=None)) as database:
            if database.execute("PRAGMA user_version").fetchone()[0] == 1:
                database.executescript(MIGRATE_FROM_VERSION_1.format(schema=SCHEMA))
            (mode,) = database.execute("PRAGMA journal_mode=DELETE").fetchone()
        if mode != "delete":
            raise ArtifactError(f"{self.path} is used by an earlier version of entigraph; wait until it has finished")

    def batches(self) -> Iterator[dict[str, str]]:
        """Yields the events of batches that were pending."""
        for name, address, batch_id in self.connect().execute("SELECT name, address, id FROM batches ORDER BY time"):
            keys = self.connect().execute("SELECT key, scope FROM batched WHERE batch = ?", (name,))
            hexadecimal = {key.hex(): scope.hex() for key, scope in keys}
            yield {"event": "begin", "name": name, "address": address, "keys": json.dumps(hexadecimal)}
            if batch_id is not None:
                yield {"event": "id", "name": name, "id": batch_id}
