"""The tracked runs of a job and of the artifacts that jobs share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from entigraph.pipeline.run import Run
from entigraph.pipeline.run_tracking import analysis_info, artifact_info, job_info, lazy_tracker
from entigraph.pipeline.study import study_folder
from entigraph.tracking.base import NoLogger, RunInfo, Tracker

Configured = Callable[..., Run]


@dataclass(frozen=True)
class RecordingLogger(NoLogger):
    """Records the runs that start and end."""

    events: list[str] = field(default_factory=list)

    @contextmanager
    def run(self, info: RunInfo, root: Path) -> Iterator[Tracker]:
        self.events.append(f"start {info.job_type}")
        yield Tracker()
        self.events.append(f"end {info.job_type}")


def test_tracked_run_starts_with_the_first_use_and_ends_with_the_context(configured: Configured) -> None:
    logger = RecordingLogger()
    run = replace(configured(), logger=logger)
    with lazy_tracker(run):
        pass
    assert logger.events == []
    with lazy_tracker(run, run.artifacts.corpus) as tracker:
        assert tracker() is tracker()
        assert logger.events == ["start corpus"]
    assert logger.events == ["start corpus", "end corpus"]


def test_jobs_of_a_study_share_the_runs_of_common_artifacts(configured: Configured) -> None:
    one, other = configured("seed=0"), configured("seed=1")
    assert job_info(one).id == job_info(configured("seed=0")).id != job_info(other).id
    shared, shared_too = (artifact_info(run, run.artifacts.synthesis) for run in (one, other))
    assert shared.id == shared_too.id == f"synthesis-{one.artifacts.synthesis.folder.name}"
    assert {info(run).group for run in (one, other) for info in (job_info, analysis_info)} == {study_folder(one).name}
    assert job_info(one).config["augmenter"] == "entigraph" and job_info(one).tags[-1] == "entigraph"
