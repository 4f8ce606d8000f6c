"""No augmentation: the documents as they are (the paper's Raw CPT, replay corpora, background corpora)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from entigraph.llm.base import Completion, Request
from entigraph.storage.schemas import Document, EntityGraph, Failure
from entigraph.synthesis.base import Phase, Task


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Each document once. A token budget beyond them is filled by repeating them, and is reported as repetition."""

    name: str = "raw"
    prompts: ClassVar[Sequence[str]] = ()
    needs_writer: ClassVar[bool] = False
    repeats: ClassVar[bool] = True
    author: ClassVar[str] = "the document itself"
    endless: ClassVar[bool] = False

    def sources(self) -> Sequence[str]:
        return ()

    def parts(self, document: Document) -> Sequence[Document]:
        return [document]

    def graph_request(self, document: Document) -> Request | None:
        return None

    def graph(self, document: Document, completion: Completion) -> EntityGraph | Failure:
        raise AssertionError("raw text asks for no entities")

    def tasks(self, documents: Iterable[Document], graphs: Mapping[str, EntityGraph], seed: int) -> Iterator[Task]:
        for document in documents:
            yield Task(document=document, kind="raw")

    def request(self, task: Task) -> Request:
        raise AssertionError("raw text is asked of nobody")

    def texts(self, task: Task, answer: str) -> Sequence[str | None]:
        return [answer]

    def phases(self, entities: int) -> Sequence[Phase]:
        return [Phase(["raw"], 1)]

    def example(self, document: Document, kind: str) -> Task:
        return Task(document=document, kind=kind)
