"""What every augmenter is: pure. Documents in, requests out; completions in, records out. No network, no files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any, Protocol, TypeVar

from entigraph.llm.base import Completion, Request
from entigraph.storage.schemas import Document, EntityGraph, Failure
from entigraph.synthesis.document_parts import Part

Item = TypeVar("Item")


class Layout(StrEnum):
    """Where a request says what to do. `paper`: in the system message, before the document (paper App. H).
    `shared_prefix`: after the document, so that all that is asked about it has one prefix for a server to keep.
    """

    paper = "paper"
    shared_prefix = "shared_prefix"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One request to come, and what its texts are to be about: as many texts as `about` has entries."""

    document: Document
    kind: str
    about: Sequence[Sequence[str]] = ((),)
    sample: int = 0


@dataclass(frozen=True)
class Phase:
    """How many requests of some kinds, in turn, one document gives; None: no end."""

    kinds: Sequence[str]
    requests: int | None


class Augmenter(Protocol):
    """`name` goes into folder names and onto figures. `prompts` names the prompt files, which decide content too.

    `endless`: its tasks do not end by themselves, so a token budget must end them. Where it needs no writer, a task's
    text is its document's, and `author` says whose words they are. `repeats`: a training budget beyond its texts is
    filled by repeating them.
    """

    name: str
    needs_writer: bool
    repeats: bool
    author: str

    @property
    def prompts(self) -> Sequence[str]: ...

    @property
    def endless(self) -> bool: ...

    def sources(self) -> Sequence[str]:
        """Files of its own that decide content."""
        ...

    def parts(self, document: Document) -> Sequence[Document]:
        """What of a document each request sees: all of it, or its parts one by one."""
        ...

    def graph_request(self, document: Document) -> Request | None:
        """Asks for a document's entities; None where the augmenter needs none."""
        ...

    def graph(self, document: Document, completion: Completion) -> EntityGraph | Failure: ...

    def tasks(self, documents: Iterable[Document], graphs: Mapping[str, EntityGraph], seed: int) -> Iterator[Task]:
        """In the order of generation, made when drawn. Stopping anywhere leaves an even corpus."""
        ...

    def request(self, task: Task) -> Request: ...

    def texts(self, task: Task, answer: str) -> Sequence[str | None]:
        """The text about each of `task.about`; None for one that the answer lacks."""
        ...

    def phases(self, entities: int) -> Sequence[Phase]:
        """What a document with so many entities gives, in the order of generation: for estimates."""
        ...

    def example(self, document: Document, kind: str) -> Task:
        """Some task of a kind, for estimates."""
        ...


@cache
def prompt(name: str) -> str:
    return (
        resources.files(f"{__package__}.augmenters").joinpath(f"prompts/{name}.txt").read_text(encoding="utf-8").strip()
    )


def asking(
    document: Document, task: str, details: str = "", *, layout: Layout, temperature: float, **more: Any
) -> Request:
    """A request of one layout: the prompt file `task` about a document, with details of its own after it."""
    shown = presented(document)
    if layout is Layout.paper:
        own = f"\n\n{details}" if details else ""
        return Request(system=prompt(task), user=shown + own, suffix=own, temperature=temperature, **more)
    own = f"\n\n{details}" if details else ""
    user = f"{shown}\n\n### Task\n{prompt(task)}{own}"
    return Request(system=prompt("writer"), user=user, suffix=own, temperature=temperature, **more)


def presented(document: Document) -> str:
    """The document as every request shows it: in the first line what it is, then the text."""
    known = [f'"{document.title}"', *(document.meta[key] for key in ("author", "year") if document.meta.get(key))]
    about = f"{', '.join(known)}."
    if isinstance(document, Part):
        about += f" Part {document.number} of {document.of}."
        about += f" The whole: {document.summary}" if document.summary else ""
    return f"### Document\n{about}\n{document.text}"


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
