"""JSONL files of requests for the Batch API, in a folder that several processes may share."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from uuid import uuid4

from filelock import FileLock, Timeout


@dataclass
class BatchFile:
    """A file of requests that has not been submitted. `keys` maps the requests' keys to their scopes."""

    name: str
    path: Path
    file: IO[bytes]
    lock: FileLock  # held until the endpoint has assigned an id, so that other processes leave the file alone
    keys: dict[bytes, bytes] = field(default_factory=dict)
    bytes: int = 0


class BatchFiles:
    """Collects requests into files of at most `max_requests` and `max_bytes`; `full` lists the complete files."""

    def __init__(self, folder: Path, max_requests: int, max_bytes: float) -> None:
        self.folder, self.max_requests, self.max_bytes = folder, max_requests, max_bytes
        self.current: BatchFile | None = None
        self.full: list[BatchFile] = []

    def add(self, key: bytes, scope: bytes, line: bytes) -> None:
        current = self.current
        if current and (len(current.keys) >= self.max_requests or current.bytes + len(line) > self.max_bytes):
            self.finish_current()
        current = self.current = self.current or self.start()
        current.file.write(line)
        current.keys[key] = scope
        current.bytes += len(line)

    def start(self) -> BatchFile:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = uuid4().hex
        lock = FileLock(self.lock_path(name))
        lock.acquire()
        return BatchFile(name, self.path(name), self.path(name).open("wb"), lock)

    def finish_current(self) -> None:
        if self.current:
            self.current.file.close()
            self.full.append(self.current)
            self.current = None

    def unsent_keys(self) -> set[bytes]:
        return {key for file in (*self.full, *filter(None, [self.current])) for key in file.keys}

    def is_being_submitted(self, name: str) -> bool:
        """Returns whether another process holds the lock of a batch."""
        try:
            with FileLock(self.lock_path(name), timeout=0):
                return False
        except Timeout:
            return True

    def read_lines(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        """Yields the key and line of each request of a batch; nothing if another machine submitted it."""
        if self.path(name).exists():
            with self.path(name).open("rb") as file:
                for line in file:
                    yield bytes.fromhex(json.loads(line)["custom_id"]), line

    def remove(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)
        self.lock_path(name).unlink(missing_ok=True)

    def discard_unsent(self) -> list[BatchFile]:
        """Removes the files that have not been submitted, and returns them."""
        self.finish_current()
        discarded, self.full = self.full, []
        for file in discarded:
            file.lock.release()
            self.remove(file.name)
        return discarded

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def lock_path(self, name: str) -> Path:
        return self.folder / f"{name}.lock"
