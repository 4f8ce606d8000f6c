"""Suggestions for misspelled names."""

from collections.abc import Iterable
from difflib import get_close_matches

MAX_LISTED = 12


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns "did you mean X or Y?" with the closest known names; where none is close, "expected one of X, Y"."""
    names = [str(candidate) for candidate in known]
    if not names:
        return "it takes no keys"
    if close := get_close_matches(name, names):
        return f"did you mean {' or '.join(close)}?"
    if len(names) == 1:
        return f"expected {names[0]}"
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"expected one of {', '.join(names[:MAX_LISTED])}{more}"
