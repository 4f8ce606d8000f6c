"""No augmentation: the documents themselves (the paper's Raw CPT, replay corpora, background corpora)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from entigraph.storage.schemas import Document
from entigraph.synthesis.base import Augmenter, Graphs, WritingTask


@dataclass(frozen=True, kw_only=True)
class Raw(Augmenter):
    """Copies each document once. A larger token budget is filled by repeating them, which is reported as repetition."""

    name: str = "raw"
    needs_writer: ClassVar[bool] = False
    repeats: ClassVar[bool] = True
    author: ClassVar[str] = "the document itself"

    def tasks(self, documents: Iterable[Document], graphs: Graphs, seed: int) -> Iterator[WritingTask]:
        for document in documents:
            yield WritingTask(document=document, kind="raw")
