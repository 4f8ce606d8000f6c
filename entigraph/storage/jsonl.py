"""JSON Lines files: of dataclass records, and from outside.

Lines end at "\\n" only: the text in them may contain other line separators, such as U+2028.
"""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from entigraph.errors import DataError
from entigraph.text.normalization import UTF_8, detect_encoding, is_blank, normalize_text

Record = TypeVar("Record")
Raw = TypeVar("Raw")
Parsed = TypeVar("Parsed")

MAX_PROBLEMS_SHOWN = 10
BUFFER_BYTES = 1 << 20
encode_json = json.JSONEncoder(ensure_ascii=False, default=dataclasses.asdict).encode


def parse_json(text: str | bytes, build_object: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Returns the value of JSON. Raises ValueError, including for values nested too deeply and too long numbers."""
    try:
        return json.loads(text.lstrip("\ufeff") if isinstance(text, str) else text, object_pairs_hook=build_object)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_strict_json(text: str | bytes) -> Any:
    """Returns the value of JSON that a user wrote. Raises ValueError, including for a repeated key, of which
    `parse_json` returns the last value.
    """
    return parse_json(text, unique_keys)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {repeated!r} is repeated")
    return fields


def json_error(error: ValueError) -> str:
    """Returns the reason of an error of `parse_json`, without a position."""
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error).split(";")[0]


def json_line(value: Any) -> bytes:
    """Returns JSON as a line of UTF-8, in which lone surrogates are escaped."""
    try:
        return encode_json(value).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value).encode() + b"\n"


def record_line(record: Any) -> bytes:
    """Returns a dataclass record as a line of JSON."""
    kind: Any = type(record)
    return json_line({name: getattr(record, name) for name in field_names(kind)})


@cache
def field_names(kind: Any) -> Sequence[str]:
    return [field.name for field in dataclasses.fields(kind)]


def read_lines(file: Path) -> Iterator[str]:
    """Yields the lines of a text file with their ends. Raises DataError if it cannot be read or decoded."""
    try:
        with file.open("rb", BUFFER_BYTES) as stream:
            encoding = detect_encoding(stream.read(4))
            stream.seek(0)
            if encoding == UTF_8:  # faster than the text layer
                yield next(stream, b"").decode(encoding, "surrogatepass")
                for line in stream:
                    yield line.decode("utf-8", "surrogatepass")
                return
        with file.open(encoding=encoding, errors="surrogatepass", newline="\n") as lines:
            yield from lines
    except UnicodeError as error:
        raise DataError(f"{file}: not UTF-8 ({getattr(error, 'reason', error)}); save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines of a text file that have a visible character with their numbers."""
    for number, line in enumerate(read_lines(file), 1):
        if line.startswith("{") or not is_blank(normalize_text(line)):
            yield number, line


def parse_records(
    file: Path, records: Iterable[tuple[int, Raw]], parse: Callable[[Raw], Parsed], expected: str
) -> Iterator[tuple[int, Parsed]]:
    """Yields the number and the parsed value of each record of a file.

    After the first record for which `parse` raises DataError, only looks for further ones. Raises a DataError that
    lists them.
    """
    problems: list[str] = []
    count = 0
    for number, record in records:
        count += 1
        try:
            value = parse(record)
        except DataError as error:
            problems.append(f"line {number}: {error}")
            continue
        if not problems:
            yield number, value
    if problems:
        raise list_problems(f"{file}: {len(problems):,} of {count:,} lines cannot be read; {expected}", problems)


def list_problems(heading: str, problems: list[str]) -> DataError:
    """Returns an error that lists the first problems and the number of the others."""
    more = [f"... and {len(problems) - MAX_PROBLEMS_SHOWN:,} more"] if len(problems) > MAX_PROBLEMS_SHOWN else []
    return DataError("\n      ".join([heading, *problems[:MAX_PROBLEMS_SHOWN], *more]))


class JsonLinesWriter:
    """Writes a JSON Lines file record by record, for folders that are discarded unless they are finished."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")

    def write(self, record: Any) -> None:
        self.file.write(record_line(record))

    def __enter__(self) -> "JsonLinesWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()


class ResumableJsonLines(Generic[Record]):
    """A JSON Lines file that survives a kill: every written record is on disk and can be read by its `key` field.

    What follows an incomplete or unreadable line is dropped when the file is opened. Only file offsets are held in
    memory.
    """

    def __init__(self, path: Path, kind: type[Record], key: str) -> None:
        self.path, self.kind, self.key = path, kind, key
        self.offsets: dict[str, int] = {}
        path.touch()
        with path.open("rb") as lines:
            end = 0
            for line in lines:
                try:
                    name = parse_json(line)[key] if line.endswith(b"\n") else None
                except (ValueError, TypeError, KeyError):  # after a power failure
                    name = None
                if name is None:
                    break
                self.offsets[name] = end
                end += len(line)
        os.truncate(path, end)

    def __contains__(self, key: str) -> bool:
        return key in self.offsets

    def __enter__(self) -> None:
        self.file = self.path.open("ab")

    def __exit__(self, *exception: object) -> None:
        self.file.close()

    def write(self, record: Any) -> None:
        self.offsets[getattr(record, self.key)] = self.file.tell()
        self.file.write(record_line(record))
        self.file.flush()

    def read(self, key: str) -> Record:
        with self.path.open("rb") as lines:
            lines.seek(self.offsets[key])
            return self.kind(**parse_json(lines.readline()))


def write_jsonl(path: Path, records: Iterable[Any]) -> int:
    """Writes dataclass records atomically; returns their number."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    count = 0
    with unfinished.open("wb", BUFFER_BYTES) as file:
        for record in records:
            file.write(record_line(record))
            count += 1
    os.replace(unfinished, path)
    return count


def read_jsonl(path: Path, kind: type[Record]) -> Iterator[Record]:
    """Yields the records. Raises DataError with file and line number if a line is not a valid record."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            try:
                yield kind(**parse_json(line))
            except (ValueError, TypeError) as error:
                raise DataError(f"{path}:{number}: not a {kind.__name__}: {error}") from None
