import csv
from pathlib import Path

from entigraph.reporting.tables import write_table


def test_table_as_text_csv_and_markdown(tmp_path: Path) -> None:
    lines = write_table(
        tmp_path, "t", {"name": "", "share": ".1%", "count": ","}, [("a, b", 0.12345, 1000), ("c", None, 2)]
    )
    assert lines == ["name  share  count", "a, b  12.3%  1,000", "c                2"]
    assert (tmp_path / "t.md").read_text().splitlines()[1:3] == ["| --- | ---: | ---: |", "| a, b | 12.3% | 1,000 |"]
    assert next(csv.DictReader((tmp_path / "t.csv").open(newline=""))) == {
        "name": "a, b",
        "share": "0.12345",
        "count": "1000",
    }, "not rounded"
