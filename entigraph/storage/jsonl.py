"""JSON Lines files of dataclass records."""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from entigraph.errors import DataError

Record = TypeVar("Record")


class JsonLinesWriter:
    """Writes a JSON Lines file record by record, for folders that are discarded unless they are finished."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w", encoding="utf-8")

    def write(self, record: Any) -> None:
        self.file.write(json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n")

    def __enter__(self) -> "JsonLinesWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()


class ResumableJsonLines(Generic[Record]):
    """A JSON Lines file that survives a kill: every written record is on disk and can be read by its `key` field.

    An incomplete last line is dropped when the file is opened. Only file offsets are held in memory.
    """

    def __init__(self, path: Path, kind: type[Record], key: str) -> None:
        self.path, self.kind, self.key = path, kind, key
        self.offsets: dict[str, int] = {}
        path.touch()
        with path.open("rb") as lines:
            end = 0
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self.offsets[json.loads(line)[key]] = end
                end += len(line)
        os.truncate(path, end)

    def __contains__(self, key: str) -> bool:
        return key in self.offsets

    def __enter__(self) -> None:
        self.file = self.path.open("ab")

    def __exit__(self, *exception: object) -> None:
        self.file.close()

    def write(self, record: Any) -> None:
        values = dataclasses.asdict(record)
        self.offsets[values[self.key]] = self.file.tell()
        self.file.write(json.dumps(values, ensure_ascii=False).encode() + b"\n")
        self.file.flush()

    def read(self, key: str) -> Record:
        with self.path.open("rb") as lines:
            lines.seek(self.offsets[key])
            return self.kind(**json.loads(lines.readline()))


def write_jsonl(path: Path, records: Iterable[Any]) -> int:
    """Writes dataclass records atomically; returns their number."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    count = 0
    with unfinished.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n")
            count += 1
    os.replace(unfinished, path)
    return count


def read_jsonl(path: Path, kind: type[Record]) -> Iterator[Record]:
    """Yields the records. Raises DataError with file and line number if a line is not a valid record."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield kind(**json.loads(line))
            except (json.JSONDecodeError, TypeError) as error:
                raise DataError(f"{path}:{number}: not a {kind.__name__}: {error}") from None
