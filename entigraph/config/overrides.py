"""Command-line overrides as Hydra receives them."""

from collections.abc import Sequence

SHORT_KEYS = {"experiment": "experiments", "study": "study.name"}


def normalize_overrides(overrides: Sequence[str]) -> list[str]:
    """Returns the overrides with short keys written out.

    `experiment=NAME`, which Hydra users type first, becomes `experiments=NAME`, and `study=NAME` `study.name=NAME`.
    """
    return [expand_short_key(override) for override in overrides]


def expand_short_key(override: str) -> str:
    key, _, value = override.partition("=")
    if key not in SHORT_KEYS or value.startswith("{"):  # a dictionary is the value of the key itself
        return override
    return f"{SHORT_KEYS[key]}={value}"
