"""Every answer ever received, so that no request is paid for twice.

cache/
    3f2a….log       answers of a process that is running or was killed, and its pending batches
    91bc….sqlite    answers of a process that has finished, or of several (`entigraph clean` merges them)
    spending/       dollars spent by running commands

Each process writes only its own file and reads all of them, so that processes on several hosts can share the folder
(docs/clusters.md). The key of an answer is a hash of the whole request body (model, prompts, sampling, sample index),
not of selected fields, so answers stay valid when the budget, order, filters or augmenter settings change.
"""

import errno
import hashlib
import json
import shutil
import sqlite3
import threading
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from uuid import uuid4

from entigraph.errors import ArtifactError
from entigraph.llm.answer_files import (
    DATABASE,
    LOG,
    AnswerDatabase,
    AnswerFile,
    AnswerLog,
    FormerFile,
    StoredAnswer,
    encode_event,
    list_files,
    open_file,
    write_database,
)
from entigraph.llm.base import Completion
from entigraph.llm.spending_ledger import SpendingLedger
from entigraph.llm.stored_answers import decode_completion, encode_completion
from entigraph.storage import record_log
from entigraph.storage.record_log import RecordLog

FOLDER = "cache"
SPENDING = "spending"
# Looking for answers of other processes takes at most this part of the time.
REFRESH_TIME_FRACTION = 0.02
MAX_OPEN_DATABASES = 16
POSITION_BITS = 40
DISCARDED = "discarded"  # finish reason of an entry that marks another answer; its text is the command that did so


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
    """Returns the folder of the cache under `root`."""
    return root / FOLDER


def is_missing(error: BaseException) -> bool:
    """Returns whether a file was deleted, although a network file system may still list it for some seconds."""
    return isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ESTALE)


