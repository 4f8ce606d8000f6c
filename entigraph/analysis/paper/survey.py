"""The paper's Table 1."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.paper import published
from entigraph.reporting import figures
from entigraph.reporting.figures import BLUE, GRAY
from entigraph.reporting.tables import write_table
from entigraph.storage.artifact import write_json

COLUMNS = {"study": "", "parameters": "", "tokens from": ",.0f", "tokens to": ",.0f"}


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Continued-pretraining tokens of other studies, next to the paper's small corpus (paper Table 1)."""

    name: ClassVar[str] = "survey"

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return {}

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes survey.json, .csv, .md, .png and .svg."""
        rows = sorted(published.SURVEY, key=lambda row: -row.tokens[1])
        draw_survey(rows, out)
        write_json(out / "survey.json", {"section": published.SURVEY_SECTION, "rows": [asdict(row) for row in rows]})
        table = write_table(out, "survey", COLUMNS, [(row.study, row.models, *row.tokens) for row in rows])
        *others, paper = rows  # the paper uses the fewest tokens
        factor = min(row.tokens[0] for row in others) / paper.tokens[1]
        source = f"{published.PAPER}, {published.SURVEY_SECTION}"
        return [*table, f"{source}: the smallest other study trains on {factor:,.0f}x as many tokens as the paper"]


def draw_survey(rows: Sequence[published.SurveyRow], out: Path) -> None:
    figure, ((axes,),) = figures.create_figure(figsize=(6.4, 3.4))
    for y, row in enumerate(rows):
        color = BLUE if row is rows[-1] else GRAY
        axes.plot(row.tokens, [y, y], color=color, marker="o", linewidth=2)
        axes.annotate(row.models, (row.tokens[1], y), (8, -3), textcoords="offset points", fontsize=7.5, color=GRAY)
    axes.set_yticks(range(len(rows)), [row.study for row in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(5e5, 1e13)
    figures.format_count_axis(axes)
    figures.add_grid(axes, "x")
    axes.set_xlabel("unique continued-pretraining tokens")
    axes.set_title(f"Parameters and tokens ({published.PAPER}, {published.SURVEY_SECTION})", fontsize=9)
    figures.save_figure(figure, out, "survey")
