"""Reads text from JSON lines, in files or a dataset on the Hugging Face hub, for example as replay data."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.corpus.base import CorpusContent
from entigraph.errors import DataError
from entigraph.huggingface import hub
from entigraph.storage.schemas import Document

EXPECTED = "a .jsonl file, a folder of them"


@dataclass(frozen=True, kw_only=True)
class JsonLines:
    """Every .jsonl file at `path`: a file, a folder, or the name of a dataset on the hub, which is downloaded once.

    `text_field` names the field that holds the text. `documents` limits how many are read (null: all), in the order of
    the files and lines; a token budget later draws among them at random.
    """

    name: str = "json_lines"
    path: str = runtime_field("")
    text_field: str = "text"
    documents: int | None = None
    fictional: ClassVar[bool] = False
    questions_known: ClassVar[bool] = False

    def sources(self) -> list[Path]:
        return [hub.resolve_dataset(self.path, "corpus.path", EXPECTED)]

    def read(self) -> CorpusContent:
        return CorpusContent(documents=self.stream())

    def stream(self) -> Iterator[Document]:
        (source,) = self.sources()
        count = 0
        for file in hub.list_files(self.path, "corpus.path", EXPECTED, (".jsonl",)):
            name = str(file.relative_to(source).with_suffix("")) if source.is_dir() else file.stem
            for number, line in enumerate(read_lines(file), 1):
                if self.documents is not None and count >= self.documents:
                    return
                if line.strip():
                    identity = f"{name}-{number}"
                    yield Document(id=identity, title=identity, text=self.parse(line, f"{file}:{number}"))
                    count += 1

    def parse(self, line: str, place: str) -> str:
        try:
            text: Any = json.loads(line)[self.text_field]
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{place}: not a JSON object with the field {self.text_field!r}") from None
        if not isinstance(text, str):
            raise DataError(f"{place}: {self.text_field} is {text!r:.60}; expected text")
        return text


def read_lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 ({error.reason}); save it as UTF-8 and run again") from None
