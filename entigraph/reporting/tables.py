"""Tables as aligned text for the terminal, as CSV with full precision, and as Markdown."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_table(out: Path, name: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Writes NAME.csv and NAME.md and returns the lines to print.

    `columns` maps each heading to the format of its values; "" is left-aligned text.
    """
    with (out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([list(columns), *rows])
    cells = [
        ["" if value is None else format(value, form) for value, form in zip(row, columns.values(), strict=True)]
        for row in rows
    ]
    rules = ["---:" if form else "---" for form in columns.values()]
    lines = ["| " + " | ".join(line) + " |" for line in (list(columns), rules, *cells)]
    (out / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return align_columns([list(columns), *cells], [bool(form) for form in columns.values()])


def align_columns(lines: Sequence[Sequence[str]], is_number: Sequence[bool]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, is_number, strict=True)
        ).rstrip()
        for line in lines
    ]
