"""The wiring: which parts of a run become which arguments of which stage. Nothing below sees a config."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from entigraph import artefact
from entigraph.artefact import Artefact
from entigraph.config import Stage, build, problem_of, refuse
from entigraph.errors import ConfigError
from entigraph.processes import world
from entigraph.progress import Progress, Silent
from entigraph.run import VOLATILE, Run
from entigraph.tracking import NoTracker, Tracker

TEXTS_LOGGED = 100
JOURNAL = "journal.sqlite"  # below paths.root: every answer ever paid for


@dataclass(frozen=True)
class Step:
    """One artefact of a run and how to make it."""

    stage: Stage
    artefact: Artefact
    work: Callable[[Path, Progress, Tracker], Mapping[str, Any]]
    resumable: bool = False
    tracked: bool = False
    shared: bool = False  # no stage's own: made by whichever needs it first


def steps(run: Run) -> Iterator[Step]:
    """Every artefact of a run, in the order of the data."""
    yield Step(Stage.corpus, run.documents, partial(read_corpus, run))
    yield Step(Stage.tokens, run.tokenizer_files, lambda out, *_: run.tokenizer.make(out), shared=True)
    yield Step(Stage.synthesis, run.synthesis, partial(synthesise, run))
    yield Step(Stage.tokens, run.tokens, partial(tokenise, run))
    if run.baseline and run.tasks:
        yield Step(Stage.evaluation, run.baseline, partial(evaluate_baseline, run))
    yield Step(Stage.training, run.training, partial(train, run), resumable=True, tracked=True)
    if run.tasks:
        yield Step(Stage.evaluation, run.evaluation, partial(evaluate, run), tracked=True)


def read_corpus(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.corpus import stage

    return stage.run(run.corpus, out)


def synthesise(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.synthesis import stage
    from entigraph.tokens.tokenizer import Tokenizer

    budget = run.config.synthesis.token_budget if run.augmenter.needs_writer else None
    with run.llm.connect(run.root / JOURNAL) if run.augmenter.needs_writer else nullcontext() as llm:
        counts = stage.run(
            run.documents.folder,
            out,
            augmenter=run.augmenter,
            llm=llm,
            count_tokens=Tokenizer(run.tokenizer_files.folder).count,
            token_budget=budget,
            seed=run.config.synthesis.seed,
            progress=progress,
        )
    documents = artefact.read(run.documents.folder)["counts"]["documents"]
    for line in stage.summary(counts, documents, budget):
        progress.say(line)
    return counts


def tokenise(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.tokens import stage

    return stage.run(
        run.synthesis.folder,
        run.tokenizer_files.folder,
        out,
        budget=run.config.tokens.budget,
        repeat=not run.augmenter.needs_writer,
        seed=run.seed,
        progress=progress,
    )


def train(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.training import stage

    if tracker.log_texts:
        from entigraph.texts import read_texts

        shown = islice(read_texts(run.synthesis.folder), TEXTS_LOGGED)
        rows = [(text.document_id, text.kind, ", ".join(text.about), text.text) for text in shown]
        tracker.table("texts", ("document", "kind", "about", "text"), rows)
    return stage.run(
        run.tokens.folder,
        run.tokenizer_files.folder,
        run.replay_folder if run.data.replay_rate else None,
        out,
        data=run.data,
        model=run.model,
        optim=run.optim,
        trainer=run.trainer,
        vocabulary=artefact.read(run.tokenizer_files.folder)["counts"]["vocabulary"],
        seed=run.seed,
        progress=progress,
        record=lambda values: tracker.log(values, "training/"),
        origin=origin_of(run),
    )


def origin_of(run: Run) -> dict[str, str]:
    """What the model card says of the tokens."""
    writer = {"writer": run.llm.name} if run.augmenter.needs_writer else {}
    note = {"note": run.label} if run.label else {}
    return {"corpus": run.corpus.name, "augmenter": run.augmenter.name, **writer, **note}


def evaluate(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    counts = ask(run, str(run.training.folder / "model"), out, progress)
    tracker.summarise(run.headline(counts))
    return counts


def evaluate_baseline(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    return ask(run, run.model.path, out, progress)


def ask(run: Run, model: str, out: Path, progress: Progress) -> Mapping[str, Any]:
    from entigraph.evaluation import stage

    return stage.run(
        model,
        run.tokenizer_files.folder,
        out,
        tasks=run.tasks,
        corpora={name: run.questions_of(task) for name, task in run.tasks.items()},
        bos_id=artefact.read(run.tokenizer_files.folder)["counts"]["separators"]["bos_id"],
        accelerator=run.trainer.accelerator,
        threads=run.trainer.threads,
        progress=progress,
    )


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
    for key in VOLATILE["trainer"] & {str(key) for key in parent.trainer}:
        config.trainer[key] = parent.trainer[key]
    if problem_of(lambda: build(config.trainer, "trainer").accumulation(config.data.batch_size)):
        config.trainer.update({key: own[key] for key in ("devices", "nodes", "micro_batch_size")})
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
    found = {"corpus": run.documents, "tokens": run.tokens, "synthesis": run.synthesis, "training": run.training}
    if stage not in found:
        raise ConfigError(f"${{output:{experiment},{stage}}}: {stage!r} found, one of {', '.join(found)} expected")
    return str(found[stage].folder)


NEEDED: dict[tuple[str, str], Run] = {}


def needed(need: str, parent: DictConfig) -> Run:
    if (need, parent.paths.root) not in NEEDED:
        NEEDED[need, parent.paths.root] = Run(composed(need, parent))
    return NEEDED[need, parent.paths.root]


def register() -> None:
    OmegaConf.register_new_resolver("output", output, replace=True)


def needs_of(run: Run) -> list[tuple[Run, list[Step]]]:
    """The steps of other configurations that this one's steps read, directly or not, in the order of building."""
    wanted = {folder for step in steps(run) for folder in step.artefact.inputs.values()}
    found: list[tuple[Run, list[Step]]] = []
    for need in run.config.needs:
        other = needed(need, run.config)
        used: list[Step] = []
        for step in reversed(list(steps(other))):
            if step.artefact.folder in wanted:
                used.insert(0, step)
                wanted |= set(step.artefact.inputs.values())
        found += [*needs_of(other), (other, used)]
    return found


