"""report.html of a synthesis: what was written about which document, what was lost, what it cost, and texts to read.

One page that loads nothing and opens whatever the size of the corpus: its figures are those of all texts, graphs and
texts are on it up to the limits in findings.py, and it says what is not on it. Without JavaScript it is tables.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entigraph.reporting.html import write_page
from entigraph.synthesis.report_data import DOCUMENTS_SHOWN, Findings, near_duplicates, total
from entigraph.synthesis.rules import Rules

FILE = "report.html"
REASONS_SHOWN = 50


def write(
    folder: Path, corpus: Path, counts: Mapping[str, Any], *, name: str, rules: Rules, label: str | None = None
) -> Path:
    """`counts` are the stage's own, for what the answers cost; all else is read from the files of the two folders.

    `label` is what a reader must know first, where something in the synthesis was simulated.
    """
    found = Findings(folder, corpus)
    rows = list(found.rows.values())
    reasons = sorted(found.lost.items(), key=lambda each: (-each[1].total(), each[0]))
    return write_page(
        folder / FILE,
        "entigraph.synthesis",
        "synthesis_report",
        {"share": share},
        name=name,
        label=label,
        counts=counts,
        rules=rules,
        found=found,
        rows=rows[:DOCUMENTS_SHOWN],
        more=total(rows[DOCUMENTS_SHOWN:]),
        all=total(rows),
        without_text=sum(not row.texts for row in rows),
        reasons=reasons[:REASONS_SHOWN],
        near_duplicates=near_duplicates(folder),
    )


def share(part: float, whole: float) -> str:
    """In percent; 0 and 100 are said only where they are exact."""
    if part in (0, whole):
        return ("100 %" if part else "0 %") if whole else "–"
    return f"{min(99.9, max(0.1, 100 * part / whole)):.1f} %"
