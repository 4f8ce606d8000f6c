"""Synthetic texts on disk: Parquet files compatible with `datasets.load_dataset`, written and read as streams."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entigraph.errors import ArtifactError
from entigraph.storage.schemas import SyntheticText

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXTS_PER_FILE = 100_000
ROWS_PER_GROUP = 1_000
CHARACTERS_PER_GROUP = 8 << 20  # readers hold one group in memory, and a text may be an entire book


@dataclass(frozen=True)
class RowGroup:
    """A Parquet row group, the smallest unit that is read at once.

    Attributes:
        file: The Parquet file.
        number: The index of the row group in the file.
        first: The index of the group's first text in the folder.
        count: The number of texts in the group.
    """

    file: Path
    number: int
    first: int
    count: int

    def column(self, name: str, rows: Sequence[int] | None = None) -> list[Any]:
        """Returns one field of the texts at `rows`, relative to the group; of all texts if None."""
        import pyarrow.parquet as pq

        with translate_parquet_errors(self.file), pq.ParquetFile(self.file) as parquet:
            values = parquet.read_row_group(self.number, columns=[name], use_threads=False).column(0)
        selected: list[Any] = (values if rows is None else values.take(rows)).to_pylist()
        return selected


def write_texts(folder: Path, texts: Iterable[SyntheticText]) -> int:
    """Writes texts-00000.parquet, texts-00001.parquet, ...; returns the number of texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types: dict[Any, Any] = {str: pa.string(), int: pa.int64(), Sequence[str]: pa.list_(pa.string())}
    schema = pa.schema([(field.name, types[field.type]) for field in fields(SyntheticText)])
    groups, count, number = batch_rows(texts), 0, 0
    rows = next(groups, [])
    while rows:
        with pq.ParquetWriter(folder / f"texts-{number:05}.parquet", schema, compression="zstd") as writer:
            in_file = 0
            while rows and in_file < TEXTS_PER_FILE:
                writer.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=schema))
                in_file += len(rows)
                rows = next(groups, [])
        count, number = count + in_file, number + 1
    return count


def batch_rows(texts: Iterable[SyntheticText]) -> Iterator[list[SyntheticText]]:
    """Yields the texts in lists that become row groups, limited in rows and in characters."""
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
    """Yields the texts in the order written. Raises ArtifactError for a damaged file."""
    import pyarrow.parquet as pq

    for file in text_files(folder):
        with translate_parquet_errors(file), pq.ParquetFile(file, pre_buffer=False) as parquet:
            for batch in parquet.iter_batches(batch_size=ROWS_PER_GROUP):
                yield from (SyntheticText(**row) for row in batch.to_pylist())


def row_groups(folder: Path) -> list[RowGroup]:
    """Returns all row groups in the order written; reads only the footers. Raises ArtifactError for a damaged file."""
    import pyarrow.parquet as pq

    groups: list[RowGroup] = []
    first = 0
    for file in text_files(folder):
        with translate_parquet_errors(file):
            footer = pq.read_metadata(file)
        for number in range(footer.num_row_groups):
            count = footer.row_group(number).num_rows
            groups.append(RowGroup(file, number, first, count))
            first += count
    return groups


def token_counts(folder: Path) -> "NDArray[np.int64]":
    """Returns the number of tokens of every text, in the order written."""
    import numpy as np
    import pyarrow.parquet as pq

    counts = [np.empty(0, dtype=np.int64)]
    for file in text_files(folder):
        with translate_parquet_errors(file):
            counts.append(pq.read_table(file, columns=["tokens"]).column(0).to_numpy())
    return np.concatenate(counts)


def text_files(folder: Path) -> list[Path]:
    """Returns the Parquet files of a folder in the order written."""
    return sorted(folder.glob("texts-*.parquet"))


@contextmanager
def translate_parquet_errors(file: Path) -> Iterator[None]:
    """Translates errors of reading a Parquet file to ArtifactError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        message = str(error).splitlines()[0]
        raise ArtifactError(f"{file} is damaged ({message}); remove {file.parent} and run the same command") from None
