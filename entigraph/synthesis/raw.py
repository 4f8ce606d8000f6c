"""No augmentation: the documents as they are (the paper's Raw CPT, replay corpora, background corpora)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from entigraph.llm.base import Completion, Request
from entigraph.records import Document, EntityGraph, Failure
from entigraph.synthesis.base import Task


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Each document once. A token budget beyond them is filled by repeating them, and is reported as repetition."""

    name: str = "raw"
    prompts: ClassVar[Sequence[str]] = ()
    needs_writer: ClassVar[bool] = False
    endless: ClassVar[bool] = False

    def graph_request(self, document: Document) -> Request | None:
        return None

    def graph(self, document: Document, completion: Completion) -> EntityGraph | Failure:
        raise AssertionError("raw text asks for no entities")

    def tasks(self, documents: Iterable[Document], graphs: Mapping[str, EntityGraph], seed: int) -> Iterator[Task]:
        for document in documents:
            yield Task(document=document, kind="raw", about=(), sample=0, request=None)
