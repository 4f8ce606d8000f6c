"""Renders arbitrary text as Markdown."""

import re
from collections.abc import Iterable, Sequence


def escape(text: str) -> str:
    """Returns the text on one line without characters that start Markdown or HTML."""
    return re.sub(r"([\\|<>\[\]*_`])", r"\\\1", " ".join(text.split()))


def render_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of cells that are Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, ["---"] * len(headings), *rows))


def escaped_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of cells that are arbitrary text."""
    return render_table(headings, ([escape(cell) for cell in row] for row in rows))
