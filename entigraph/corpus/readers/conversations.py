"""Conversations for instruction tuning: JSON lines or Parquet, from files or a dataset on the Hugging Face hub."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.corpus.base import Content
from entigraph.corpus.readers.json_lines import lines_of
from entigraph.errors import DataError
from entigraph.huggingface import hub
from entigraph.storage.schemas import Document

EXPECTED = 'expected {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}, ...]}'
SOURCE = "a .jsonl or .parquet file, a folder of them"
SUFFIXES = (".jsonl", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Conversations:
    """Every file at `path` whose name matches `files`: a file, a folder, or a dataset on the hub, downloaded once.

    A document's text is the JSON of its messages, which tokenizer=chat renders. `documents` bounds how many are read
    (null: all). A conversation in which the assistant says nothing teaches nothing: it is left out and counted.
    """

    name: str = "conversations"
    path: str = runtime_field("")
    files: str = "*"
    documents: int | None = None
    fictional: ClassVar[bool] = False
    questions_known: ClassVar[bool] = False
    conversations: ClassVar[bool] = True

    def sources(self) -> list[Path]:
        return [hub.resolve_dataset(self.path, "corpus.path", SOURCE)]

    def read(self) -> Content:
        counts = {"without_assistant": 0}
        return Content(documents=islice(self.stream(counts), self.documents), counts=counts)

    def stream(self, counts: dict[str, int]) -> Iterator[Document]:
        for file in hub.list_files(self.path, "corpus.path", SOURCE, SUFFIXES, self.files):
            for number, row in enumerate(rows_of(file), 1):
                messages = checked(row, f"{file}:{number}")
                if not any(message["role"] == "assistant" for message in messages):
                    counts["without_assistant"] += 1
                    continue
                identity = f"{file.stem}-{number}"
                yield Document(id=identity, title=identity, text=json.dumps(messages, ensure_ascii=False))


def rows_of(file: Path) -> Iterator[Any]:
    """Each row's messages, or what stands there instead."""
    if file.suffix == ".parquet":
        yield from parquet_rows(file)
        return
    for line in lines_of(file):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield row.get("messages") if isinstance(row, dict) else None


def parquet_rows(file: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as rows:
            for batch in rows.iter_batches(batch_size=1000, columns=["messages"]):
                yield from batch.column(0).to_pylist() if batch.num_columns else [None]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read ({str(error).splitlines()[0]}); download it again") from None


def checked(messages: Any, place: str) -> list[dict[str, str]]:
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{place}: no messages; {EXPECTED}")
    for message in messages:
        said = [message.get(key) if isinstance(message, dict) else None for key in ("role", "content")]
        if not all(isinstance(part, str) for part in said):
            raise DataError(f"{place}: {message!r:.80} is no message; {EXPECTED}")
    return [{"role": message["role"], "content": message["content"]} for message in messages]
