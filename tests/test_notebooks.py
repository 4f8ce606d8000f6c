"""Every notebook runs on a finished study, and is kept without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from entigraph import cli

NOTEBOOKS = sorted((cli.home() / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_it_runs_on_a_finished_study(file: Path, smoke: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTIGRAPH_OUTPUTS", str(smoke))
    notebook = nbformat.read(file, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not committed"
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "6 runs" in printed and "(the answer)" in printed