class ResponseCache:
    """The answers of all processes, and the writer of this process's answers. Threads may share it.

    All methods raise ArtifactError if a file is damaged, written by a newer version, or not writable.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.log: RecordLog | None = None  # of this process
        self.log_file: AnswerLog | None = None
        self.files: list[AnswerFile] = []
        self.by_path: dict[Path, int] = {}  # the indices in `files` of those that exist
        self.index: dict[bytes, int] = {}  # for each key the index in `files`, and the position in the file
        self.open_databases: list[AnswerDatabase] = []
        self.next_refresh = 0.0
        self.batches: dict[str, PendingBatch] = {}
        self.keys_of_batches: dict[str, dict[bytes, bytes]] = {}
        self.events_read: dict[Path, int] = {}
        self.ended: set[str] = set()
        self.ledgers: dict[str, SpendingLedger] = {}
        with self.translate_errors():
            if folder.exists() and not folder.is_dir():
                raise ArtifactError(f"the response cache {folder} must be a folder, got a file; move it away")
            self.refresh()

    # --- answers ---

    def get(self, key: bytes) -> Completion | None:
        """Returns a stored answer. Refusals and empty replies, which earlier versions stored, are not answers."""
        with self.translate_errors(), self.lock:
            if key not in self.index:
                self.refresh()
            stored = self.read(key)
            completion = decode_completion(stored) if stored else None
        return completion if completion and completion.is_answer else None

    def put(
        self, key: bytes, completion: Completion, *, scope: bytes = b"", attempts: int = 1, seconds: float = 0.0
    ) -> Completion:
        """Stores an answer, so that it survives the death of this process and, after `sync`, a power failure.

        Returns the stored one: the first answer to a request is kept. `scope` groups similar requests for `totals` and
        `examples`.
        """
        if stored := self.get(key):
            return stored
        answer = encode_completion(key, scope, completion, attempts, seconds)
        with self.translate_errors(), self.lock:
            log, file = self.open_log()
            position = log.append(answer.encode())
            file.by_scope[scope].append(position)
            self.index[key] = locate(self.by_path[log.path], position)
        return completion

    def discard(self, key: bytes, command: str) -> None:
        """Makes later commands send the request of a stored answer again, under another key (`current_key`)."""
        marker = derive_key(key)
        if key in self.index and marker not in self.index:
            self.put(marker, Completion(text=command, model="", finish_reason=DISCARDED))

    def current_key(self, key: bytes, command: str) -> bytes:
        """Returns the key of a request's answer: a new one for each time that another command discarded the answer."""
        with self.translate_errors(), self.lock:
            while marker := self.read(derive_key(key)):
                if decode_completion(marker).text == command:
                    break
                key = derive_key(marker.key)
        return key

    def sync(self) -> None:
        """Blocks until a power failure cannot lose any answer that this process has put."""
        if self.log is not None:
            with self.translate_errors():
                self.log.sync()

    def totals(self, scope: bytes | None = None) -> AnswerTotals:
        """Returns the totals over all answers, or over the answers of a scope."""
        answers = self.stored_answers(scope)
        names = ("prompt_tokens", "completion_tokens", "dollars", "seconds")
        return AnswerTotals(len(answers), *(sum(getattr(answer, name) for answer in answers) for name in names))

    def examples(self, scope: bytes, limit: int) -> list[Completion]:
        """Returns up to `limit` complete answers of a scope."""
        complete = (answer for answer in self.stored_answers(scope) if answer.finish_reason == "stop")
        return [decode_completion(answer) for answer in islice(complete, limit)]

    def stored_answers(self, scope: bytes | None) -> list[StoredAnswer]:
        with self.translate_errors(), self.lock:
            self.refresh()
            try:
                return list(self.distinct_answers(scope))
            except (OSError, sqlite3.OperationalError):  # another process has just merged a file into another one
                self.refresh(force=True)
                return list(self.distinct_answers(scope))

    def distinct_answers(self, scope: bytes | None) -> Iterator[StoredAnswer]:
        for number in self.by_path.values():
            for position, answer in self.files[number].answers(scope):
                is_first = self.index.get(answer.key) == locate(number, position)  # of those to the same request
                if is_first and answer.finish_reason != DISCARDED:
                    yield answer
            self.limit_open_databases(self.files[number])

    def read(self, key: bytes) -> StoredAnswer | None:
        """Reads an answer, even if its file was merged into another one in the meantime."""
        if key not in self.index:
            return None
        number, position = divmod(self.index[key], 1 << POSITION_BITS)
        try:
            answer = self.files[number].read(position)
        except (OSError, sqlite3.OperationalError):
            self.refresh(force=True)
            if key not in self.index or self.index[key] == locate(number, position):
                raise
            return self.read(key)
        self.limit_open_databases(self.files[number])
        return answer

    def add(self, number: int, position: int, key: bytes) -> None:
        """Adds an answer to the index, unless there is an answer to the same request in another existing file.

        Those in files of earlier versions may be refusals, which were sent again.
        """
        if key in self.index:
            before = self.files[self.index[key] >> POSITION_BITS]
            if before.path in self.by_path and not isinstance(before, FormerFile):
                return
        self.index[key] = locate(number, position)

    # --- files ---

    def refresh(self, force: bool = False) -> None:
        """Reads what other processes have added, unless that was done a moment ago."""
        started = time.monotonic()
        if started < self.next_refresh and not force:
            return
        paths = list_files(self.folder)
        if vanished := self.by_path.keys() - set(paths):
            self.forget(vanished)
        for path in paths:
            if path not in self.by_path:
                self.by_path[path] = len(self.files)
                self.files.append(open_file(path))
            try:
                self.read_new(self.files[self.by_path[path]])
            except (OSError, sqlite3.DatabaseError) as error:
                if path.exists() and not is_missing(error):
                    raise damaged_file(path, error) from None
                self.forget({path})  # another process has just replaced it
        self.next_refresh = time.monotonic() + (time.monotonic() - started) / REFRESH_TIME_FRACTION

    def forget(self, vanished: Collection[Path]) -> None:
        """Removes files that were merged into others, and reads those again, because the index ignored duplicates."""
        for path in vanished:
            del self.by_path[path]
        for number in self.by_path.values():
            file = self.files[number]
            if isinstance(file, AnswerDatabase):
                file.unread = True

    def read_new(self, file: AnswerFile) -> None:
        if file is self.log_file:
            return
        for position, key in file.read_new():
            self.add(self.by_path[file.path], position, key)
        self.apply_events(file)
        self.limit_open_databases(file)

    def limit_open_databases(self, used: AnswerFile) -> None:
        """Closes databases that were opened long ago, because a cache may have more files than a process may open."""
        if isinstance(used, AnswerDatabase) and used not in self.open_databases:
            self.open_databases.append(used)
            if len(self.open_databases) > MAX_OPEN_DATABASES:
                self.open_databases.pop(0).disconnect()

    def open_log(self) -> tuple[RecordLog, AnswerLog]:
        """Returns the log of this process, which its first answer creates, and its entry in `files`."""
        if self.log is None or self.log_file is None:
            path = self.folder / f"{uuid4().hex}{LOG}"
            self.log, self.log_file = RecordLog(path), AnswerLog(path)
            self.by_path[path] = len(self.files)
            self.files.append(self.log_file)
        return self.log, self.log_file

    # --- spending, per command: shared by all processes of a sweep ---

    def reserve(self, command: str, dollars: float, limit: float) -> bool:
        """Reserves dollars for a request. Returns False if spending and reservations would exceed the limit."""
        with self.translate_errors(), self.lock:
            if command not in self.ledgers:
                name = hashlib.blake2b(command.encode(), digest_size=16).hexdigest()
                self.ledgers[command] = SpendingLedger(self.folder / SPENDING / name, limit)
            return self.ledgers[command].reserve(dollars)

    def record_spending(self, command: str, reserved: float, dollars: float) -> None:
        """Replaces a reservation with the actual cost."""
        with self.translate_errors(), self.lock:
            if command in self.ledgers:
                self.ledgers[command].record(reserved, dollars)

    # --- pending batches ---

    def begin_batch(self, batch: PendingBatch, keys: Mapping[bytes, bytes]) -> None:
        """Records a batch before it is submitted, so that it can be looked up by name after the process was killed.
        `keys` maps the requests' keys to their scopes.
        """
        hexadecimal = {key.hex(): scope.hex() for key, scope in keys.items()}
        self.record_event(event="begin", name=batch.name, address=batch.address, keys=json.dumps(hexadecimal))

    def set_batch_id(self, name: str, batch_id: str) -> None:
        self.record_event(event="id", name=name, id=batch_id)

    def end_batch(self, name: str) -> None:
        """Removes a batch after its answers were stored; requests without an answer may be sent again."""
        self.record_event(event="end", name=name)

    def record_event(self, **event: str) -> None:
        with self.translate_errors(), self.lock:
            log, _ = self.open_log()
            log.append(encode_event(event))
            log.sync()
            self.apply_event(event)

    def apply_events(self, file: AnswerFile) -> None:
        if isinstance(file, FormerFile) and file.path in self.events_read:
            return
        events = events_of(file)
        for event in events[self.events_read.get(file.path, 0) :]:
            self.apply_event(event)
        self.events_read[file.path] = len(events)

    def apply_event(self, event: Mapping[str, str]) -> None:
        """Applies an event about a batch; events of different processes arrive in any order."""
        name = event["name"]
        batch = self.batches.get(name, PendingBatch(name, ""))
        if event["event"] == "end":
            self.ended.add(name)
        elif event["event"] == "id":
            self.batches[name] = replace(batch, id=event["id"])
        else:
            self.batches[name] = replace(batch, address=event["address"])
            keys = json.loads(event["keys"]).items()
            self.keys_of_batches[name] = {bytes.fromhex(key): bytes.fromhex(scope) for key, scope in keys}

    def pending_batches(self, address: str) -> list[PendingBatch]:
        with self.translate_errors(), self.lock:
            self.refresh()
            return [
                batch for batch in self.batches.values() if batch.address == address and batch.name not in self.ended
            ]

    def batch_keys(self, name: str) -> dict[bytes, bytes]:
        """Returns the keys of a batch's requests, with their scopes."""
        with self.lock:
            return dict(self.keys_of_batches.get(name, {}))

    def is_pending(self, key: bytes, address: str) -> bool:
        return any(key in self.keys_of_batches.get(batch.name, ()) for batch in self.pending_batches(address))

    def needed_events(self, removed: Collection[Path]) -> list[dict[str, str]]:
        """Returns the events about batches that must be kept when files are removed."""
        staying = {
            event["name"]
            for path, number in self.by_path.items()
            if path not in removed
            for event in events_of(self.files[number])
        }
        events = [{"event": "end", "name": name} for name in self.ended if name in staying]
        for batch in self.batches.values():
            if batch.name in self.ended:
                continue
            keys = {key.hex(): scope.hex() for key, scope in self.keys_of_batches.get(batch.name, {}).items()}
            events.append({"event": "begin", "name": batch.name, "address": batch.address, "keys": json.dumps(keys)})
            if batch.id is not None:
                events.append({"event": "id", "name": batch.name, "id": batch.id})
        return events

    # --- closing ---

    def close(self) -> None:
        """Closes all files. The log of this process becomes a SQLite file, unless it contains batches."""
        with self.translate_errors(), self.lock:
            for ledger in self.ledgers.values():
                ledger.close()
            if self.log is not None:
                self.log.close()
                with suppress(OSError, sqlite3.Error):  # a log is as good, only slower to open
                    finish_log(AnswerLog(self.log.path))
                self.log = self.log_file = None
            for database in self.open_databases:
                database.disconnect()

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Translates SQLite and disk errors to ArtifactError."""
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise ArtifactError(
                f"the response cache {self.folder} cannot be used: {getattr(error, 'strerror', None) or error}. Check "
                "disk space and permissions of its folder, and run the same command: cached answers are not requested "
                "again"
            ) from None
        except (sqlite3.DatabaseError, zlib.error, ValueError) as error:
            raise ArtifactError(
                f"the response cache {self.folder} is damaged: {error}. Restore it from a copy, or move the damaged "
                "file away: then its answers are requested, and paid for, again"
            ) from None


def events_of(file: AnswerFile) -> list[dict[str, str]]:
    if isinstance(file, FormerFile):
        return list(file.batches())
    return file.events if isinstance(file, AnswerLog) else []


def derive_key(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()


def damaged_file(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"the response cache file {path} is damaged or cannot be read: {error}. Restore it from a copy, or move it "
        "away: then its answers are requested, and paid for, again"
    )


def locate(number: int, position: int) -> int:
    """Returns an entry of the index: the number of a file and a position in it."""
    return number << POSITION_BITS | position


def finish_log(log: AnswerLog) -> None:
    """Converts the log of a finished process to a SQLite file, unless it contains batches."""
    count = sum(1 for _ in log.read_new())
    if log.events or log.reader.unread_bytes:  # behind a damaged record, `entigraph clean` finds answers
        return
    if count:
        write_database(log.path.with_suffix(DATABASE), (answer for _, answer in log.answers(None)))
    log.path.unlink()


# --- entigraph clean ---


def merge_files(folder: Path, merge: bool) -> Iterator[str]:
    """Yields lines about the files of a cache, and merges those of finished and killed processes if `merge` is true.

    No command may be running on another host. Files of earlier versions stay as they are.
    """
    files_of_cache = [path for path in list_files(folder) if path.parent == folder]
    paths = [path for path in files_of_cache if not is_written(path)]
    if merge and paths == files_of_cache:  # no command is running
        shutil.rmtree(folder / SPENDING, ignore_errors=True)
    if len(paths) < 2 and not any(path.suffix == LOG for path in paths):
        return
    if not merge:
        yield f"{len(paths)} files of the response cache in {folder} can be merged; clean=true merges them"
        return
    with closing(ResponseCache(folder)) as cache:
        files = [cache.files[cache.by_path[path]] for path in paths]
        for file in files:
            if isinstance(file, AnswerLog):
                file.read_damaged()
                cache.apply_events(file)
        events = cache.needed_events(paths)
        answers = (answer for file in files for _, answer in file.answers(None))
        merged = folder / f"{uuid4().hex}{DATABASE}"
        with cache.translate_errors():
            count = write_database(merged, answers)
            if events:
                write_events(folder / f"{uuid4().hex}{LOG}", events)
            incomplete = sum(file.reader.unread_bytes for file in files if isinstance(file, AnswerLog))
            for path in paths:
                path.unlink()
        yield f"merged {len(paths)} files of the response cache: {count:,} answers"
    if incomplete:
        yield f"{incomplete:,} bytes of answers that were not written completely, or are damaged, were removed"


def is_written(path: Path) -> bool:
    return path.suffix == LOG and record_log.is_written(path)


def write_events(path: Path, events: Iterable[Mapping[str, str]]) -> None:
    log = RecordLog(path)
    for event in events:
        log.append(encode_event(dict(event)))
    log.close()
