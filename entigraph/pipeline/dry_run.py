"""Renders what a run or a sweep would do and cost. Changes nothing."""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from entigraph.config.schema import Stage
from entigraph.llm.vllm.engine_config import VLLMEngineConfig
from entigraph.pipeline import dependencies, execution
from entigraph.pipeline.cost_estimate import (
    answer_judge_lines,
    baseline_cost_lines,
    judging_cost_lines,
    missing_key_lines,
    quality_gate_lines,
    question_cost_lines,
    retrieval_cost_lines,
    synthesis_cost_lines,
)
from entigraph.pipeline.differences import explain_difference
from entigraph.pipeline.evaluation_estimate import evaluation_lines
from entigraph.pipeline.run import Run
from entigraph.pipeline.steps import Step, run_steps, synthesis_data_losses
from entigraph.pipeline.training_estimate import sweep_training_lines, training_lines
from entigraph.storage.artifact import Artifact
from entigraph.storage.data_losses import collect_data_losses, render_data_losses


def render_plan(run: Run, arguments: Sequence[str] = ()) -> Iterator[str]:
    """Yields the state of every artifact, then the estimated costs and memory.

    With `why` (entigraph plan --why), each unfinished artifact is compared with the nearest finished one. `arguments`
    are the command-line arguments.
    """
    for step in dependencies.all_steps(run):
        yield from render_artifact(step.artifact, explain=run.config.why)
    yield from synthesis_cost_lines(run)
    yield from question_cost_lines(run)
    yield from quality_gate_lines(run)
    yield from retrieval_cost_lines(run)
    yield from baseline_cost_lines(run)
    yield from answer_judge_lines([run])
    yield from judging_cost_lines(run)
    yield from training_lines(run)
    yield from evaluation_lines(pending_evaluations([(run, list(run_steps(run)))]))
    yield from engine_lines(run)
    yield from missing_key_lines([run])
    yield from (f"note: {note}" for note in run.notes)
    yield from synthesis_data_loss_lines([run])
    if not execution.is_complete(run):
        yield f"to run the remaining stages: {shlex.join(['entigraph', 'run', *arguments])}"


def render_sweep(study: str, root: str, runs: Sequence[Run], half_width: float | None) -> Iterator[str]:
    """Yields the state of every artifact of a sweep once, with the number of jobs that share it, then the total cost.

    `half_width` is the target of early stopping, if the sweep has one.
    """
    artifacts: dict[Path, Artifact] = {}
    job_counts: Counter[Path] = Counter()
    training_runs: dict[Path, Run] = {}
    evaluations: dict[Path, Run] = {}
    for run in runs:
        job_artifacts: dict[Path, Artifact] = {}
        all_steps = [*dependencies.needed_steps(run), (run, list(run_steps(run)))]
        evaluations |= pending_evaluations(all_steps)
        for owner, steps in all_steps:
            job_artifacts |= {step.artifact.folder: step.artifact for step in steps}
            training_runs |= {step.artifact.folder: owner for step in steps if step.stage is Stage.training}
        artifacts |= job_artifacts
        job_counts.update(job_artifacts.keys())
    seeds = len({run.seed for run in runs})
    limit = "" if half_width is None else f"up to {seeds} seeds, until ±{half_width:g}: up to "
    yield f"{study}: {limit}{len(runs)} jobs"
    for folder, artifact in artifacts.items():
        shared = f"  shared by {job_counts[folder]} jobs" if job_counts[folder] > 1 else ""
        yield from render_artifact(artifact, explain=runs[0].config.why, suffix=shared)
    yield from sweep_cost_lines(runs) or ["cost: none, no paid model is used"]
    yield from sweep_training_lines(list(training_runs.values()))
    yield from evaluation_lines(evaluations)
    yield from missing_key_lines(runs)
    yield from (f"note: {note}" for note in dict.fromkeys(note for run in runs for note in run.notes))
    yield from synthesis_data_loss_lines(runs)
    states = Counter(artifact_state(artifact) for artifact in artifacts.values())
    yield f"{len(artifacts)} folders under {root}: " + ", ".join(f"{count} {name}" for name, count in states.items())


def pending_evaluations(steps: Sequence[tuple[Run, Sequence[Step]]]) -> dict[Path, Run]:
    """Returns the folders of unfinished evaluations, each with the run that it belongs to."""
    return {
        step.artifact.folder: run
        for run, run_steps in steps
        for step in run_steps
        if step.stage is Stage.evaluation and not step.artifact.complete
    }


def synthesis_data_loss_lines(runs: Sequence[Run]) -> Iterator[str]:
    """Yields what finished synthesis runs lack, such as documents without a text."""
    for folder, run in {run.artifacts.synthesis.folder: run for run in runs}.items():
        if losses := render_data_losses(collect_data_losses(synthesis_data_losses(run))):
            yield f"data losses of {folder.name}: {losses}"


def render_artifact(artifact: Artifact, *, explain: bool, suffix: str = "") -> Iterator[str]:
    """Yields the line of one artifact and, if `explain`, its differences from the nearest finished one."""
    yield f"  {artifact_state(artifact):10} {artifact.stage:10} {artifact.folder}{suffix}"
    if explain:
        yield from (f"      {line}" for line in explain_difference(artifact))


def artifact_state(artifact: Artifact) -> str:
    if artifact.complete:
        return "done"
    return "unfinished" if artifact.unfinished else "to do"


def sweep_cost_lines(runs: Sequence[Run]) -> list[str]:
    """Returns the costs of a sweep, counting each artifact that several runs share once."""
    synthesis_runs = {run.artifacts.synthesis.folder: run for run in runs}
    questions = {run.artifacts.questions.folder: run for run in runs if run.artifacts.questions}
    rankings = {ranking.folder: run for run in runs for ranking in run.artifacts.rankings.values()}
    baselines = {part.folder: run for run in runs for part in run.artifacts.reference_evaluations.values()}
    lines = [line for run in synthesis_runs.values() for line in synthesis_cost_lines(run, max_documents=0)]
    lines += [line for run in synthesis_runs.values() for line in quality_gate_lines(run)]
    lines += [line for run in questions.values() for line in question_cost_lines(run)]
    lines += [line for run in dict.fromkeys(rankings.values()) for line in retrieval_cost_lines(run)]
    lines += [line for run in dict.fromkeys(baselines.values()) for line in baseline_cost_lines(run)]
    return [*lines, *answer_judge_lines(runs), *judging_cost_lines(runs[0])]


def engine_lines(run: Run) -> Iterator[str]:
    """Yields the GPU layout of vLLM, if it runs more than one engine."""
    for key, component in (("llm", run.llm), ("engine", run.engine)):
        if isinstance(component, VLLMEngineConfig) and (engines := len(component.gpu_groups())) > 1:
            yield (
                f"{key}: {engines} vLLM engines with {component.tensor_parallel_size} GPUs each "
                f"({key}.data_parallel_size, {key}.tensor_parallel_size)"
            )
