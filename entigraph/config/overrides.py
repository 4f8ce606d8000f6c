"""Command-line overrides as Hydra receives them."""

from collections.abc import Sequence


def normalize_overrides(overrides: Sequence[str]) -> list[str]:
    """Returns the overrides with `experiment=NAME`, which Hydra users type first, as `experiments=NAME`."""
    return [
        override.replace("experiment=", "experiments=", 1) if override.startswith("experiment=") else override
        for override in overrides
    ]
