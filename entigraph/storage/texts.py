"""Synthetic texts on disk: Parquet parts that `datasets.load_dataset` opens, streamed both ways."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entigraph.errors import ArtifactError
from entigraph.storage.schemas import SyntheticText

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXTS_PER_FILE = 100_000
ROWS_PER_GROUP = 1_000
CHARACTERS_PER_GROUP = 8 << 20  # whole books are texts too, and a group is what a reader holds in memory


@dataclass(frozen=True)
class RowGroup:
    """The least of a part that is read at once: `count` texts, the first of them the `first` of the folder."""

    file: Path
    number: int
    first: int
    count: int

    def column(self, name: str, rows: Sequence[int] | None = None) -> list[Any]:
        """One field of the texts at `rows`, counted within the group (null: of all)."""
        import pyarrow.parquet as pq

        with translate_parquet_errors(self.file), pq.ParquetFile(self.file) as part:
            values = part.read_row_group(self.number, columns=[name], use_threads=False).column(0)
        found: list[Any] = (values if rows is None else values.take(rows)).to_pylist()
        return found


def write_texts(folder: Path, texts: Iterable[SyntheticText]) -> int:
    """Writes texts-00000.parquet, ...; returns how many texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("id", pa.string()),
            ("document_id", pa.string()),
            ("augmenter", pa.string()),
            ("kind", pa.string()),
            ("about", pa.list_(pa.string())),
            ("sample", pa.int64()),
            ("text", pa.string()),
            ("writer", pa.string()),
            ("prompt_hash", pa.string()),
            ("tokens", pa.int64()),
        ]
    )
    groups, count, part = batch_rows(texts), 0, 0
    rows = next(groups, [])
    while rows:
        with pq.ParquetWriter(folder / f"texts-{part:05}.parquet", schema, compression="zstd") as writer:
            in_part = 0
            while rows and in_part < TEXTS_PER_FILE:
                writer.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=schema))
                in_part += len(rows)
                rows = next(groups, [])
        count, part = count + in_part, part + 1
    return count


def batch_rows(texts: Iterable[SyntheticText]) -> Iterator[list[SyntheticText]]:
    rows: list[SyntheticText] = []
    characters = 0
    for text in texts:
        rows.append(text)
        characters += len(text.text)
        if len(rows) == ROWS_PER_GROUP or characters >= CHARACTERS_PER_GROUP:
            yield rows
            rows, characters = [], 0
    if rows:
        yield rows


def read_texts(folder: Path) -> Iterator[SyntheticText]:
    """In the order written. Raises ArtifactError for a damaged part."""
    import pyarrow.parquet as pq

    for file in text_files(folder):
        with translate_parquet_errors(file), pq.ParquetFile(file, pre_buffer=False) as part:
            for batch in part.iter_batches(batch_size=ROWS_PER_GROUP):
                yield from (SyntheticText(**row) for row in batch.to_pylist())


def row_groups(folder: Path) -> list[RowGroup]:
    """All of a folder's, in the order written; reads the parts' footers only. Raises ArtifactError as above."""
    import pyarrow.parquet as pq

    found: list[RowGroup] = []
    first = 0
    for file in text_files(folder):
        with translate_parquet_errors(file):
            footer = pq.read_metadata(file)
        for number in range(footer.num_row_groups):
            count = footer.row_group(number).num_rows
            found.append(RowGroup(file, number, first, count))
            first += count
    return found


def token_counts(folder: Path) -> "NDArray[np.int64]":
    """Of every text, in the order written."""
    import numpy as np
    import pyarrow.parquet as pq

    counts = [np.empty(0, dtype=np.int64)]
    for file in text_files(folder):
        with translate_parquet_errors(file):
            counts.append(pq.read_table(file, columns=["tokens"]).column(0).to_numpy())
    return np.concatenate(counts)


def text_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("texts-*.parquet"))


@contextmanager
def translate_parquet_errors(file: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        said = str(error).splitlines()[0]
        raise ArtifactError(f"{file} is damaged ({said}); remove {file.parent} and run the same command") from None
