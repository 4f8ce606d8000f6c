"""Files of requests on their way into batches, in a folder that several processes may share."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from uuid import uuid4

from filelock import FileLock, Timeout


@dataclass
class BatchFile:
    """A file of requests that is not sent yet; `keys` are theirs, each with its scope."""

    name: str
    path: Path
    file: IO[bytes]
    lock: FileLock  # held until the endpoint's name of the batch is known: other processes leave it alone
    keys: dict[bytes, bytes] = field(default_factory=dict)
    bytes: int = 0


class PendingBatchFiles:
    """A file ends at `most_requests` or `most_bytes`, whichever comes first, and stands in `full` until it is sent."""

    def __init__(self, folder: Path, most_requests: int, most_bytes: float) -> None:
        self.folder, self.most_requests, self.most_bytes = folder, most_requests, most_bytes
        self.open: BatchFile | None = None
        self.full: list[BatchFile] = []

    def add(self, key: bytes, scope: bytes, line: bytes) -> None:
        if self.open and (len(self.open.keys) >= self.most_requests or self.open.bytes + len(line) > self.most_bytes):
            self.close()
        spool = self.open = self.open or self.begun()
        spool.file.write(line)
        spool.keys[key] = scope
        spool.bytes += len(line)

    def begun(self) -> BatchFile:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = uuid4().hex
        lock = FileLock(self.lock_of(name))
        lock.acquire()
        return BatchFile(name, self.path_of(name), self.path_of(name).open("wb"), lock)

    def close(self) -> None:
        if self.open:
            self.open.file.close()
            self.full.append(self.open)
            self.open = None

    def unsent(self) -> set[bytes]:
        return {key for spool in (*self.full, *filter(None, [self.open])) for key in spool.keys}

    def is_being_sent(self, name: str) -> bool:
        """By another process, which holds its lock."""
        try:
            with FileLock(self.lock_of(name), timeout=0):
                return False
        except Timeout:
            return True

    def lines(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        """The requests of a batch by their keys, as they were sent; none where another machine sent them."""
        if self.path_of(name).exists():
            with self.path_of(name).open("rb") as file:
                for line in file:
                    yield bytes.fromhex(json.loads(line)["custom_id"]), line

    def remove(self, name: str) -> None:
        self.path_of(name).unlink(missing_ok=True)
        self.lock_of(name).unlink(missing_ok=True)

    def drop(self) -> list[BatchFile]:
        """Give up what is not sent; returns it."""
        self.close()
        dropped, self.full = self.full, []
        for spool in dropped:
            spool.lock.release()
            self.remove(spool.name)
        return dropped

    def path_of(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def lock_of(self, name: str) -> Path:
        return self.folder / f"{name}.lock"
