"""Runs the analysis that a configuration names, on its study and on its own artifacts."""

from contextlib import nullcontext
from dataclasses import replace

from entigraph.llm.response_cache import response_cache_path
from entigraph.pipeline.run import Run
from entigraph.pipeline.study import Study
from entigraph.runtime.progress import TerminalProgress


def analyze(run: Run) -> None:
    """Runs the analysis unless its output is up to date, and prints its summary."""
    from entigraph.analysis.base import AnalysisContext, analysis_output, run_analysis
    from entigraph.analysis.scaling.scaling_curve import load_curve
    from entigraph.analysis.study_runs import StudyRun

    study = Study(run)
    context = AnalysisContext(
        root=run.root,
        study=study.folder,
        configured_run=StudyRun(run.root, study.member()),
        response_cache=response_cache_path(run.root),
        say=TerminalProgress().say,
    )
    output = analysis_output(run.analysis, context, run.options(run.analysis))
    tracking = nullcontext(context.tracker) if output.complete else run.logger.run(study.analysis_info, run.root)
    with tracking as tracker:
        print("\n".join(run_analysis(run.analysis, output, replace(context, tracker=tracker))))
    if output.folder == study.folder and (line := run.logger.publish(study.folder.name, load_curve(study.folder))):
        print(line)
