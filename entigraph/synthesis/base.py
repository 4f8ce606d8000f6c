"""What every augmenter is: pure. Documents in, requests out; completions in, records out. No network, no files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import islice
from typing import Protocol, TypeVar

from entigraph.llm.base import Completion, Request
from entigraph.records import Document, EntityGraph, Failure

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One text to be written: about what, and the request that asks for it (None where no writer is needed)."""

    document: Document
    kind: str
    about: Sequence[str]
    sample: int
    request: Request | None


class Augmenter(Protocol):
    """`name` goes into folder names and onto figures. `prompts` names the prompt files, which decide content too.

    `endless`: its tasks do not end by themselves, so a token budget must end them. Where it needs no writer, a task's
    text is its document's.
    """

    name: str
    prompts: Sequence[str]
    needs_writer: bool

    @property
    def endless(self) -> bool: ...

    def graph_request(self, document: Document) -> Request | None:
        """Asks for a document's entities; None where the augmenter needs none."""
        ...

    def graph(self, document: Document, completion: Completion) -> EntityGraph | Failure: ...

    def tasks(self, documents: Iterable[Document], graphs: Mapping[str, EntityGraph], seed: int) -> Iterator[Task]:
        """In the order of generation, made when drawn. Stopping anywhere leaves an even corpus."""
        ...


@cache
def prompt(name: str) -> str:
    return resources.files(__package__).joinpath(f"prompts/{name}.txt").read_text(encoding="utf-8").strip()


def presented(document: Document) -> str:
    """The document as every request shows it: title, author and year in the first line, then the text."""
    known = [f'"{document.title}"', *(document.meta[key] for key in ("author", "year") if document.meta.get(key))]
    return f"### Document\n{', '.join(known)}.\n{document.text}"


def in_rounds(streams: Iterable[Iterator[Item]], size: int) -> Iterator[Item]:
    """`size` items of each stream in turn, until all have ended."""
    waiting = list(streams)
    while waiting:
        going = []
        for stream in waiting:
            taken = list(islice(stream, size))
            yield from taken
            if len(taken) == size:
                going.append(stream)
        waiting = going
