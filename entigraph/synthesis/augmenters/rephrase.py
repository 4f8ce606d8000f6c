"""The baselines: the document rewritten again and again, in styles (paper §4.1, App. H.2) or as questions with their
answers (App. E).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import ClassVar

from entigraph.errors import ConfigError
from entigraph.llm.base import Completion, Request
from entigraph.storage.schemas import Document, EntityGraph, Failure
from entigraph.synthesis.base import Layout, Phase, Task, asking
from entigraph.synthesis.document_parts import in_parts

STYLES = ("easy", "medium", "hard", "qa")


@dataclass(frozen=True, kw_only=True)
class Rephrase:
    """Each round rewrites every document once in every style. `rounds` null: until the token budget ends it.

    Temperature 1.0 is the paper's; the mix of the styles is stated nowhere, so they share evenly. A document longer
    than `max_document_tokens` (of four characters) is rewritten in overlapping parts.
    """

    name: str = "rephrase"
    styles: list[str] = field(default_factory=lambda: list(STYLES[:3]))
    rounds: int | None = None
    layout: Layout = Layout.paper
    temperature: float = 1.0
    max_document_tokens: int | None = 32_000
    needs_writer: ClassVar[bool] = True
    repeats: ClassVar[bool] = False
    author: ClassVar[str] = "the writer"

    def __post_init__(self) -> None:
        unknown = [style for style in self.styles if style not in STYLES]
        if unknown or not self.styles:
            raise ConfigError(f"augmenter.styles: {list(self.styles)} found, some of {', '.join(STYLES)} expected")
        if self.rounds is not None and self.rounds < 1:
            raise ConfigError(f"augmenter.rounds: {self.rounds} found, at least 1 or null expected")
        if self.max_document_tokens is not None and self.max_document_tokens < 100:
            raise ConfigError(f"augmenter.max_document_tokens: {self.max_document_tokens} found, 100 or more expected")

    @property
    def prompts(self) -> Sequence[str]:
        common = ["writer"] if self.layout is Layout.shared_prefix else []
        return [*common, *self.kinds]

    @property
    def kinds(self) -> Sequence[str]:
        return [f"rephrase_{style}" for style in self.styles]

    @property
    def requests_in_a_row(self) -> int:
        """That have a prefix in common."""
        return len(self.styles) if self.layout is Layout.shared_prefix else 1

    @property
    def endless(self) -> bool:
        return self.rounds is None

    def sources(self) -> Sequence[str]:
        return ()

    def parts(self, document: Document) -> Sequence[Document]:
        return in_parts(document, self.max_document_tokens)

    def graph_request(self, document: Document) -> Request | None:
        return None

    def graph(self, document: Document, completion: Completion) -> EntityGraph | Failure:
        raise AssertionError("rephrasing asks for no entities")

    def tasks(self, documents: Iterable[Document], graphs: Mapping[str, EntityGraph], seed: int) -> Iterator[Task]:
        # The seed has nothing to draw here: every document is rewritten in every style, round after round.
        for sample in count() if self.rounds is None else range(self.rounds):
            for document in documents:
                for kind in self.kinds:
                    yield Task(document=document, kind=kind, sample=sample)

    def request(self, task: Task) -> Request:
        return asking(task.document, task.kind, layout=self.layout, temperature=self.temperature, sample=task.sample)

    def texts(self, task: Task, answer: str) -> Sequence[str | None]:
        return [answer]

    def phases(self, entities: int) -> Sequence[Phase]:
        return [Phase(self.kinds, None if self.rounds is None else self.rounds * len(self.styles))]

    def example(self, document: Document, kind: str) -> Task:
        return Task(document=document, kind=kind)