def all_steps(run: Run) -> list[Step]:
    """Those of its needs, then its own."""
    return [step for _, used in needs_of(run) for step in used] + list(steps(run))


def is_complete(run: Run) -> bool:
    return all(step.artefact.complete for step in steps(run))


def pipeline(run: Run, progress: Progress) -> None:
    """All that a run needs, then the run; what is complete is skipped."""
    refuse(not_ready(run))
    refuse_ranks(Stage.pipeline)
    for other, used in needs_of(run):
        advance(other, used, progress)
    advance(run, list(steps(run)), progress)
    register_member(run)


def not_ready(run: Run) -> list[str]:
    """What would stop the pipeline on its way: found before anything is made or paid for."""
    writes = run.augmenter.needs_writer and not run.synthesis.complete
    return missing_inputs(run) + (problem_of(run.llm.check) if writes else [])


def missing_inputs(run: Run) -> list[str]:
    """Inputs of ours that nothing here makes and that are not there: found before anything is paid for."""
    todo = all_steps(run)
    made = {step.artefact.folder for step in todo}
    return [
        f"{step.artefact.stage}: its input {name}, {folder}, does not exist, and no step of this run makes it"
        for step in todo
        for name, folder in step.artefact.inputs.items()
        if folder not in made and not artefact.is_complete(folder)
    ]


def one_stage(run: Run, stage: Stage, progress: Progress) -> None:
    """One stage alone, on what earlier stages have sealed. Raises ArtefactError where one of them has not."""
    refuse_ranks(stage)
    own = [step for step in steps(run) if step.stage is stage and not step.shared]
    if not own:
        raise ConfigError(f"stage={stage}: this configuration has no such stage (evaluation=none?)")
    inputs = {folder for step in own for folder in step.artefact.inputs.values()}
    shared = [step for step in steps(run) if step.shared and step.artefact.folder in inputs]
    for folder in sorted(inputs - {step.artefact.folder for step in shared}):
        artefact.read(folder)
    advance(run, [*shared, *own], progress)
    if stage is Stage.evaluation:
        register_member(run)


def refuse_ranks(stage: Stage) -> None:
    """Only training is done by several processes together."""
    here = world()
    if here.ranks > 1 and stage is not Stage.training:
        raise ConfigError(
            f"stage={stage}: {here.launcher} started {here.ranks} processes of it; only stage=training is for several. "
            "Run the stages before it in one process (on one node stage=pipeline starts its own)"
        )


def advance(run: Run, todo: list[Step], progress: Progress) -> None:
    with tracked(run) as tracker:
        for step in todo:
            make(step, progress, tracker)


def make(step: Step, progress: Progress, tracker: Callable[[], Tracker]) -> None:
    if world().rank > 0:
        if step.stage is Stage.training and not step.artefact.complete:
            step.work(step.artefact.folder, Silent(), NoTracker())  # rank 0 makes the artefact, the others help
        return

    def work(out: Path) -> Mapping[str, Any]:
        progress.say(f"{step.artefact.stage:10} {out}")
        return step.work(out, progress, tracker() if step.tracked else NoTracker())

    def waiting() -> None:
        progress.say(f"waiting for another process to finish {step.artefact.folder}")

    artefact.make(step.artefact, work, resumable=step.resumable, waiting=waiting)


