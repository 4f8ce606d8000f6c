"""The baselines: documents rewritten repeatedly, in several styles (paper §4.1, App. H.2) or as question-answer pairs
(App. E).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from entigraph.errors import ConfigError
from entigraph.storage.schemas import Document
from entigraph.synthesis.augmenters.rounds import RoundsAugmenter
from entigraph.synthesis.base import Graphs, PromptLayout, Steps, WritingTask

STYLES = ("easy", "medium", "hard", "qa")


@dataclass(frozen=True, kw_only=True)
class Rephrase(RoundsAugmenter):
    """Rewrites every document once in every style, in each of `rounds` rounds; null: until the token budget is reached.

    Temperature 1.0 is the paper's. The paper does not state the mix of the styles, so they share evenly.
    """

    name: str = "rephrase"
    styles: list[str] = field(default_factory=lambda: list(STYLES[:3]))

    def __post_init__(self) -> None:
        unknown = [style for style in self.styles if style not in STYLES]
        if unknown or not self.styles:
            raise ConfigError(f"augmenter.styles must be some of {', '.join(STYLES)}, got {list(self.styles)}")
        super().__post_init__()

    @property
    def prompt_names(self) -> Sequence[str]:
        return [f"rephrase_{style}" for style in self.styles]

    @property
    def requests_in_a_row(self) -> int:
        """Only the shared_prefix layout gives the styles a common prefix."""
        return len(self.styles) if self.layout == PromptLayout.shared_prefix else 1

    def tasks(self, documents: Iterable[Document], graphs: Graphs, seed: int) -> Iterator[WritingTask]:
        # The seed is not needed: every document is rewritten in every style, round after round.
        for sample in count() if self.rounds is None else range(self.rounds):
            for document in documents:
                for kind in self.prompt_names:
                    yield WritingTask(document=document, kind=kind, sample=sample)

    def write(self, task: WritingTask) -> Steps[Sequence[str | None]]:
        answer = yield self.build_request(task.document, task.kind, sample=task.sample)
        return [answer]
