"""Command-line overrides as Hydra receives them."""

import shlex
from collections.abc import Sequence

LIST_GROUPS = ("logger", "callbacks", "evaluation")
SHORT_KEYS = {"experiment": "experiments", "study": "study.name"}


def normalize_overrides(overrides: Sequence[str]) -> list[str]:
    """Returns the overrides with short keys written out.

    `experiment=NAME`, which Hydra users type first, becomes `experiments=NAME`, and `study=NAME` `study.name=NAME`.
    `null` selects no option of a group of which several may be selected: `logger=null` becomes `logger=[]`.
    """
    return [expand_short_key(override) for override in overrides]


def expand_short_key(override: str) -> str:
    key, _, value = override.partition("=")
    if key in LIST_GROUPS and value == "null":
        return f"{key}=[]"
    if key not in SHORT_KEYS or value.startswith("{"):  # a dictionary is the value of the key itself
        return override
    return f"{SHORT_KEYS[key]}={value}"


def explain_syntax_error(overrides: Sequence[str]) -> str | None:
    """Returns a message about the first override that Hydra cannot parse, with the same override quoted; else None."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    for override in overrides:
        try:
            OverridesParser.create().parse_override(override)
        except HydraException as error:
            problem = str(error).splitlines()[-1].strip()
            return f"{override}: not in Hydra's syntax ({problem}){quoting_hint(override)}"
    return None


def explain_comma(override: str) -> str:
    """Returns a message about a value with a comma outside a sweep."""
    key, _, value = override.partition("=")
    return f"{override}: several values need a sweep (add -m), or are a list: {key}=[{value}]{quoting_hint(override)}"


def quoting_hint(override: str) -> str:
    key, equals, value = override.partition("=")
    if not equals:
        return "; write key=value"
    escaped = value.strip("'\"").replace('"', '\\"')
    quoted = shlex.quote(f'{key}="{escaped}"')
    return f". A text with characters such as = , [ ] {{ }} ( ) ' or a colon is quoted inside the argument: {quoted}"
