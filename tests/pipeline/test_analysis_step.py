"""The analysis of a configuration: it runs once, is tracked once, and its curve is published every time."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest

from entigraph.analysis.base import AnalysisContext
from entigraph.errors import EntigraphError
from entigraph.pipeline.analysis_step import analyze
from entigraph.pipeline.run import Run
from entigraph.pipeline.study import study_folder
from entigraph.storage.artifact import write_json
from entigraph.tracking.base import RunInfo, Tracker
from tests.conftest import TINY, study_of

Configured = Callable[..., Run]


@dataclass
class RecordingLogger:
    """An experiment tracker that keeps what it receives."""

    begun: list[RunInfo] = field(default_factory=list)
    published: list[tuple[str, str]] = field(default_factory=list)

    @contextmanager
    def run(self, info: RunInfo, root: Path) -> Iterator[Tracker]:
        self.begun.append(info)
        yield Tracker()

    def publish(self, study: str, results: str) -> str | None:
        self.published.append((study, results))
        return f"published {study}"


@dataclass(frozen=True)
class CountRuns:
    """An analysis as a user writes it."""

    name: ClassVar[str] = "count_runs"

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return {}

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        write_json(out / "count_runs.json", len(context.runs))
        return [f"{len(context.runs)} runs of {context.study_name}"]


@pytest.fixture
def run(configured: Configured, smoke: Path, tmp_path: Path) -> Run:
    """A configuration of a finished study, with a logger that records."""
    root = shutil.copytree(smoke, tmp_path / "copy", symlinks=True)
    (study_of(root) / "manifest.json").unlink()
    return replace(configured("experiments=smoke", f"paths.root={root}", "logger=none"), logger=RecordingLogger())


def test_analysis_is_tracked_once_and_published_every_time(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    analyze(run)
    first = capsys.readouterr().out
    study = study_folder(run)
    assert len(json.loads((study / "curve.json").read_text())["runs"]) == 6
    assert str(study / "curve.png") in first and first.endswith(f"published {study.name}\n")
    before = {file: file.stat().st_mtime_ns for file in study.iterdir()}
    analyze(run)
    assert capsys.readouterr().out == first and {file: file.stat().st_mtime_ns for file in study.iterdir()} == before
    (info,) = run.logger.begun  # type: ignore[attr-defined]
    assert (info.group, info.job_type) == (study.name, "analysis")
    (published, again) = run.logger.published  # type: ignore[attr-defined]
    assert published == again and published[0] == study.name and "entigraph" in published[1]


def test_analysis_outside_the_study_publishes_no_curve(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    analyze(replace(run, analysis=CountRuns(), keys={**run.keys, "analysis": {"name": "count_runs"}}))
    (folder,) = (run.root / "analysis").iterdir()
    assert capsys.readouterr().out == f"6 runs of smoke\n\n{folder / 'count_runs.json'}\n"
    assert not run.logger.published and len(run.logger.begun) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("analysis", ["scaling_curve", "grid"])
def test_study_without_runs_raises_one_error(analysis: str, configured: Configured) -> None:
    run = replace(configured(*TINY, "study.name=empty", f"analysis={analysis}"), logger=RecordingLogger())
    with pytest.raises(EntigraphError, match="no finished run"):
        analyze(run)
    assert not list(run.root.rglob("curve.*"))
