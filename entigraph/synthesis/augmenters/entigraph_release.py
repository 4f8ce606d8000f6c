"""The authors' released EntiGraph corpus over QuALITY (455M tokens, written by GPT-4 Turbo), as a synthesis of ours."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from entigraph.config.fields import runtime_field
from entigraph.errors import DataError
from entigraph.huggingface import hub
from entigraph.storage.schemas import Document
from entigraph.synthesis.base import Augmenter, Graphs, WritingTask

EXPECTED = "the release's Parquet file, or the folder with its parts"
COLUMNS = ("uid", "raw", "entigraph")
SEPARATOR = "<|entigraphseptoekn|>"  # spelled like this in the release


@dataclass(frozen=True, kw_only=True)
class ReleasedTexts(Augmenter):
    """Each row of the release is a document with all its texts. A text gets the id of the corpus document with the same
    text, or the release's own id if there is none.
    """

    name: str = "entigraph_release"
    path: str = runtime_field("zitongyang/entigraph-quality-corpus")
    needs_writer: ClassVar[bool] = False
    author: ClassVar[str] = "gpt-4-turbo (released by the paper's authors)"

    def sources(self) -> list[str]:
        return [str(hub.resolve_dataset(self.path, "augmenter.path", EXPECTED))]

    def tasks(self, documents: Iterable[Document], graphs: Graphs, seed: int) -> Iterator[WritingTask]:
        known = {text_identity(document.text): document for document in documents}
        for file in hub.list_files(self.path, "augmenter.path", EXPECTED, (".parquet",)):
            for uid, raw, texts in read_rows(file):
                document = known.get(text_identity(raw)) or Document(id=uid, title=uid, text="")
                for sample, text in enumerate(filter(str.strip, texts.split(SEPARATOR))):
                    released = Document(id=document.id, title=document.title, text=text.strip())
                    yield WritingTask(document=released, kind="released", sample=sample)


def read_rows(file: Path) -> Iterator[tuple[str, str, str]]:
    """Yields id, source text and joined texts of each document. Raises DataError if the file is not such a release."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, pre_buffer=False) as part:
            missing = [name for name in COLUMNS if name not in part.schema_arrow.names]
            if missing:
                raise DataError(f"{file}: no column {', '.join(missing)}; expected the release's {', '.join(COLUMNS)}")
            for batch in part.iter_batches(batch_size=1, columns=list(COLUMNS)):
                for row in batch.to_pylist():
                    yield str(row["uid"]), row["raw"], row["entigraph"]
    except pa.ArrowException as error:
        raise DataError(f"{file}: not a Parquet file ({str(error).splitlines()[0]})") from None


def text_identity(text: str) -> str:
    """Returns the end of a text without whitespace: a title before it or other line breaks do not change it."""
    return "".join(text.split())[-400:]
