"""The steps of a run and of what it needs: in which order, and made by whom."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from entigraph.config.schema import Stage
from entigraph.config.validation import collect_problems, raise_if_problems
from entigraph.errors import ConfigError
from entigraph.pipeline.dependencies import missing_inputs, needed_steps
from entigraph.pipeline.run import Run
from entigraph.pipeline.run_tracking import lazy_tracker
from entigraph.pipeline.steps import Step, check_tasks, run_steps
from entigraph.pipeline.study import reference_entry, study_folder, study_member, study_settings
from entigraph.runtime.devices import check_accelerator
from entigraph.runtime.processes import process_group
from entigraph.runtime.progress import Progress, SilentProgress
from entigraph.storage import artifact
from entigraph.tracking.base import NoTracker, Tracker
from entigraph.training.component_nodes import check_buildable, has_foreign_nodes, resolved_nodes

ABSENT = {
    Stage.retrieval: "evaluation=[closed_book,open_book], for one, makes one",
    Stage.questions: "questions=generated or questions=file makes one",
    Stage.baselines: "baselines=[pretrained], for one, and an evaluation make one",
}


def is_complete(run: Run) -> bool:
    return all(step.artifact.complete for step in run_steps(run))


def pipeline(run: Run, progress: Progress) -> None:
    """All that a run needs, then the run; what is complete is skipped."""
    raise_if_problems(not_ready(run))
    refuse_ranks(None)
    for other, used in needed_steps(run):
        advance(other, used, progress)
    sources = [step for step in run_steps(run) if step.stage in (Stage.corpus, Stage.questions)]
    advance(run, sources, progress)
    raise_if_problems(check_tasks(run))
    advance(run, list(run_steps(run)), progress)
    register_member(run)
    register_baselines(run)


def not_ready(run: Run) -> list[str]:
    """What would stop the pipeline on its way: found before anything is made or paid for."""
    asked = run.artifacts.questions is not None and run.questions.needs_writer and not run.artifacts.questions.complete
    writes = run.augmenter.needs_writer and not run.artifacts.synthesis.complete
    looked_up = any(not rankings.complete for rankings in run.artifacts.rankings.values())
    evaluated = bool(run.tasks) and not run.artifacts.evaluation.complete
    checked = [task for task in run.tasks.values() if evaluated]
    return (
        missing_inputs(run)
        + (collect_problems(run.llm.check) if writes or asked else [])
        + (collect_problems(run.retriever.check) if looked_up else [])
        + (collect_problems(run.engine.check) if evaluated else [])
        + (training_problems(run) if not run.artifacts.training.complete else [])
        + [each for task in checked for each in collect_problems(task.check)]
        + silent_baselines(run)
    )


def training_problems(run: Run) -> list[str]:
    """Returns what would stop the training: a missing GPU, and callbacks or loggers that cannot be built."""
    problems = collect_problems(check_accelerator, run.trainer.accelerator)
    nodes = resolved_nodes(run.config)
    return problems + (collect_problems(check_buildable, nodes) if has_foreign_nodes(nodes) else [])


def silent_baselines(run: Run) -> list[str]:
    """Endpoints that are to be asked and could not answer."""
    todo = [name for name, answers in run.artifacts.reference_evaluations.items() if not answers.complete]
    return [
        problem.replace("llm.", f"baselines.{name}.", 1)
        for name in todo
        if hasattr(run.baselines[name], "check")
        for problem in collect_problems(run.baselines[name].check)
    ]


def one_stage(run: Run, stage: Stage, progress: Progress) -> None:
    """One stage alone, on what earlier stages have sealed. Raises ArtifactError where one of them has not."""
    refuse_ranks(stage)
    own = [step for step in run_steps(run) if step.stage is stage and not step.shared]
    if not own:
        raise ConfigError(
            f"stage={stage}: this configuration has no such stage ({ABSENT.get(stage, 'evaluation=none?')})"
        )
    inputs = {folder for step in own for folder in step.artifact.inputs.values()}
    shared = [step for step in run_steps(run) if step.shared and step.artifact.folder in inputs]
    for folder in sorted(inputs - {step.artifact.folder for step in shared}):
        artifact.read_manifest(folder)
    raise_if_problems(silent_baselines(run) if stage is Stage.baselines else [])
    advance(run, [*shared, *own], progress)
    if stage is Stage.evaluation:
        register_member(run)
    register_baselines(run)


def refuse_ranks(stage: Stage | None) -> None:
    """Only training is done by several processes together."""
    here = process_group()
    if here.ranks > 1 and stage is not Stage.training:
        raise ConfigError(
            f"{f'stage={stage}' if stage else 'run'}: {here.launcher} started {here.ranks} processes of it; only "
            "stage=training is for several. Run the stages before it in one process (on one node, entigraph run "
            "starts its own processes)"
        )


def advance(run: Run, todo: list[Step], progress: Progress) -> None:
    with lazy_tracker(run) as job:
        for step in todo:
            with nullcontext(job) if step.tracked_in_job else lazy_tracker(run, step.artifact) as tracker:
                make(step, progress, tracker)


def make(step: Step, progress: Progress, tracker: Callable[[], Tracker]) -> None:
    if process_group().rank > 0:
        if step.stage is Stage.training and not step.artifact.complete:
            step.work(step.artifact.folder, SilentProgress(), NoTracker())  # rank 0 makes the artifact, the others help
        return
    worked: list[Path] = []

    def work(out: Path) -> Mapping[str, Any]:
        progress.say(f"{step.artifact.stage:10} {out}")
        worked.append(out)
        return step.work(out, progress, tracker() if step.logs else NoTracker())

    def waiting() -> None:
        progress.say(f"waiting for another process to finish {step.artifact.folder}")

    artifact.build_artifact(step.artifact, work, resumable=step.resumable, waiting=waiting)
    for made in worked:
        tracker().lineage(made, step.artifact.inputs.values())


def register_member(run: Run) -> None:
    """Enter a finished run into its study, where the analysis finds it."""
    if not run.asks_questions or not run.artifacts.evaluation.complete:
        return  # without an accuracy there is no point of a curve
    file = study_folder(run) / "runs" / f"{run.artifacts.evaluation.folder.name}.json"
    with artifact.translate_disk_errors(run.root):
        file.parent.mkdir(parents=True, exist_ok=True)
        artifact.write_json(study_folder(run) / "settings.json", study_settings(run))
        artifact.write_json(file, study_member(run))


def register_baselines(run: Run) -> None:
    """Enter what other models answered into the study, whose figure shows it as lines."""
    folder = study_folder(run) / "baselines"
    for name, answers in run.artifacts.reference_evaluations.items():
        if answers.complete:
            with artifact.translate_disk_errors(run.root):
                folder.mkdir(parents=True, exist_ok=True)
                artifact.write_json(folder / f"{answers.folder.name}.json", reference_entry(run, name))


def print_baselines(run: Run) -> None:
    for name, answers in run.artifacts.reference_evaluations.items():
        for task, score in artifact.read_manifest(answers.folder)["counts"].items():
            print(f"{reference_entry(run, name)['name']}, {task}: {run.tasks[task].summary_line(score)}")
        print(f"scores and answers: {answers.folder}")


def print_result(run: Run, was_complete: bool) -> None:
    if was_complete:
        print("nothing to do: every stage is complete")
    for name, score in artifact.read_manifest(run.artifacts.evaluation.folder)["counts"].items() if run.tasks else ():
        print(f"{name}: {run.tasks[name].summary_line(score)}")
    if run.disclaimer:
        print(f"note: {run.disclaimer}")
    print(f"model: {run.artifacts.training.folder / 'model'}")
    if run.tasks:
        print(f"scores and answers: {run.artifacts.evaluation.folder}")
    print_baselines(run)
