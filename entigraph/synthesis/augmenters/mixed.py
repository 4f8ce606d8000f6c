"""Combines several augmenters: each generates its share of one token budget, as it would alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import ceil
from typing import Any

from entigraph.errors import ConfigError
from entigraph.synthesis.base import Augmenter, PromptAugmenter

ROUNDING_ERROR = 1e-6


@dataclass(frozen=True, kw_only=True)
class Mixed(Augmenter):
    """Divides the token budget between the augmenters in `parts` by `shares`; a share of null is the remainder.

    Each part sends the same requests in the same order as alone, so it shares cached answers with runs of it alone.
    `name` null: the names of the parts with their shares, such as "entigraph75-rephrase25", so that figures and tables
    show each mixture separately.
    """

    name: str | None = None  # type: ignore[assignment]  # set in __post_init__
    parts: dict[str, Any] = field(default_factory=dict)
    shares: dict[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unmatched = sorted(self.shares.keys() ^ self.parts.keys())
        if unmatched or not self.parts:
            raise ConfigError(
                f"augmenter.shares must have the names of augmenter.parts; only one of them has {unmatched}"
            )
        if list(self.shares.values()).count(None) > 1:
            raise ConfigError("augmenter.shares must have at most one null (the remainder), got more")
        shares = self.resolved_shares.values()
        if min(shares) < 0 or abs(sum(shares) - 1) > ROUNDING_ERROR:
            raise ConfigError(f"augmenter.shares must be at least 0 and sum to 1, got {dict(self.shares)}")
        for name, part in sorted(self.parts.items()):
            if isinstance(part, Mixed) or not part.needs_writer:
                raise ConfigError(f"augmenter.parts.{name} must be an augmenter that uses the writer")
            if getattr(part, "selection", None) == "adaptive":
                raise ConfigError(f"augmenter.parts.{name}: selection=adaptive trains a student on its texts alone")
        for (name, part), (other_name, other) in combinations(sorted(self.parts.items()), 2):
            if share_prompts(part, other):
                raise ConfigError(
                    f"augmenter.parts: {name} and {other_name} send the same requests; remove one of them"
                )
        default_name = "-".join(f"{part.name}{100 * share:g}" for part, share in self.active_parts)
        object.__setattr__(self, "name", self.name or default_name)

    @property
    def resolved_shares(self) -> Mapping[str, float]:
        rest = 1 - sum(share for share in self.shares.values() if share is not None)
        return {name: round(rest, 6) if share is None else share for name, share in sorted(self.shares.items())}

    @property
    def active_parts(self) -> Sequence[tuple[Augmenter, float]]:
        """The augmenters with a share above zero, each with its share."""
        return [(self.parts[name], share) for name, share in self.resolved_shares.items() if share]

    @property
    def endless(self) -> bool:
        return True  # without a token budget there is nothing to divide

    @property
    def cache_key(self) -> Mapping[str, Any]:
        return {"name": self.name}  # the parts enter by their own keys

    @property
    def user_texts(self) -> Mapping[str, str]:
        return {
            f"parts.{name}.{key}": text for name, part in self.parts.items() for key, text in part.user_texts.items()
        }

    def sources(self) -> Sequence[str]:
        return [source for part, _ in self.active_parts for source in part.sources()]

    def divide(self, token_budget: int | None) -> Sequence[tuple[Augmenter, int | None]]:
        budgets = [(part, token_budget and ceil(share * token_budget)) for part, share in self.active_parts]
        return [pair for part, budget in budgets for pair in part.divide(budget)]


def share_prompts(part: Augmenter, other: Augmenter) -> bool:
    """Returns whether two augmenters have a prompt in common: their texts would have the same ids."""
    if isinstance(part, PromptAugmenter) and isinstance(other, PromptAugmenter):
        return not {*part.prompt_names}.isdisjoint(other.prompt_names)
    return False
