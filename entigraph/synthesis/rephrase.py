"""The baseline (paper §4.1, App. H.2): the document rewritten again and again, in three styles."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import ClassVar

from entigraph.errors import ConfigError
from entigraph.llm.base import Completion, Request
from entigraph.records import Document, EntityGraph, Failure
from entigraph.synthesis.base import Task, presented, prompt

STYLES = ("easy", "medium", "hard")


@dataclass(frozen=True, kw_only=True)
class Rephrase:
    """Each round rewrites every document once in every style. `rounds` null: until the token budget ends it.

    Temperature 1.0 is the paper's; the mix of the styles is stated nowhere, so they share evenly.
    """

    name: str = "rephrase"
    styles: list[str] = field(default_factory=lambda: list(STYLES))
    rounds: int | None = None
    temperature: float = 1.0
    prompts: ClassVar[Sequence[str]] = tuple(f"rephrase_{style}" for style in STYLES)
    needs_writer: ClassVar[bool] = True

    def __post_init__(self) -> None:
        unknown = [style for style in self.styles if style not in STYLES]
        if unknown or not self.styles:
            raise ConfigError(f"augmenter.styles: {list(self.styles)} found, some of {', '.join(STYLES)} expected")
        if self.rounds is not None and self.rounds < 1:
            raise ConfigError(f"augmenter.rounds: {self.rounds} found, at least 1 or null expected")

    @property
    def endless(self) -> bool:
        return self.rounds is None

    def graph_request(self, document: Document) -> Request | None:
        return None

    def graph(self, document: Document, completion: Completion) -> EntityGraph | Failure:
        raise AssertionError("rephrasing asks for no entities")

    def tasks(self, documents: Iterable[Document], graphs: Mapping[str, EntityGraph], seed: int) -> Iterator[Task]:
        # The seed has nothing to draw here: every document is rewritten in every style, round after round.
        for sample in count() if self.rounds is None else range(self.rounds):
            for document in documents:
                for style in self.styles:
                    request = Request(
                        system=prompt(f"rephrase_{style}"),
                        user=presented(document),
                        temperature=self.temperature,
                        sample=sample,
                    )
                    yield Task(document=document, kind=f"rephrase_{style}", about=(), sample=sample, request=request)
