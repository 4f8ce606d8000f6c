"""Reads text from JSON lines, in files or a dataset on the Hugging Face hub, for example as replay data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import check_positive, runtime_field
from entigraph.corpus.base import CorpusContent
from entigraph.corpus.source_files import find_record_files
from entigraph.errors import DataError
from entigraph.huggingface import hub
from entigraph.storage.jsonl import json_error, numbered_lines, parse_records, parse_strict_json
from entigraph.storage.schemas import Document

EXPECTED = "a .jsonl file, a folder of them"


@dataclass(frozen=True, kw_only=True)
class JsonLines:
    """Every .jsonl file at `path`: a file, a folder, or the name of a dataset on the Hub, which is downloaded once.

    `text_field` names the field that holds the text. `documents` limits how many lines are read (null: all), in the
    order of the files; a token budget later draws among them at random.
    """

    name: str = "json_lines"
    path: str = runtime_field("")
    text_field: str = "text"
    documents: int | None = None
    fictional: ClassVar[bool] = False
    has_questions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self, "corpus", "documents")

    def sources(self) -> list[Path]:
        return [hub.resolve_dataset(self.path, "corpus.path", EXPECTED)]

    def read(self) -> CorpusContent:
        files, skipped = find_record_files(self.path, EXPECTED, [".jsonl"])
        return CorpusContent(islice(self.stream(files), self.documents), skipped=skipped)

    def stream(self, files: Sequence[tuple[str, Path]]) -> Iterator[Document]:
        for name, file in files:
            expected = f'expected {{"{self.text_field}": "..."}} on each line'
            for number, text in parse_records(file, numbered_lines(file), self.parse, expected):
                document_id = f"{name}-{number}"
                yield Document(id=document_id, title=document_id, text=text)

    def parse(self, line: str) -> str:
        try:
            text: Any = parse_strict_json(line)[self.text_field]
        except ValueError as error:
            raise DataError(f"not JSON ({json_error(error)})") from None
        except (LookupError, TypeError):
            raise DataError(f"no field {self.text_field!r}") from None
        if not isinstance(text, str):
            raise DataError(f"{self.text_field} must be a string, got {text!r:.60}")
        return text
