from entigraph.reporting.figures import series_style


def test_forty_lines_have_different_styles() -> None:
    assert len({series_style(f"entigraph rate={number}", number) for number in range(40)}) == 40
    known = {series_style(name, 0) for name in ("entigraph", "rephrase", "raw")}
    assert not known & {series_style("other", number) for number in range(40)}
