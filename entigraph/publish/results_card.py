"""The README.md of a study's results on the Hub."""

from collections.abc import Mapping
from typing import Any

from entigraph.analysis.scaling.study_tables import render_results
from entigraph.text.markdown import escape

FRONT_MATTER = "---\ntags:\n- synthetic continued pretraining\n- entigraph\n---"
FIGURE = "![accuracy against synthetic tokens](curve.png)"


def render_results_card(name: str, curve: Mapping[str, Any]) -> str:
    """Returns the study's summary, figure, table and notes as Markdown."""
    parts = (FRONT_MATTER, f"# {escape(name)}", render_results(curve, FIGURE))
    return "\n\n".join(parts) + "\n\n`curve.json` contains all numbers, fits and settings.\n"
