from pathlib import Path

from entigraph.reporting.figures import create_figure, figure_style, save_figure, series_style, style_key
from tests.conftest import Command


def test_forty_lines_have_different_styles() -> None:
    assert len({series_style(f"entigraph rate={number}", number) for number in range(40)}) == 40
    known = {series_style(name, 0) for name in ("entigraph", "rephrase", "raw")}
    assert not known & {series_style("other", number) for number in range(40)}


def test_style_applies_to_the_figures_of_its_body_only(tmp_path: Path) -> None:
    file = tmp_path / "thesis.mplstyle"
    file.write_text("axes.facecolor: 123456\n")

    def draw(name: str) -> str:
        figure, ((axes,),) = create_figure()
        axes.plot([1, 2])
        save_figure(figure, tmp_path, name)
        return (tmp_path / f"{name}.svg").read_text()

    plain = draw("plain")
    with figure_style(str(file)):
        styled = draw("styled")
    assert "#123456" in styled and "#123456" not in plain and draw("plain") == plain


def test_dollar_signs_are_plain_text(tmp_path: Path) -> None:
    figure, ((axes,),) = create_figure()
    axes.set_title("costs ${a$ to $6")
    save_figure(figure, tmp_path, "plain")
    assert "costs ${a$ to $6" in (tmp_path / "plain.svg").read_text()


def test_style_enters_the_key_of_an_analysis_by_content(command: Command, tmp_path: Path) -> None:
    assert style_key(None) == {} and style_key("ggplot") == {"style": "ggplot"}
    file = tmp_path / "thesis.mplstyle"
    keys = []
    for size in (8, 8, 9):
        file.write_text(f"font.size: {size}\n")
        keys.append(style_key(str(file)))
    assert keys[0] == keys[1] != keys[2]
    survey = ["analyze", "analysis=survey", "logger=none"]
    assert command(*survey).returncode == 0 and command(*survey, f"style={file}").returncode == 0
    assert len([*(tmp_path / "outputs" / "analysis").glob("survey-*/survey.pdf")]) == 2
    assert "error: style: 'gplot' is no file; did you mean ggplot?" in command(*survey, "style=gplot").stderr
    file.write_text("no setting\n")
    assert "must contain settings of matplotlib" in command(*survey, f"style={file}").stderr
