"""Suggestions for misspelled names."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns "did you mean X or Y?" with the closest known names, or with all of them where none is close."""
    names = [str(candidate) for candidate in known]
    return f"did you mean {' or '.join(get_close_matches(name, names) or names)}?" if names else "it takes no keys"
