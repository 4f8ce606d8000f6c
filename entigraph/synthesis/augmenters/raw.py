"""No augmentation: the documents themselves (the paper's Raw CPT, replay corpora, background corpora)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from entigraph.storage.schemas import Document, EntityGraph
from entigraph.synthesis.base import Augmenter, WritingTask


@dataclass(frozen=True, kw_only=True)
class Raw(Augmenter):
    """Copies each document once. A larger token budget is filled by repeating them, which is reported as repetition."""

    name: str = "raw"
    needs_writer: ClassVar[bool] = False
    repeats: ClassVar[bool] = True
    author: ClassVar[str] = "the document itself"

    def tasks(
        self, documents: Iterable[Document], graphs: Mapping[str, EntityGraph], seed: int
    ) -> Iterator[WritingTask]:
        for document in documents:
            yield WritingTask(document=document, kind="raw")