@contextmanager
def tracked(run: Run) -> Iterator[Callable[[], Tracker]]:
    """One tracked run for a job's training and its scores, begun by the first of them that has work to do."""
    with ExitStack() as stack:
        opened: list[Tracker] = []

        def tracker() -> Tracker:
            if not opened:
                opened.append(stack.enter_context(run.logger.run(run.info, run.root)))
            return opened[0]

        yield tracker


def register_member(run: Run) -> None:
    """Enter a finished run into its study, where the analysis finds it."""
    if not run.tasks or not run.evaluation.complete:
        return
    file = run.study_folder / "runs" / f"{run.evaluation.folder.name}.json"
    with artefact.explained(run.root):
        file.parent.mkdir(parents=True, exist_ok=True)
        artefact.write_json(run.study_folder / "settings.json", run.common_settings)
        artefact.write_json(file, run.member())


def print_plan(run: Run) -> None:
    """Where every stage stands, and what a paid synthesis will take; touches nothing."""
    for step in all_steps(run):
        print(f"  {state(step.artefact):9} {step.artefact.stage:10} {step.artefact.folder}")
    for line in (*cost_of_synthesis(run), *need_of_training(run)):
        print(line)
    if not is_complete(run):
        print("stage=pipeline makes what is to do")


def cost_of_synthesis(run: Run) -> list[str]:
    """Empty where the writer costs nothing to speak of, or its texts are there."""
    from entigraph.llm.openai import OpenAICompatible
    from entigraph.synthesis.estimate import FEW_ENTITIES, MANY_ENTITIES, estimate

    if not isinstance(run.llm, OpenAICompatible) or not run.augmenter.needs_writer or run.synthesis.complete:
        return []
    documents = list(run.corpus.read().documents)
    budget, price = run.config.synthesis.token_budget, run.llm.price
    low, high = (
        estimate(run.augmenter, documents, budget, run.llm.expected_tokens, entities)
        for entities in (FEW_ENTITIES, MANY_ENTITIES)
    )
    dollars = [
        price.of(found.prompt_tokens, cached, found.completion_tokens)
        for found, cached in ((low, low.cached_tokens), (high, 0))
    ]
    return [
        f"writer {run.llm.model}: {low.requests:,} to {high.requests:,} requests, "
        f"{low.prompt_tokens:,} to {high.prompt_tokens:,} prompt tokens, "
        f"{low.completion_tokens:,} to {high.completion_tokens:,} written",
        f"  ${dollars[0]:,.2f} (all of a document's prefix cached) to ${dollars[1]:,.2f} (nothing cached), "
        f"at {FEW_ENTITIES} to {MANY_ENTITIES} entities a document and {run.llm.expected_tokens} tokens a text; "
        f"stopped at llm.max_cost_usd = {run.llm.max_cost_usd}; answers in {JOURNAL} are free",
    ]


def need_of_training(run: Run) -> list[str]:
    """Memory and time by arithmetic; empty where the model is trained, or its shape is not known here."""
    from entigraph.training import estimate

    made = run.tokenizer_files.complete
    vocabulary = artefact.read(run.tokenizer_files.folder)["counts"]["vocabulary"] if made else 0
    shape = estimate.shape_of(run.model.config_values(vocabulary or getattr(run.tokenizer, "vocabulary", 0)))
    if shape is None or run.training.complete:
        return []
    tokens = run.config.tokens.budget or run.config.synthesis.token_budget
    if run.tokens.complete:
        tokens = artefact.read(run.tokens.folder)["counts"]["synthetic_tokens"]
    device = estimate.find_device(run.trainer.accelerator)
    setting = estimate.setting_of(run.data, run.trainer, device)
    return estimate.told(shape, setting, estimate.seen_tokens(run.data, run.trainer, tokens), device)


def state(found: Artefact) -> str:
    if found.complete:
        return "done"
    return "begun" if found.folder.exists() else "to do"


def print_result(run: Run, was_complete: bool) -> None:
    if was_complete:
        print("nothing to do: every stage is complete")
    for name, score in artefact.read(run.evaluation.folder)["counts"].items() if run.tasks else ():
        print(f"{name}: accuracy {score['accuracy']:.3f} over {score['questions']:,} questions")
    if run.label:
        print(f"note: {run.label}")
    print(f"model: {run.training.folder / 'model'}")
    if run.tasks:
        print(f"scores and answers: {run.evaluation.folder}")
