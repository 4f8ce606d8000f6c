"""The steps of a run and of what it needs: in which order, and made by whom."""

import shlex
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from entigraph.config.fields import runtime_field_names
from entigraph.config.instantiate import build
from entigraph.config.schema import Stage
from entigraph.config.validation import collect_problems, raise_if_problems
from entigraph.errors import ConfigError
from entigraph.pipeline.loading import load_run
from entigraph.pipeline.run import Run
from entigraph.pipeline.run_tracking import lazy_tracker
from entigraph.pipeline.steps import Step, check_tasks, run_steps
from entigraph.pipeline.study import reference_entry, study_folder, study_member, study_settings
from entigraph.runtime.devices import check_accelerator
from entigraph.runtime.processes import process_group
from entigraph.runtime.progress import Progress, SilentProgress
from entigraph.storage import artifact
from entigraph.tracking.base import NoTracker, Tracker
from entigraph.training.components import check_buildable, has_foreign_nodes, resolved_nodes

ABSENT = {
    Stage.retrieval: "evaluation=[closed_book,open_book], for one, makes one",
    Stage.questions: "questions=generated or questions=file makes one",
    Stage.baselines: "baselines=[pretrained], for one, and an evaluation make one",
}


def composed(need: str, parent: DictConfig) -> DictConfig:
    """Another configuration below the same root: an experiment's name, and overrides after it where there are some.

    What cannot change its content is handed on: where it is tracked, and what it runs on.
    """
    experiment, *overrides = shlex.split(need)
    pairs = [override.partition("=") for override in (*overrides, f"paths.root={parent.paths.root}")]
    config = compose(
        "config", overrides=[f"experiments={experiment}", *(f"{key}={quoted(value)}" for key, _, value in pairs)]
    )
    OmegaConf.set_struct(config, False)
    config.logger = parent.logger
    own = dict(config.trainer)
    for key in runtime_field_names(type(build(config.trainer, "trainer"))) & {str(key) for key in parent.trainer}:
        config.trainer[key] = parent.trainer[key]
    if collect_problems(lambda: build(config.trainer, "trainer").accumulation(config.data.batch_size)):
        config.trainer.update({key: own[key] for key in ("devices", "num_nodes", "micro_batch_size")})
    return config


def quoted(value: str) -> str:
    """As Hydra's grammar takes any text."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def output(experiment: str, stage: str, *, _root_: DictConfig) -> str:
    """${output:base/fictional,training}: the folder that a stage of a needed experiment writes."""
    need = next((need for need in _root_.needs if need.split()[0] == experiment), None)
    if need is None:
        raise ConfigError(f"${{output:{experiment},{stage}}}: list {experiment} under needs")
    run = needed(need, _root_)
    found = {name: getattr(run.artifacts, name) for name in ("corpus", "tokens", "synthesis", "training")}
    if stage not in found:
        raise ConfigError(f"${{output:{experiment},{stage}}}: {stage!r} found, one of {', '.join(found)} expected")
    return str(found[stage].folder)


NEEDED: dict[tuple[str, str], Run] = {}


def needed(need: str, parent: DictConfig) -> Run:
    if (need, parent.paths.root) not in NEEDED:
        NEEDED[need, parent.paths.root] = load_run(composed(need, parent))
    return NEEDED[need, parent.paths.root]


def register() -> None:
    OmegaConf.register_new_resolver("output", output, replace=True)


def needs_of(run: Run) -> list[tuple[Run, list[Step]]]:
    """The steps of other configurations that this one's steps read, directly or not, in the order of building."""
    wanted = {folder for step in run_steps(run) for folder in step.artifact.inputs.values()}
    found: list[tuple[Run, list[Step]]] = []
    for need in run.config.needs:
        other = needed(need, run.config)
        used: list[Step] = []
        for step in reversed(list(run_steps(other))):
            if step.artifact.folder in wanted:
                used.insert(0, step)
                wanted |= set(step.artifact.inputs.values())
        found += [*needs_of(other), (other, used)]
    return found


def all_steps(run: Run) -> list[Step]:
    """Those of its needs, then its own."""
    return [step for _, used in needs_of(run) for step in used] + list(run_steps(run))


def is_complete(run: Run) -> bool:
    return all(step.artifact.complete for step in run_steps(run))


def pipeline(run: Run, progress: Progress) -> None:
    """All that a run needs, then the run; what is complete is skipped."""
    raise_if_problems(not_ready(run))
    refuse_ranks(None)
    for other, used in needs_of(run):
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


def missing_inputs(run: Run) -> list[str]:
    """Inputs of ours that nothing here makes and that are not there: found before anything is paid for."""
    todo = all_steps(run)
    made = {step.artifact.folder for step in todo}
    return [
        f"{step.artifact.stage}: its input {name}, {folder}, does not exist, and no step of this run makes it"
        for step in todo
        for name, folder in step.artifact.inputs.items()
        if folder not in made and not artifact.is_complete(folder)
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
