"""The README.md of a study's results on the Hub."""

from collections.abc import Mapping
from typing import Any

from entigraph.analysis.scaling.study_tables import tabulate_points
from entigraph.text.markdown import escape, escaped_table

FRONT_MATTER = "---\ntags:\n- synthetic continued pretraining\n- entigraph\n---"


def render_results_card(name: str, curve: Mapping[str, Any]) -> str:
    """Returns the study's summary, figure, table and notes as Markdown."""
    table = tabulate_points(curve)
    parts = [
        FRONT_MATTER,
        f"# {escape(name)}",
        "\n".join(f"> {escape(note)}" for note in curve["notes"]),
        "\n".join(f"- **{heading}**: {escape(text)}" for heading, text in curve.get("summary", {}).items()),
        "![accuracy against synthetic tokens](curve.png)",
        escaped_table(table.headings, table.rows),
        "± is one standard error, over seeds where there are two or more, else over documents. `curve.json` has all "
        "numbers, fits and settings.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
