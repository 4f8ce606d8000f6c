"""Several augmenters at one budget: each writes its share of the tokens, as it would alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from math import ceil
from typing import Any, ClassVar

from entigraph.errors import ConfigError
from entigraph.synthesis.base import Augmenter

COMMON = frozenset({"writer"})  # a prompt that is no kind of text
MISCOUNT = 1e-6


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """`shares` of the token budget by the names of `parts`, which are augmenters that ask the writer; null: what the
    others leave. A part asks what it would ask alone, in the same order, so its answers are shared with runs of it.

    `name` null: that of its parts with their shares, "entigraph75-rephrase25", so each mixture is a line of its own in
    figures and tables.
    """

    name: str | None = None
    parts: dict[str, Any] = field(default_factory=dict)
    shares: dict[str, float | None] = field(default_factory=dict)
    needs_writer: ClassVar[bool] = True
    repeats: ClassVar[bool] = False
    author: ClassVar[str] = "the writer"
    endless: ClassVar[bool] = True  # without a budget there is nothing to share

    def __post_init__(self) -> None:
        unknown = sorted(self.shares.keys() ^ self.parts.keys())
        if unknown or not self.parts:
            raise ConfigError(f"augmenter.shares: one for each of augmenter.parts expected; {unknown} has not both")
        if list(self.shares.values()).count(None) > 1:
            raise ConfigError("augmenter.shares: null, what the others leave, found twice; once is possible")
        total = sum(share for _, share in self.portions)
        if min(self.settled.values()) < 0 or abs(total - 1) > MISCOUNT:
            raise ConfigError(f"augmenter.shares: {dict(self.shares)} found; shares from 0 that make 1 expected")
        for name, part in self.parts.items():
            if isinstance(part, Mixed) or not part.needs_writer:
                raise ConfigError(f"augmenter.parts.{name}: an augmenter that asks the writer expected")
        for (name, one), (other, second) in combinations(self.parts.items(), 2):
            if {*one.prompts} & {*second.prompts} - COMMON:
                raise ConfigError(f"augmenter.parts: {name} and {other} ask the same; one of them is enough")
        told = "-".join(f"{part.name}{100 * share:g}" for part, share in self.portions)
        object.__setattr__(self, "name", self.name or told)

    @property
    def settled(self) -> Mapping[str, float]:
        rest = 1 - sum(share for share in self.shares.values() if share is not None)
        return {name: round(rest, 6) if share is None else share for name, share in sorted(self.shares.items())}

    @property
    def portions(self) -> Sequence[tuple[Augmenter, float]]:
        """Those that write anything, each with its share."""
        return [(self.parts[name], share) for name, share in self.settled.items() if share]

    @property
    def prompts(self) -> Sequence[str]:
        return list(dict.fromkeys(chain.from_iterable(part.prompts for part, _ in self.portions)))

    def sources(self) -> Sequence[str]:
        return [source for part, _ in self.portions for source in part.sources()]


def portions(augmenter: Augmenter | Mixed, token_budget: int | None) -> Sequence[tuple[Augmenter, int | None]]:
    """Who writes how many tokens: of an augmenter that is no mixture itself, all of them."""
    if not isinstance(augmenter, Mixed):
        return [(augmenter, token_budget)]
    return [(part, token_budget and ceil(share * token_budget)) for part, share in augmenter.portions]
