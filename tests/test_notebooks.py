"""Every notebook runs with the outputs of a finished study and is committed without outputs."""

import ast
import shutil
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from entigraph.config.composition import home

NOTEBOOKS = sorted((home() / "notebooks").glob("*.ipynb"))
PRINTED = {
    "00_quick_start": ["nothing to do: all 6 runs are complete", "6 runs", "report.html"],
    "01_a_finished_study": ["6 runs", "(the answer)"],
    "02_entity_graphs": ["2 documents", "20 entities", "covered by texts, 190 in total"],
    "03_synthetic_texts": ["failures: none", "[rephrase, rephrase_easy]", "n=16"],
    "04_scaling_curve": ["6 runs", "parameters need more budgets", "455,000,000 tokens: 0.562"],
    "05_theory": ["9,900 ordered pairs", "chronicle-001"],
}


def test_notebooks_define_no_functions() -> None:
    assert [file.stem for file in NOTEBOOKS] == list(PRINTED)
    for file in NOTEBOOKS:
        code = "\n".join(cell.source for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code")
        node_types = {type(node) for node in ast.walk(ast.parse(TransformerManager().transform_cell(code)))}
        assert not node_types & {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef}, file.stem


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebook_runs_on_finished_study(
    file: Path, smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = file.stem == "00_quick_start"  # it runs the study
    monkeypatch.setenv("ENTIGRAPH_OUTPUTS", str(shutil.copytree(smoke, tmp_path / "outputs") if writes else smoke))
    notebook = nbformat.read(file, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not committed"
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert [phrase for phrase in PRINTED[file.stem] if phrase not in printed] == []


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebook_says_what_a_study_lacks(
    file: Path, smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study whose only augmenter has no entity graphs."""
    root = tmp_path / "outputs"
    shutil.copytree(smoke, root)
    for run in root.glob("studies/*/runs/*-entigraph-*.json"):
        run.unlink()
    monkeypatch.setenv("ENTIGRAPH_OUTPUTS", str(root))
    notebook = nbformat.read(file, as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", allow_errors=True)
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    errors = [output["evalue"] for output in outputs if output["output_type"] == "error"]
    if file.stem in ("02_entity_graphs", "05_theory"):
        assert "no entity graphs; no finished run has augmenter=entigraph" in errors[0]
    else:
        assert not errors
