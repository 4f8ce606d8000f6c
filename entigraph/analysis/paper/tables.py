"""A table three times: as text to print, as CSV with whole numbers, as Markdown to paste."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Sequence[Any]


def write_table(out: Path, name: str, columns: Mapping[str, str], rows: Sequence[Row]) -> list[str]:
    """Writes name.csv and name.md; returns the lines to print. `columns`: each heading with its format ("": text)."""
    with (out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([list(columns), *rows])
    cells = [[shown(value, form) for value, form in zip(row, columns.values(), strict=True)] for row in rows]
    aligned = ["---:" if form else "---" for form in columns.values()]
    lines = ["| " + " | ".join(line) + " |" for line in (list(columns), aligned, *cells)]
    (out / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return in_columns([list(columns), *cells], [bool(form) for form in columns.values()])


def shown(value: Any, form: str) -> str:
    """What is not known is an empty cell."""
    return "" if value is None else format(value, form)


def in_columns(lines: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]
