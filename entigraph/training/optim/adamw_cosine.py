"""The optimizer's settings and its learning-rate schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi

from entigraph.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AdamWCosine:
    """AdamW with linear warm-up and cosine decay; no weight decay on norms and biases.

    `minimum` is the final learning rate as a share of `lr`. `clip_norm` bounds the gradient's norm; null: no bound.
    """

    lr: float
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    warmup: float = 0.05
    minimum: float = 0.0
    clip_norm: float | None = 1.0

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ConfigError(f"optim.lr: {self.lr} found, a positive learning rate expected")
        for key in ("warmup", "minimum", "beta1", "beta2", "weight_decay"):
            value = getattr(self, key)
            if not 0 <= value <= 1 or (key.startswith("beta") and value == 1):
                raise ConfigError(f"optim.{key}: {value} found, 0 to 1 expected")

    def schedule(self, steps: int) -> Callable[[int], float]:
        """The factor on `lr` at each optimizer step, counted from 0."""
        warmup = max(1, round(self.warmup * steps))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            done = (step - warmup) / max(1, steps - warmup)
            return self.minimum + (1 - self.minimum) * 0.5 * (1 + cos(pi * min(1.0, done)))

        return factor
