"""Tests of the scaling curve's figures: what the panels draw."""

import pytest

from entigraph.analysis.scaling.curve_figure import draw_reference_lines
from entigraph.reporting.figures import abbreviate, load_pyplot


@pytest.mark.parametrize(("panel", "chance"), [(None, 0.3), ("pairs", 0.5), ("background", 0.3)])
def test_each_panel_draws_the_chance_level_of_its_questions(panel: str | None, chance: float) -> None:
    curve = {"chance": 0.3, "chance_by_group": {"pairs": 0.5, "facts": 0.25}, "base": None}
    axes = load_pyplot().figure().add_subplot()
    draw_reference_lines(axes, curve, panel)
    (line,) = axes.lines
    assert list(line.get_ydata()) == [chance, chance]


@pytest.mark.parametrize(("count", "text"), [(12_500, "12.5k"), (20_139, "20.14k"), (1_250_000, "1.25M"), (800, "800")])
def test_counts_are_abbreviated(count: int, text: str) -> None:
    assert abbreviate(count) == text
