"""Synthetic texts on disk: Parquet parts that `datasets.load_dataset` opens, streamed both ways."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from entigraph.errors import ArtefactError
from entigraph.records import SyntheticText

TEXTS_A_PART = 100_000
ROWS_A_GROUP = 1_000


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
    stream, count, part = iter(texts), 0, 0
    while rows := list(islice(stream, ROWS_A_GROUP)):
        with pq.ParquetWriter(folder / f"texts-{part:05}.parquet", schema, compression="zstd") as writer:
            in_part = 0
            while rows:
                writer.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=schema))
                in_part += len(rows)
                rows = list(islice(stream, ROWS_A_GROUP)) if in_part < TEXTS_A_PART else []
        count, part = count + in_part, part + 1
    return count


def read_texts(folder: Path) -> Iterator[SyntheticText]:
    """In the order written. Raises ArtefactError for a damaged part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in sorted(folder.glob("texts-*.parquet")):
        try:
            for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(batch_size=ROWS_A_GROUP):
                yield from (SyntheticText(**row) for row in batch.to_pylist())
        except pa.ArrowInvalid as error:
            raise ArtefactError(f"{file} is damaged ({error}); remove {folder} and run the same command") from None
