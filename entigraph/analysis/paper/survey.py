"""The paper's Table 1: how much text others continue pretraining on, beside a small corpus."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

from entigraph.analysis.paper import published
from entigraph.analysis.paper.tables import write_table
from entigraph.reporting.figures import BLUE, GRAY, prepare, save, short
from entigraph.storage.artifact import write_json

COLUMNS = {"study": "", "parameters": "", "tokens from": ",.0f", "tokens to": ",.0f"}


def survey(out: Path) -> list[str]:
    """Writes survey.json, .csv, .md, .png and .svg; returns what to tell."""
    rows = sorted(published.SURVEY, key=lambda row: -row.tokens[1])
    draw(rows, out)
    write_json(out / "survey.json", {"section": published.SURVEY_SECTION, "rows": [asdict(row) for row in rows]})
    table = write_table(out, "survey", COLUMNS, [(row.study, row.models, *row.tokens) for row in rows])
    times = min(row.tokens[0] for row in rows[:-1]) / rows[-1].tokens[1]
    source = f"{published.PAPER}, {published.SURVEY_SECTION}"
    return [*table, f"{source}: the smallest of the others is {times:,.0f} times the paper's articles"]


def draw(rows: Sequence[published.Survey], out: Path) -> None:
    prepare()
    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    for place, row in enumerate(rows):
        color = BLUE if row is rows[-1] else GRAY
        axes.plot(row.tokens, [place, place], color=color, marker="o", linewidth=2)
        axes.annotate(row.models, (row.tokens[1], place), (8, -3), textcoords="offset points", fontsize=7.5, color=GRAY)
    axes.set_yticks(range(len(rows)), [row.study for row in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(5e5, 1e13)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("unique tokens of continued pretraining")
    axes.set_title(f"Parameters and tokens ({published.PAPER}, {published.SURVEY_SECTION})", fontsize=9)
    save(figure, out, "survey")
