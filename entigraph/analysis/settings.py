"""How the curve is drawn and fitted: stated in the config before anything is measured."""

from dataclasses import dataclass, field

from entigraph.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ScalingCurve:
    """accuracy = a + b·ln(synthetic tokens), fitted to single runs whose budget lies in the stated range (null: open).

    `confidence` is that of the intervals, from `resamples` draws over documents and runs. Forecasts go to `forecast_to`
    times the largest budget, and tell the tokens for each accuracy in `targets`. `samples_shown` synthetic texts stand
    in the report beside their source.
    """

    fit_from_tokens: int | None = None
    fit_to_tokens: int | None = None
    confidence: float = 0.9
    resamples: int = 2000
    forecast_to: float = 4.0
    targets: list[float] = field(default_factory=lambda: [0.5, 0.75, 0.9])
    samples_shown: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ConfigError(f"analysis.confidence: {self.confidence} found, a share between 0 and 1 expected")
        if self.resamples < 1 or self.samples_shown < 0:
            raise ConfigError("analysis: resamples must be at least 1 and samples_shown at least 0")
        if self.forecast_to < 1:
            raise ConfigError(f"analysis.forecast_to: {self.forecast_to} found, 1 or more expected")
        if not all(0 < target < 1 for target in self.targets):
            raise ConfigError(f"analysis.targets: {self.targets} found, shares between 0 and 1 expected")
        low, high = self.fit_from_tokens, self.fit_to_tokens
        if low is not None and high is not None and low >= high:
            raise ConfigError(f"analysis.fit_from_tokens: {low:,} found, below fit_to_tokens {high:,} expected")

    def in_range(self, tokens: int) -> bool:
        return (self.fit_from_tokens or 0) <= tokens <= (self.fit_to_tokens or tokens)
