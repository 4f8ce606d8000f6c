"""The authors' released EntiGraph corpus over QuALITY (455M tokens, written by GPT-4 Turbo), as if asked for here."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from entigraph.config.fields import runtime_field
from entigraph.errors import DataError
from entigraph.huggingface import hub
from entigraph.llm.base import Completion, Request
from entigraph.storage.schemas import Document, EntityGraph, Failure
from entigraph.synthesis.base import Phase, Task

EXPECTED = "the release's Parquet file, or the folder with its parts"
COLUMNS = ("uid", "raw", "entigraph")
SEPARATOR = "<|entigraphseptoekn|>"  # spelled so in the release


@dataclass(frozen=True, kw_only=True)
class Release:
    """Each row of the release is a document with all its texts. A text keeps its document's id where the corpus holds
    a document of that text, and the release's own otherwise.
    """

    name: str = "entigraph_release"
    path: str = runtime_field("zitongyang/entigraph-quality-corpus")
    prompts: ClassVar[Sequence[str]] = ()
    needs_writer: ClassVar[bool] = False
    repeats: ClassVar[bool] = False
    endless: ClassVar[bool] = False
    author: ClassVar[str] = "gpt-4-turbo (released by the paper's authors)"

    def sources(self) -> Sequence[str]:
        return [str(hub.resolve_dataset(self.path, "augmenter.path", EXPECTED))]

    def parts(self, document: Document) -> Sequence[Document]:
        return [document]

    def graph_request(self, document: Document) -> Request | None:
        return None

    def graph(self, document: Document, completion: Completion) -> EntityGraph | Failure:
        raise AssertionError("released texts come without questions")

    def tasks(self, documents: Iterable[Document], graphs: Mapping[str, EntityGraph], seed: int) -> Iterator[Task]:
        known = {identity(document.text): document for document in documents}
        for file in hub.list_files(self.path, "augmenter.path", EXPECTED, (".parquet",)):
            for uid, raw, texts in rows(file):
                document = known.get(identity(raw)) or Document(id=uid, title=uid, text="")
                for sample, text in enumerate(filter(str.strip, texts.split(SEPARATOR))):
                    released = Document(id=document.id, title=document.title, text=text.strip())
                    yield Task(document=released, kind="released", sample=sample)

    def request(self, task: Task) -> Request:
        raise AssertionError("released texts are asked of nobody")

    def texts(self, task: Task, answer: str) -> Sequence[str | None]:
        return [answer]

    def phases(self, entities: int) -> Sequence[Phase]:
        return []

    def example(self, document: Document, kind: str) -> Task:
        raise AssertionError("released texts are asked of nobody")


def rows(file: Path) -> Iterator[tuple[str, str, str]]:
    """One document at a time. Raises DataError where the file is not of the release's form."""
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


def identity(text: str) -> str:
    """The end of a text, without its spaces: a title before it or other line breaks make no other document."""
    return "".join(text.split())[-400:]
