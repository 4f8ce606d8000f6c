"""Runs the analysis that a configuration names, on its study and on its own artifacts."""

from contextlib import nullcontext

from entigraph.llm.response_cache import response_cache_path
from entigraph.pipeline.run import Run
from entigraph.pipeline.run_tracking import analysis_info
from entigraph.pipeline.study import study_folder, study_member
from entigraph.reporting.figures import figure_style, style_key
from entigraph.runtime.progress import TerminalProgress


def analyze(run: Run) -> None:
    """Runs the analysis unless its output is up to date, and prints its summary."""
    from entigraph.analysis.base import AnalysisContext, analysis_output, run_analysis
    from entigraph.analysis.scaling.scaling_curve import load_curve
    from entigraph.analysis.scaling.study_tables import render_results
    from entigraph.analysis.study_runs import StudyRun

    study = study_folder(run)
    context = AnalysisContext(
        root=run.root,
        study=study,
        configured_run=StudyRun(run.root, study_member(run)),
        response_cache=response_cache_path(run.root),
        progress=TerminalProgress(),
    )
    style = run.config.style
    output = analysis_output(run.analysis, context, {**run.keys["analysis"], **style_key(style)})
    tracking = nullcontext(context.tracker) if output.complete else run.logger.run(analysis_info(run), run.root)
    with tracking as tracker, figure_style(style):
        context.tracker = tracker  # in the same context, whose runs are those that the output is named after
        print("\n".join(run_analysis(run.analysis, output, context)))
    if output.folder == study and (line := run.logger.publish(study.name, render_results(load_curve(study)))):
        print(line)
