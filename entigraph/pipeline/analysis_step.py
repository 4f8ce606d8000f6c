"""Runs the analysis that a configuration names, on its study or on its own artifacts."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from entigraph.config.fields import runtime_field_names
from entigraph.llm.openai.batch_writer import OpenAIBatchWriter
from entigraph.llm.response_cache import response_cache_path
from entigraph.pipeline.run import Run
from entigraph.pipeline.study import Study
from entigraph.runtime.progress import TerminalProgress
from entigraph.tracking.base import NoTracker, Tracker

if TYPE_CHECKING:
    from entigraph.analysis.settings import Examination


def analyze(run: Run) -> None:
    """Draw the study's curve from its finished runs, unless nothing changed since; or do what `analysis` names."""
    from entigraph.analysis import drawings
    from entigraph.analysis.paired import pairing
    from entigraph.analysis.scaling import stage
    from entigraph.analysis.settings import ScalingCurve

    settings, study = run.analysis, Study(run).folder
    if isinstance(settings, ScalingCurve):
        with tracked(run, stage.is_due(study, run.root, settings)) as tracker:
            stage.run(study, run.root, settings=settings, tracker=tracker)
        print(stage.summary(study))
        if published := run.logger.publish(study.name, stage.curve_of(study)):
            print(published)
    elif isinstance(settings, pairing.Paired):
        own = run.evaluation if run.tasks else None
        pair = pairing.artifact_of(settings, run.root, own, run.baseline)
        with tracked(run, not pair.complete) as tracker:
            print("\n".join(pairing.run(settings, pair, tracker)))
    elif hasattr(settings, "examine"):
        examine(run, settings)
    else:
        drawn = drawings.artifact_of(settings, study, run.root)
        with tracked(run, not drawn.complete) as tracker:
            print("\n".join(drawings.run(settings, drawn, study, tracker)))


def tracked(run: Run, due: bool) -> AbstractContextManager[Tracker]:
    """Only where there is something to do."""
    return run.logger.run(Study(run).analysis_info, run.root) if due else nullcontext(NoTracker())


def examine(run: Run, settings: "Examination") -> None:
    """What an analysis says of the study's synthetic corpora or summaries, and of this configuration's own."""
    from entigraph.analysis import examinations
    from entigraph.analysis.summaries import summarizers
    from entigraph.analysis.summaries.summary_settings import Summaries

    study, own = Study(run).folder, Study(run).member()
    given: Sequence[examinations.Examined] = (
        summarizers.summarizers_of(study, run.root, own)
        if isinstance(settings, Summaries)
        else examinations.corpora_of(study, run.root, run.synthesis.folder)
    )
    found = examinations.artifact_of(settings, given, run.root, runtime_field_names(OpenAIBatchWriter))
    with tracked(run, not found.complete) as tracker:
        response_cache = response_cache_path(run.root)
        print("\n".join(examinations.run(settings, found, given, response_cache, tracker, TerminalProgress().say)))
