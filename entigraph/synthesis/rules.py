"""When a synthesis has enough, and what it does about answers that are no texts."""

from dataclasses import dataclass

from entigraph.config.fields import runtime_field
from entigraph.config.schema import NearDuplicates
from entigraph.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Rules:
    """See conf/config.yaml, synthesis. Raises ConfigError for values that make no sense."""

    token_budget: int | None
    seed: int = 0
    reask_failures: int = 0
    max_lost: float = runtime_field(0.2)
    near_duplicates: NearDuplicates = NearDuplicates.report
    similarity: float = 0.8

    def __post_init__(self) -> None:
        if self.token_budget is not None and self.token_budget < 1:
            raise ConfigError(f"synthesis.token_budget: {self.token_budget} found, at least 1 token or null expected")
        if self.reask_failures < 0:
            raise ConfigError(f"synthesis.reask_failures: {self.reask_failures} found, 0 or more expected")
        if not 0 <= self.max_lost <= 1:
            raise ConfigError(f"synthesis.max_lost: {self.max_lost} found, a share from 0 to 1 expected")
        if not 0 < self.similarity <= 1:
            raise ConfigError(f"synthesis.similarity: {self.similarity} found, above 0 and up to 1 expected")
