"""The protocol of analyses: each runs once, in a folder that depends on its options and inputs."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from entigraph.analysis.base import Analysis, AnalysisContext, analysis_output, run_analysis
from entigraph.analysis.paper.mixture_fit import MixtureFit
from entigraph.analysis.paper.paper_curve import PaperCurve
from entigraph.analysis.paper.published import CURVES
from entigraph.analysis.paper.rag_table import RagTable
from entigraph.analysis.paper.survey import Survey
from entigraph.analysis.study_runs import run_folders
from entigraph.analysis.theory.graph_families import GraphFamilies
from entigraph.analysis.theory.toy_model import ToyModel
from entigraph.config.fields import content_fields
from entigraph.errors import ConfigError, DataError
from entigraph.storage.artifact import Artifact, write_json
from tests.analysis.studies import make_context, make_run, run_scaling_curve, study_folder
from tests.conftest import study_of

WITHOUT_STUDY = [
    ToyModel(graphs=2, simulations=4),
    GraphFamilies(vertices=60, graphs=1),
    MixtureFit(),
    Survey(),
    RagTable(),
    *(PaperCurve(name=name) for name in CURVES),
]


@dataclass(frozen=True)
class TokensPerRun:
    """An analysis as a user writes it."""

    name: ClassVar[str] = "tokens_per_run"
    unit: int = 1

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return run_folders(context.runs, "tokens")

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        counts = {run.name: run.synthetic_tokens // self.unit for run in context.runs}
        write_json(out / "tokens_per_run.json", counts)
        return [f"{name}: {tokens:,}" for name, tokens in counts.items()]


def analyze(analysis: Analysis, context: AnalysisContext) -> tuple[Path, list[str]]:
    output = analysis_output(analysis, context, content_fields(analysis))
    return output.folder, run_analysis(analysis, output, context)


@pytest.mark.parametrize("analysis", WITHOUT_STUDY, ids=lambda analysis: analysis.name)
def test_analysis_without_a_study_runs_once(
    analysis: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entigraph.analysis.paper.mixture_fit.NOISY_FITS", 5)
    context = make_context(tmp_path)
    folder, lines = analyze(analysis, context)
    for suffix in ("png", "svg", "json"):
        file = folder / f"{analysis.name}.{suffix}"
        assert file.stat().st_size > 400 and str(file) in lines
    json.loads((folder / f"{analysis.name}.json").read_text())
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert analyze(analysis, context) == (folder, lines)
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_other_options_have_another_folder(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    first, second = (
        analysis_output(analysis, context, content_fields(analysis)).folder
        for analysis in (ToyModel(seed=0), ToyModel(seed=1))
    )
    assert first != second
    for invalid in ({"mean_degree": 1.0}, {"vertices": 5}, {"graphs": 0}, {"simulations": 1}):
        with pytest.raises(ConfigError):
            ToyModel(**invalid)  # type: ignore[arg-type]


def test_user_analysis_runs_again_when_the_study_has_another_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    make_run(tmp_path, "raw", 1000, 0, 0.5, rng)
    complete_manifests(tmp_path)
    folder, lines = analyze(TokensPerRun(), make_context(tmp_path, study_folder(tmp_path)))
    assert lines == ["raw-1000-0: 1,000", "", str(folder / "tokens_per_run.json")]
    make_run(tmp_path, "raw", 2000, 0, 0.5, rng)
    complete_manifests(tmp_path)
    other, lines = analyze(TokensPerRun(), make_context(tmp_path, study_folder(tmp_path)))
    assert other != folder and len(lines) == 4


def complete_manifests(root: Path) -> None:
    """Gives the manifests of `make_run` every field of a finished artifact."""
    for file in root.glob("*/*/manifest.json"):
        stage, counts = file.parents[1].name, json.loads(file.read_text())["counts"]
        key = Artifact(root, stage, "", {}, {}).key
        fields = {"stage": stage, "key": key, "cache_key": {}, "inputs": {}, "files": {}, "versions": {}}
        write_json(file, {**fields, "counts": counts})


def test_check_runs_before_the_folder_is_created(tmp_path: Path) -> None:
    class Failing(TokensPerRun):
        def check(self) -> None:
            raise DataError("not available")

    with pytest.raises(DataError, match="not available"):
        analyze(Failing(), make_context(tmp_path))
    assert not (tmp_path / "analysis").exists()


def test_study_output_is_refreshed_only_if_something_changed(smoke: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(smoke, root)
    study = study_of(root)
    run_scaling_curve(make_context(root, study))
    before = (study / "curve.json").stat().st_mtime_ns
    run_scaling_curve(make_context(root, study))
    assert (study / "curve.json").stat().st_mtime_ns == before
    (study / "report.html").unlink()
    run_scaling_curve(make_context(root, study))
    assert (study / "curve.json").stat().st_mtime_ns > before and (study / "report.html").exists()
    (run,) = (root / "training").glob("fictional-raw-8000-seed0-*")
    (run / "manifest.json").unlink()
    lines = run_scaling_curve(make_context(root, study))
    assert any(line.startswith("note: excluded: fictional-raw-8000-seed0-") for line in lines)
    assert len(json.loads((study / "curve.json").read_text())["runs"]) == 5


def test_context_without_a_study_has_no_runs(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    assert context.runs == [] and replace(context, study=tmp_path / "other-1").study_name == "other"
