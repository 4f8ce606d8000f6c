"""Executes the steps of a run in order and registers what is finished in its study."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from entigraph.config.schema import Stage
from entigraph.config.validation import collect_problems, raise_if_problems
from entigraph.errors import ArtifactError, ConfigError
from entigraph.evaluation.models_under_test import PretrainedBaseline
from entigraph.huggingface.gguf_files import is_gguf
from entigraph.huggingface.models import check_hub_model, check_weights
from entigraph.pipeline.dependencies import all_steps, missing_inputs, needed_steps
from entigraph.pipeline.run import Run
from entigraph.pipeline.run_tracking import lazy_tracker
from entigraph.pipeline.steps import Step, check_tasks, run_steps
from entigraph.pipeline.study import reference_entry, study_folder, study_member, study_settings
from entigraph.pipeline.text_checks import find_quoted_questions
from entigraph.pipeline.trained_texts import select_documents
from entigraph.pipeline.training_estimate import model_shape
from entigraph.runtime.processes import process_group
from entigraph.runtime.progress import Progress, SilentProgress
from entigraph.storage import artifact, cleanup, locks
from entigraph.storage.artifact import Artifact, enclosing_artifact
from entigraph.storage.private_marks import mark_private
from entigraph.synthesis.augmenters.active_reading import ReadingVariant
from entigraph.tracking.base import Tracker
from entigraph.training.adapters import adapter_of, check_adapter
from entigraph.training.component_nodes import check_external_nodes, has_external_nodes, resolved_nodes
from entigraph.training.stage import choose_for_this_machine, find_machine_problems
from entigraph.training.starting_models import difference_of

POLL_S, RANK_0_TIMEOUT_S = 0.2, 600.0
HINTS = {
    Stage.retrieval: "select a task that retrieves, for example evaluation=[closed_book,open_book]",
    Stage.questions: "select questions=generated or questions=file",
    Stage.baselines: "select an evaluation and baselines, for example baselines=[pretrained]",
    Stage.evaluation: "select an evaluation, for example evaluation=[closed_book]",
}


def is_complete(run: Run) -> bool:
    """Returns whether every artifact of the run is finished."""
    return all(step.artifact.complete for step in run_steps(run))


def run_pipeline(run: Run, progress: Progress) -> None:
    """Executes the steps that the run needs of other experiments, then its own. Skips finished artifacts.

    Raises ConfigError before the first step if a later one cannot run.
    """
    if not getattr(run.analysis, "needs_runs", True):
        raise ConfigError(f"analysis={run.analysis.name}: it reads no runs; use `entigraph analyze` instead of `run`")
    raise_if_problems(find_problems(run))
    check_single_process(None)
    for note in run.notes:
        progress.notify(f"note: {note}")
    protect_private_study(run)
    with locks.running_command(run.root), keep_artifacts(run):
        for other, steps in needed_steps(run):
            execute_steps(other, steps, progress)
        sources = [step for step in run_steps(run) if step.stage in (Stage.corpus, Stage.questions)]
        execute_steps(run, sources, progress)
        # These need the documents and questions, and precede everything expensive.
        raise_if_problems([*check_tasks(run), *collect_problems(select_documents, run)])
        execute_steps(run, list(run_steps(run)), progress)
        register_run(run)
        register_baselines(run)


def run_stage(run: Run, stage: Stage, progress: Progress) -> None:
    """Executes one stage on the finished artifacts of earlier stages. Raises ArtifactError if one is unfinished."""
    check_single_process(stage)
    steps = [step for step in run_steps(run) if step.stage is stage and not step.shared]
    if not steps:
        hint = f"; {HINTS[stage]}" if stage in HINTS else ""
        raise ConfigError(f"stage={stage}: this configuration has no such stage{hint}")
    check_inputs(run, stage)
    inputs = {folder for step in steps for folder in step.artifact.inputs.values()}
    shared = [step for step in run_steps(run) if step.shared and step.artifact.folder in inputs]
    raise_if_problems(find_baseline_problems(run) if stage is Stage.baselines else [])
    for note in run.skipped_task_notes if stage in (Stage.evaluation, Stage.baselines) else ():
        progress.notify(f"note: {note}")
    if process_group().rank == 0:
        for step in steps:
            if step.artifact.complete:
                progress.notify(f"already complete: {step.artifact.folder}")
    protect_private_study(run)
    with locks.running_command(run.root), keep_artifacts(run):
        execute_steps(run, [*shared, *steps], progress)
        register_run(run)
        register_baselines(run)


def protect_private_study(run: Run) -> None:
    """Makes `entigraph publish` refuse all artifacts of a private study, before the first of them is built."""
    if run.config.study.private:
        folders = [study_folder(run), *(step.artifact.folder for step in all_steps(run))]
        mark_private(folders, run.root, run.config.study.name)


def keep_artifacts(run: Run) -> AbstractContextManager[None]:
    """Keeps what the run continues from after an interruption from `entigraph clean`."""
    if process_group().rank > 0:
        return nullcontext()
    return cleanup.keep_until_finished(run.root, run.readable_name, [step.artifact for step in all_steps(run)])


def check_inputs(run: Run, stage: Stage) -> None:
    """Raises ArtifactError if an input of the stage, other than those it makes itself, is unfinished."""
    steps = list(run_steps(run))
    inputs = {folder for step in steps if step.stage is stage for folder in step.artifact.inputs.values()}
    for folder in sorted(inputs - {step.artifact.folder for step in steps if step.shared}):
        artifact.read_manifest(folder)


def find_problems(run: Run) -> list[str]:
    """Returns what would stop the pipeline midway, such as a missing API key or GPU.

    Checks only what unfinished artifacts need.
    """
    artifacts = run.artifacts
    retrieves = any(not ranking.complete for ranking in artifacts.rankings.values())
    evaluates = bool(run.tasks) and not artifacts.evaluation.complete

    problems = missing_inputs(run)
    if run.writes_texts or run.writes_questions or run.judges_texts:
        problems += collect_problems(run.llm.check)
    if run.writes_texts:
        problems += [*find_quoted_questions(run), *find_writer_problems(run)]
    if retrieves:
        problems += collect_problems(run.retriever.check)
    if evaluates:
        problems += collect_problems(run.engine.check)
    if not artifacts.training.complete:
        problems += find_training_problems(run)
    if evaluates:
        problems += [problem for task in run.tasks.values() for problem in collect_problems(task.check)]
    return problems + find_baseline_problems(run)


def find_writer_problems(run: Run) -> list[str]:
    """Returns a task of the augmenter that only a language model can do, if the offline writer would get it."""
    if run.llm.name != "offline" or getattr(run.augmenter, "variant", None) != ReadingVariant.task:
        return []
    return [
        "augmenter.variant=task: the offline writer cannot relate a document to a purpose; choose another writer "
        "(llm=openai, llm=vllm)"
    ]


def find_training_problems(run: Run) -> list[str]:
    """Returns what would stop training: a missing or small GPU, incomplete weights, callbacks that cannot be built."""
    adapter = adapter_of(run.model)
    problems = find_machine_problems(run.trainer, run.optim, adapter)
    if run.trainer.automatic and not problems:
        shape = model_shape(run)
        problems = collect_problems(choose_for_this_machine, run.trainer, run.data, shape, adapter, run.optim)
    nodes = resolved_nodes(run.config)
    problems += collect_problems(check_external_nodes, nodes) if has_external_nodes(nodes) else []
    problems += find_model_problems(run, run.model.path)
    if not problems and adapter:
        problems = collect_problems(check_adapter, adapter, run.model.path)
    return problems or find_difference_problems(run)


def find_difference_problems(run: Run) -> list[str]:
    """Returns why the difference of another model cannot be added; for models trained here, training checks it."""
    difference = difference_of(run.model)
    if difference is None or enclosing_artifact(run.model.path, run.root) or enclosing_artifact(difference, run.root):
        return []
    from entigraph.training.weight_difference import check_difference

    return collect_problems(check_difference, run.model.path, difference)


def find_model_problems(run: Run, path: str) -> list[str]:
    """Returns what would stop loading a model that was not trained under `paths.root`."""
    if not path or enclosing_artifact(path, run.root) or is_gguf(path):  # whose header the plan has checked
        return []
    if not Path(path).expanduser().exists():
        return collect_problems(check_hub_model, path)
    return collect_problems(check_weights, path)


def find_baseline_problems(run: Run) -> list[str]:
    """Returns what would stop the unfinished evaluations of baselines, such as a missing API key or weights."""
    unfinished = [name for name, evaluation in run.artifacts.reference_evaluations.items() if not evaluation.complete]
    problems = []
    for name in unfinished:
        baseline = run.baselines[name]
        if isinstance(baseline, PretrainedBaseline):
            texts = find_model_problems(run, baseline.path)
            problems += [text.replace("model.path", f"baselines.{name}.path", 1) for text in texts]
        else:
            problems += [text.replace("llm.", f"baselines.{name}.", 1) for text in collect_problems(baseline.check)]
    return problems


def check_single_process(stage: Stage | None) -> None:
    """Raises ConfigError if torchrun or srun started several processes for anything other than training."""
    group = process_group()
    if group.ranks > 1 and stage is not Stage.training:
        command = f"stage={stage}" if stage else "run"
        raise ConfigError(
            f"{command}: {group.launcher} started {group.ranks} processes, but only stage=training supports several; "
            "run the earlier stages in one process (on a single node, entigraph run starts the training processes)"
        )


def execute_steps(run: Run, steps: Sequence[Step], progress: Progress) -> None:
    """Executes steps in order. Their tracked runs start when a step first logs a value."""
    with lazy_tracker(run) as job_tracker:
        for step in steps:
            with nullcontext(job_tracker) if step.tracked_in_job else lazy_tracker(run, step.artifact) as tracker:
                execute_step(step, progress, tracker)


def execute_step(step: Step, progress: Progress, tracker: Callable[[], Tracker]) -> None:
    """Builds the artifact of a step unless it is finished. `tracker` starts the tracked run on its first call."""
    folder, group = step.artifact.folder, process_group()
    if group.rank > 0:
        if step.stage is Stage.training and (out := wait_for_build_folder(step.artifact, group.launch)):
            # Rank 0 builds the artifact; the other ranks only take part in the training.
            step.work(out, SilentProgress(), Tracker())
        return
    built: list[Path] = []

    def work(out: Path) -> Mapping[str, Any]:
        progress.notify(f"{step.artifact.stage:10} {folder}")
        built.append(folder)
        return step.work(out, progress, tracker() if step.logs else Tracker())

    def waiting() -> None:
        progress.notify(f"waiting for another process to finish {folder}")

    artifact.build_artifact(
        step.artifact, work, resumable=step.resumable, waiting=waiting, builder=group.launch if group.ranks > 1 else ""
    )
    for finished in built:
        tracker().log_lineage(finished, step.artifact.inputs.values())


def wait_for_build_folder(built: Artifact, launch: str) -> Path | None:
    """Returns the folder that rank 0 of the same launch has created; None if the artifact is complete.

    Raises ArtifactError if rank 0 has probably failed.
    """
    folder, waited_s = artifact.build_folder(built.folder, launch), 0.0
    while not built.complete:
        if folder in artifact.build_folders(built.folder):
            return folder
        time.sleep(POLL_S)
        # Rank 0 may wait for a long time for another command that holds the lease.
        waited_s = 0.0 if locks.is_held(locks.lease_folder(built.folder, built.root)) else waited_s + POLL_S
        if waited_s > RANK_0_TIMEOUT_S:
            raise ArtifactError(
                f"{built.folder}: rank 0 did not start to build it within {RANK_0_TIMEOUT_S:.0f} s; see its output"
            )
    return None


def register_run(run: Run) -> None:
    """Writes the entry of an evaluated run into its study, where the analysis reads it."""
    if not run.asks_questions or not run.artifacts.evaluation.complete:
        return  # a run without an accuracy has no point on the curve
    file = study_folder(run) / "runs" / f"{run.artifacts.evaluation.folder.name}.json"
    with artifact.translate_disk_errors(run.root):
        file.parent.mkdir(parents=True, exist_ok=True)
        artifact.write_json(study_folder(run) / "settings.json", study_settings(run))
        artifact.write_json(file, study_member(run))


def register_baselines(run: Run) -> None:
    """Writes the entries of evaluated baselines into the study, whose figure shows each as a line."""
    folder = study_folder(run) / "baselines"
    for name, evaluation in run.artifacts.reference_evaluations.items():
        if evaluation.complete:
            with artifact.translate_disk_errors(run.root):
                folder.mkdir(parents=True, exist_ok=True)
                artifact.write_json(folder / f"{evaluation.folder.name}.json", reference_entry(run, name))


def print_baselines(run: Run) -> None:
    """Prints the scores of every baseline."""
    for name, evaluation in run.artifacts.reference_evaluations.items():
        for task, score in artifact.read_json(evaluation.folder / "scores.json").items():
            print(f"{reference_entry(run, name)['name']}, {task}: {run.tasks[task].summary_line(score)}")
        print(f"scores and answers: {evaluation.folder}")


def print_result(run: Run, was_complete: bool) -> None:
    """Prints the scores of a finished run and the folders of its model and answers."""
    if was_complete:
        print("nothing to do: every stage is complete")
    scores = artifact.read_json(run.artifacts.evaluation.folder / "scores.json") if run.tasks else {}
    for name, score in scores.items():
        print(f"{name}: {run.tasks[name].summary_line(score)}")
    if run.disclaimer:
        print(f"note: {run.disclaimer}")
    print(f"model: {run.artifacts.training.folder / 'model'}")
    if run.tasks:
        print(f"scores and answers: {run.artifacts.evaluation.folder}")
    print_baselines(run)
