"""How runs and their artifacts appear in an experiment tracker.

One tracked run holds the training of a job and its scores. An artifact that several jobs may share has a separate
tracked run with the same id in every job; all of these form one group, which W&B collapses into one row.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from entigraph.config.environment import resolve_except_environment
from entigraph.pipeline.run import Run
from entigraph.pipeline.study import study_folder, study_member
from entigraph.reporting.figures import abbreviate
from entigraph.storage.artifact import Artifact
from entigraph.storage.fingerprints import digest
from entigraph.tracking.base import RunInfo, Tracker

SHARED_ARTIFACTS = "artifacts"  # W&B group of the runs that only record artifacts
MAX_NAME_IN_ID = 100  # characters; W&B allows 128 in an id
UNSAFE_IN_IDS = re.compile(r"[^\w.-]")


@contextmanager
def lazy_tracker(run: Run, artifact: Artifact | None = None) -> Iterator[Callable[[], Tracker]]:
    """Yields a function that returns the tracker of the job, or of an artifact, and starts it on the first call."""
    with ExitStack() as stack:
        started: list[Tracker] = []

        def tracker() -> Tracker:
            if not started:
                info = artifact_info(run, artifact) if artifact else job_info(run)
                started.append(stack.enter_context(run.logger.run(info, run.root)))
            return started[0]

        yield tracker


def job_info(run: Run) -> RunInfo:
    identity = digest([run.artifacts.training.key, run.artifacts.evaluation.key if run.tasks else None])
    varied = [f"{key.rpartition('.')[2]}={value}" for key, value in study_member(run).get("varies", {}).items()]
    budget = abbreviate(run.tokens.budget) if run.tokens.budget else "all"
    name = "-".join([run.augmenter.name, budget, *varied, f"seed{run.seed}"])
    # The digest distinguishes runs of one name, such as runs of other studies in the same W&B project.
    readable = UNSAFE_IN_IDS.sub("_", name)[:MAX_NAME_IN_ID]
    return run_info(run, f"{readable}-{identity}", name, "train", [run.augmenter.name])


def artifact_info(run: Run, artifact: Artifact) -> RunInfo:
    name = artifact.folder.name
    info = run_info(run, f"{artifact.stage}-{name}", name, artifact.stage, [])
    return replace(info, group=SHARED_ARTIFACTS)


def analysis_info(run: Run) -> RunInfo:
    return run_info(run, f"{study_folder(run).name}-analysis", f"{run.config.study.name} analysis", "analysis", [])


def run_info(run: Run, identity: str, name: str, job_type: str, tags: Sequence[str]) -> RunInfo:
    config = resolve_except_environment(run.config)
    del config["logger"]  # which may hold a key of another tracker
    # W&B groups by plain config values only: the augmenter is its name there, followed by its options.
    config |= {"augmenter": run.augmenter.name, "augmenter_options": config["augmenter"]}
    return RunInfo(
        id=identity,
        name=name,
        group=study_folder(run).name,
        job_type=job_type,
        tags=[run.corpus.name, run.model.name, *tags],
        config=config,
    )
