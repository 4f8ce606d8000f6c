"""Append-only files of checksummed records: one process writes, processes on any host read at the same time.

A reader stops at a record that is incomplete, so neither a killed writer nor a file that a network file system shows
only partly can damage what was read before.
"""

import json
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from entigraph.storage import locks
from entigraph.storage.durable_files import sync_folder

HEADER = struct.Struct("<II")  # length and CRC-32 of the record that follows
READ_BYTES = 1 << 20
sync_content = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class RecordLog:
    """Writes a new log. A record survives the death of the process once `append` returns, and a power failure once
    `sync` returns.

    A thread writes to disk all records that were appended in the meantime (group commit), so that the cost per record
    falls as the rate rises. All methods raise OSError if the disk fails.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self.end = self.synced = 0
        self.closed = False
        self.error: OSError | None = None
        self.changed = threading.Condition()
        self.append(json.dumps(locks.describe_process()).encode())  # `is_written` reads it
        sync_folder(path.parent)
        self.thread = threading.Thread(target=self.sync_in_background, name="record log", daemon=True)
        self.thread.start()

    def append(self, record: bytes) -> int:
        """Returns the position of the record."""
        data = HEADER.pack(len(record), zlib.crc32(record)) + record
        with self.changed:
            position = self.end
            try:
                written = os.pwrite(self.file, data, position)
                while written < len(data):
                    written += os.pwrite(self.file, data[written:], position + written)
            except OSError:  # readers would stop at a part of a record; the next one overwrites it
                os.ftruncate(self.file, position)
                raise
            self.end += len(data)
            self.changed.notify_all()
        return position

    def sync(self) -> None:
        """Blocks until all records appended so far are on disk."""
        target = self.end
        if self.synced >= target:
            return
        with self.changed:
            while self.synced < target:
                if self.error:
                    raise self.error
                self.changed.wait()

    def sync_in_background(self) -> None:
        while True:
            with self.changed:
                while self.synced == self.end and not self.closed:
                    self.changed.wait()
                target = self.end
                if self.synced == target:
                    return
            try:
                sync_content(self.file)
            except OSError as error:
                self.error = error
            with self.changed:
                self.synced = self.synced if self.error else target
                self.changed.notify_all()
            if self.error:
                return

    def close(self) -> None:
        """Closes the log once all records are on disk."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.thread.join()
        os.close(self.file)
        if self.error:
            raise self.error


class LogReader:
    """Reads a log that may grow meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = 0
        self.damaged_bytes_read = 0  # behind `end`

    def read_new(self) -> Iterator[tuple[int, bytes]]:
        """Yields the records since the last call with their positions.

        Opens the file each time: then a network file system looks for what other hosts have written.
        """
        with self.path.open("rb", buffering=READ_BYTES) as file:
            if self.end == os.fstat(file.fileno()).st_size:
                return
            file.seek(self.end)
            while record := read_record(file.read(HEADER.size), file):
                position = self.end
                self.end += HEADER.size + len(record)
                if position:  # the first record describes the writer
                    yield position, record

    def read(self, position: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(position)
            record = read_record(file.read(HEADER.size), file)
        if record is None:
            raise OSError(f"no complete record at byte {position:,}")
        return record

    def read_damaged(self) -> Iterator[tuple[int, bytes]]:
        """Yields the complete records behind the first one that is not, with their positions. They are below 16 MiB."""
        with self.path.open("rb") as file:
            file.seek(self.end)
            rest = file.read()
        start = 0
        while (zero := rest.find(b"\0", start + 3)) >= 0 and zero + 5 < len(rest):  # the last byte of a length
            start = zero - 3
            length, checksum = HEADER.unpack_from(rest, start)
            record = rest[start + HEADER.size : start + HEADER.size + length]
            if not 0 < length == len(record) or zlib.crc32(record) != checksum:
                start += 1
                continue
            yield self.end + start, record
            start += HEADER.size + length
            self.damaged_bytes_read += HEADER.size + length

    @property
    def unread_bytes(self) -> int:
        """The size of what follows the last complete record, without what `read_damaged` has read."""
        return self.path.stat().st_size - self.end - self.damaged_bytes_read


def read_record(header: bytes, file: BinaryIO) -> bytes | None:
    if len(header) < HEADER.size:
        return None
    length, checksum = HEADER.unpack(header)
    record = file.read(length)
    return record if length and len(record) == length and zlib.crc32(record) == checksum else None


def is_written(path: Path) -> bool:
    """Returns whether the process that writes a log is running on this host; False for a process of another host."""
    with path.open("rb") as file:
        record = read_record(file.read(HEADER.size), file)
    return record is not None and locks.is_running_here(json.loads(record))
