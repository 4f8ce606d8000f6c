"""Reads conversations for instruction tuning from JSON lines or Parquet, in files or a dataset on the hub."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.corpus.base import CorpusContent
from entigraph.corpus.readers.json_lines import read_lines
from entigraph.errors import DataError
from entigraph.huggingface import hub
from entigraph.storage.schemas import Document

EXPECTED = 'expected {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}, ...]}'
SOURCE = "a .jsonl or .parquet file, a folder of them"
SUFFIXES = (".jsonl", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Conversations:
    """Every file at `path` whose name matches `files`: a file, a folder, or a dataset on the hub, downloaded once.

    A document's text is the JSON of its messages, which tokenizer=chat renders. `documents` limits how many are read
    (null: all). Conversations without an assistant message are left out and counted.
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

    def read(self) -> CorpusContent:
        counts = {"without_assistant": 0}
        return CorpusContent(documents=islice(self.stream(counts), self.documents), counts=counts)

    def stream(self, counts: dict[str, int]) -> Iterator[Document]:
        for file in hub.list_files(self.path, "corpus.path", SOURCE, SUFFIXES, self.files):
            for number, row in enumerate(read_rows(file), 1):
                messages = check_messages(row, f"{file}:{number}")
                if not any(message["role"] == "assistant" for message in messages):
                    counts["without_assistant"] += 1
                    continue
                identity = f"{file.stem}-{number}"
                yield Document(id=identity, title=identity, text=json.dumps(messages, ensure_ascii=False))


def read_rows(file: Path) -> Iterator[Any]:
    """Yields the `messages` of each row, unchecked."""
    if file.suffix == ".parquet":
        yield from read_parquet_rows(file)
        return
    for line in read_lines(file):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield row.get("messages") if isinstance(row, dict) else None


def read_parquet_rows(file: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as rows:
            for batch in rows.iter_batches(batch_size=1000, columns=["messages"]):
                yield from batch.column(0).to_pylist() if batch.num_columns else [None]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read ({str(error).splitlines()[0]}); download it again") from None


def check_messages(messages: Any, place: str) -> list[dict[str, str]]:
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{place}: no messages; {EXPECTED}")
    for message in messages:
        fields = [message.get(key) if isinstance(message, dict) else None for key in ("role", "content")]
        if not all(isinstance(field, str) for field in fields):
            raise DataError(f"{place}: {message!r:.80} is not a message; {EXPECTED}")
    return [{"role": message["role"], "content": message["content"]} for message in messages]
