"""The base class of benchmarks, and fields of their files, with errors that name the location and what is expected."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import check_positive, runtime_field
from entigraph.corpus.base import resolve_path
from entigraph.errors import DataError
from entigraph.storage.jsonl import json_error, numbered_lines, parse_strict_json
from entigraph.text.normalization import decode_text, is_blank, normalize_text


@dataclass(frozen=True, kw_only=True)
class BenchmarkReader:
    """Documents with questions in the file or folder at `path`, which `source` describes in messages.

    `documents` takes the first ones; null: all.
    """

    name: str = ""
    path: str = runtime_field("")
    documents: int | None = None
    source: ClassVar[str]
    fictional: ClassVar[bool] = False
    has_questions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(self, "corpus", "documents")

    def sources(self) -> list[Path]:
        return [resolve_path(self.path, "corpus.path", self.source)]


def parse_file(file: Path, expected: str) -> Any:
    """Returns the value of a JSON file."""
    try:
        return parse_strict_json(decode_text(file.read_bytes()))
    except (ValueError, OSError) as error:
        raise DataError(f"{file}: not a JSON file ({error}); expected {expected}") from None


def load_json(file: Path, kind: type, expected: str) -> Any:
    """Returns the value of a JSON file. Raises DataError unless it is of this kind, list or dict, and not empty."""
    content = parse_file(file, expected)
    if not isinstance(content, kind) or not content:
        actual = f"an empty {kind.__name__}" if isinstance(content, kind) else f"a JSON {type(content).__name__}"
        raise DataError(f"{file}: the file is {actual}; expected {expected}")
    return content


def load_json_lines(file: Path, expected: str) -> Iterator[tuple[str, Any]]:
    """Yields each value with its location."""
    for number, line in numbered_lines(file):
        try:
            yield f"{file}:{number}", parse_strict_json(line)
        except ValueError as error:
            raise DataError(f"{file}:{number}: not JSON ({json_error(error)}); expected {expected}") from None


def text_field(record: Any, key: str, location: str, expected: str) -> str:
    """Returns the text of a field, which has visible characters."""
    value = record.get(key) if isinstance(record, Mapping) else None
    text = normalize_text(value).strip() if isinstance(value, str) else ""
    if is_blank(text):
        raise DataError(f"{location}: {key} must be a non-empty string, got {value!r:.80}; expected {expected}")
    return text


def list_field(record: Any, key: str, location: str, expected: str) -> list[Any]:
    value = record.get(key) if isinstance(record, Mapping) else None
    if not isinstance(value, list):
        raise DataError(f"{location}: {key} must be a list, got {value!r:.80}; expected {expected}")
    return value
