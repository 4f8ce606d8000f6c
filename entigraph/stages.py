"""The wiring: which parts of the config become which artefacts and which arguments. Nothing below sees a config.

A Run is one configuration, resolved: its components, and its steps from corpus to evaluation. Every step knows its
folder before anything is built, so the plan, the pipeline and other configurations (`needs`) agree on where things are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from entigraph import artefact
from entigraph.artefact import Artefact, artefact_folder, digest, identify
from entigraph.config import Stage, build, problem_of, refuse, validate
from entigraph.errors import ConfigError
from entigraph.models import check_model_path
from entigraph.progress import Progress
from entigraph.tracking import NoTracker, RunInfo, Tracker

# Settings that cannot change what is written. Everything else counts: a key missing here costs a second folder, which
# is seen; a key missing from a list of what counts would cost stale data, which is not.
VOLATILE: Mapping[str, frozenset[str]] = {
    "corpus": frozenset({"path", "questions"}),  # enter by content
    "tokenizer": frozenset({"path"}),
    "model": frozenset({"path"}),
    "data": frozenset({"replay"}),
    "task": frozenset({"corpus", "batch_tokens"}),
    "trainer": frozenset(
        {"accelerator", "devices", "micro_batch_size", "log_every_steps", "checkpoint_every_steps", "threads"}
    ),
}


@dataclass(frozen=True)
class Step:
    """One artefact of a run and how to make it."""

    stage: Stage
    artefact: Artefact
    work: Callable[[Path, Progress, Tracker], Mapping[str, Any]]
    resumable: bool = False
    tracked: bool = False


class Run:
    """One configuration. Raises ConfigError listing every problem, before anything is built."""

    def __init__(self, config: DictConfig) -> None:
        validate(config)
        self.config = config
        self.root = Path(config.paths.root)
        self.seed: int = config.seed
        for key in ("corpus", "augmenter", "llm", "tokenizer", "data", "model", "optim", "trainer", "logger"):
            setattr(self, key, build(config[key], key))
        self.tasks = {str(name): build(node, f"evaluation.{name}") for name, node in config.evaluation.items()}
        self.check()

    corpus: Any
    augmenter: Any
    llm: Any
    tokenizer: Any
    data: Any
    model: Any
    optim: Any
    trainer: Any
    logger: Any

    def check(self) -> None:
        """What no component can see alone."""
        budget, written = self.config.tokens.budget, self.config.synthesis.token_budget
        problems = problem_of(self.corpus.sources) + problem_of(self.tokenizer.sources)
        problems += problem_of(self.trainer.accumulation, self.data.batch_size)
        if self.model.path and not self.ours(self.model.path):
            problems += problem_of(check_model_path, self.model.path)
        for key, value in (("tokens.budget", budget), ("synthesis.token_budget", written)):
            if value is not None and value < 1:
                problems.append(f"{key}: {value} found, at least 1 token or null expected")
        if self.augmenter.needs_writer:
            if written is None and self.augmenter.endless:
                problems.append("synthesis.token_budget: not set; the chosen augmenter does not end by itself, so a budget must end it")
            if written is not None and budget is not None and budget > written:
                problems.append(f"tokens.budget: {budget:,} found; synthesis.token_budget writes only {written:,}. Raise that, or lower this")
        if not self.corpus.questions_known and any(task.corpus is None for task in self.tasks.values()):
            problems.append("evaluation: the corpus has no questions; give some (corpus.questions=file.jsonl), or choose evaluation=none")
        refuse(problems)
        if budget is not None and self.augmenter.needs_writer:
            problems += self.known_shortage(budget)
        refuse(problems)

    def known_shortage(self, budget: int) -> list[str]:
        folder = self.synthesis.folder
        if not artefact.is_complete(folder):
            return []
        tokens = artefact.read(folder)["counts"]["tokens"]
        return [f"tokens.budget: {budget:,} tokens asked for; {folder} holds {tokens:,}. Lower it, or let the augmenter write more"] * (
            tokens < budget
        )

    def ours(self, path: str) -> Path | None:
        return artefact_folder(path, self.root)

    def options(self, kind: str, component: Any) -> dict[str, Any]:
        return {name: value for name, value in asdict(component).items() if name not in VOLATILE.get(kind, ())}

    def new(self, stage: str, name: str, decides: Mapping[str, Any], inputs: Mapping[str, Path]) -> Artefact:
        return Artefact(self.root, stage, name, decides, inputs)

    # --- the artefacts, in the order of the data ---

    @cached_property
    def documents(self) -> Artefact:
        sources = [identify(path, self.root) for path in self.corpus.sources()]
        return self.new("corpus", self.corpus.name, {**self.options("corpus", self.corpus), "sources": sources}, {})

    @cached_property
    def tokenizer_files(self) -> Artefact:
        sources = [identify(path, self.root) for path in self.tokenizer.sources()] or [getattr(self.tokenizer, "path", "")]
        decides = {**self.options("tokenizer", self.tokenizer), "sources": sources}
        return self.new("tokenizer", self.tokenizer.name, decides, {})

    @cached_property
    def synthesis(self) -> Artefact:
        inputs = {"corpus": self.documents.folder, "tokenizer": self.tokenizer_files.folder}
        decides: dict[str, Any] = {"augmenter": self.options("augmenter", self.augmenter)}
        if self.augmenter.needs_writer:
            decides |= {
                "prompts": prompt_digests(self.augmenter.prompts),
                "llm": self.options("llm", self.llm),
                "token_budget": self.config.synthesis.token_budget,
                "seed": self.config.synthesis.seed,
            }
        return self.new("synthesis", f"{self.corpus.name}-{self.augmenter.name}", decides, inputs)

    @cached_property
    def tokens(self) -> Artefact:
        inputs = {"synthesis": self.synthesis.folder, "tokenizer": self.tokenizer_files.folder}
        budget = self.config.tokens.budget
        decides = {"budget": budget, "seed": self.seed, "repeat": not self.augmenter.needs_writer}
        return self.new("tokens", f"{self.corpus.name}-{self.augmenter.name}-{budget or 'all'}", decides, inputs)

    @cached_property
    def training(self) -> Artefact:
        inputs = {"tokens": self.tokens.folder, "tokenizer": self.tokenizer_files.folder}
        if self.data.replay_rate:
            inputs["replay"] = self.replay_folder
        decides = {
            "data": self.options("data", self.data),
            "optim": self.options("optim", self.optim),
            "trainer": self.options("trainer", self.trainer),
            "seed": self.seed,
            **self.starting_model(inputs),
        }
        return self.new("training", self.readable_name, decides, inputs)

    @cached_property
    def evaluation(self) -> Artefact:
        inputs = {"training": self.training.folder, **self.question_sources()}
        return self.new("evaluation", self.readable_name, self.asking(), inputs)

    @cached_property
    def baseline(self) -> Artefact | None:
        """The starting model asked the same questions; None where it starts from random weights."""
        if not self.model.path or not self.tasks:
            return None
        inputs = {"tokenizer": self.tokenizer_files.folder, **self.question_sources()}
        decides = self.asking() | self.starting_model(inputs)
        return self.new("evaluation", f"{self.corpus.name}-base", decides, inputs)

    @property
    def readable(self) -> str:
        return f"{self.corpus.name}-{self.augmenter.name}-{self.config.tokens.budget or 'all'}"

    @property
    def replay_folder(self) -> Path:
        return Path(self.data.replay).expanduser().resolve()

    def starting_model(self, inputs: dict[str, Path]) -> dict[str, Any]:
        """What decides the first weights; a model of ours is also added to `inputs`."""
        own = self.ours(self.model.path)
        if own:
            inputs["model"] = own
        start = identify(self.model.path, self.root) if self.model.path else "random"
        return {"model": {**self.options("model", self.model), "start": start}}

    def question_sources(self) -> dict[str, Path]:
        return {f"questions_{name}": self.questions_of(task) for name, task in self.tasks.items()}

    def questions_of(self, task: Any) -> Path:
        return Path(task.corpus) if task.corpus else self.documents.folder

    def asking(self) -> dict[str, Any]:
        return {"tasks": {name: self.options("task", task) for name, task in self.tasks.items()}}

    # --- how each is made ---

    @property
    def steps(self) -> Iterator[Step]:
        yield Step(Stage.corpus, self.documents, self.read_corpus)
        yield Step(Stage.tokens, self.tokenizer_files, lambda out, *_: self.tokenizer.make(out))
        yield Step(Stage.synthesis, self.synthesis, self.synthesise)
        yield Step(Stage.tokens, self.tokens, self.tokenise)
        if self.baseline and self.tasks:
            yield Step(Stage.evaluation, self.baseline, self.evaluate_baseline)
        yield Step(Stage.training, self.training, self.train, resumable=True, tracked=True)
        if self.tasks:
            yield Step(Stage.evaluation, self.evaluation, self.evaluate, tracked=True)

    def read_corpus(self, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
        from entigraph.corpus import stage

        return stage.run(self.corpus, out)

    def synthesise(self, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
        from entigraph.synthesis import stage
        from entigraph.tokens.tokenizer import Tokenizer

        return stage.run(
            self.documents.folder,
            out,
            augmenter=self.augmenter,
            llm=self.llm,
            count_tokens=Tokenizer(self.tokenizer_files.folder).count,
            token_budget=self.config.synthesis.token_budget if self.augmenter.needs_writer else None,
            seed=self.config.synthesis.seed,
            progress=progress,
        )

    def tokenise(self, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
        from entigraph.tokens import stage

        return stage.run(
            self.synthesis.folder,
            self.tokenizer_files.folder,
            out,
            budget=self.config.tokens.budget,
            repeat=not self.augmenter.needs_writer,
            seed=self.seed,
            progress=progress,
        )

    def train(self, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
        from entigraph.training import stage

        return stage.run(
            self.tokens.folder,
            self.tokenizer_files.folder,
            self.replay_folder if self.data.replay_rate else None,
            out,
            data=self.data,
            model=self.model,
            optim=self.optim,
            trainer=self.trainer,
            vocabulary=artefact.read(self.tokenizer_files.folder)["counts"]["vocabulary"],
            seed=self.seed,
            progress=progress,
            record=lambda values: tracker.log(values, "training/"),
        )

    def evaluate(self, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
        counts = self.ask(str(self.training.folder / "model"), out, progress)
        tracker.summarise(self.headline(counts))
        return counts

    def evaluate_baseline(self, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
        return self.ask(self.model.path, out, progress)

    def ask(self, model: str, out: Path, progress: Progress) -> Mapping[str, Any]:
        from entigraph.evaluation import stage

        return stage.run(
            model,
            self.tokenizer_files.folder,
            out,
            tasks=self.tasks,
            corpora={name: self.questions_of(task) for name, task in self.tasks.items()},
            bos_id=artefact.read(self.tokenizer_files.folder)["counts"]["separators"]["bos_id"],
            accelerator=self.trainer.accelerator,
            threads=self.trainer.threads,
            progress=progress,
        )

    # --- what others need to know of it ---

    def headline(self, counts: Mapping[str, Any]) -> dict[str, Any]:
        """The keys a scatter of accuracy against synthetic_tokens by augmenter is made of."""
        tokens = artefact.read(self.tokens.folder)["counts"]["synthetic_tokens"]
        first = next(iter(counts.values()), {})
        others = {f"{name}/accuracy": score["accuracy"] for name, score in counts.items()}
        return {
            "augmenter": self.augmenter.name,
            "synthetic_tokens": tokens,
            "seed": self.seed,
            "accuracy": first.get("accuracy"),
            **others,
        }

    @property
    def complete(self) -> bool:
        return all(step.artefact.complete for step in self.steps)

    def result(self) -> dict[str, Any]:
        """The headline of a run whose evaluation is complete; empty otherwise."""
        if not self.tasks or not self.evaluation.complete:
            return {}
        return self.headline(artefact.read(self.evaluation.folder)["counts"])

    @property
    def readable_name(self) -> str:
        return f"{self.readable}-seed{self.seed}"

    @property
    def info(self) -> RunInfo:
        """One tracked run holds a job's training and its scores."""
        own_id = digest([self.training.key, self.evaluation.key if self.tasks else None])
        return self.tracked_as(own_id, self.readable_name, "train", [self.augmenter.name])

    @property
    def analysis_info(self) -> RunInfo:
        return self.tracked_as(f"{self.study_folder.name}-analysis", f"{self.config.study} analysis", "analysis", [])

    def tracked_as(self, own_id: str, name: str, job_type: str, tags: Sequence[str]) -> RunInfo:
        resolved = OmegaConf.to_container(self.config, resolve=True)
        assert isinstance(resolved, dict)
        return RunInfo(
            id=own_id,
            name=name,
            group=self.study_folder.name,
            job_type=job_type,
            tags=[self.corpus.name, self.model.name, *tags],
            config={str(key): value for key, value in resolved.items()},
        )

    @property
    def study_folder(self) -> Path:
        """Where the runs meet that differ in augmenter, budget and seed only."""
        common = {
            "corpus": {name: value for name, value in self.documents.decides.items() if name != "seed"},
            "tokenizer": self.tokenizer_files.folder.name,
            "llm": self.options("llm", self.llm),
            "data": self.options("data", self.data),
            "replay": self.replay_folder.name if self.data.replay_rate else None,
            "optim": self.options("optim", self.optim),
            "trainer": self.options("trainer", self.trainer),
            **self.starting_model({}),
            **self.asking(),
        }
        return self.root / "studies" / f"{self.config.study}-{digest(common)}"

    def member(self) -> dict[str, Any]:
        """This run as its study keeps it: what it is and where its parts are, relative to paths.root."""
        parts = {
            "corpus": self.documents,
            "synthesis": self.synthesis,
            "tokens": self.tokens,
            "training": self.training,
            "evaluation": self.evaluation,
            "baseline": self.baseline,
        }
        return {
            "augmenter": self.augmenter.name,
            "budget": self.config.tokens.budget,
            "seed": self.seed,
            "writer": self.llm.name if self.augmenter.needs_writer else None,
            "offline_writer": self.llm.name == "offline",
            "fictional": self.corpus.fictional,
            "repeats": not self.augmenter.needs_writer,
            **{name: str(part.folder.relative_to(self.root)) for name, part in parts.items() if part},
        }


def prompt_digests(names: Sequence[str]) -> dict[str, str]:
    from entigraph.synthesis.base import prompt

    return {name: digest(prompt(name)) for name in names}


def composed(experiment: str, root: Path | str) -> DictConfig:
    """Another configuration below the same root. Only paths.root is handed on."""
    return compose("config", overrides=[f"experiments={experiment}", f"paths.root={root}"])


def output(experiment: str, stage: str, *, _root_: DictConfig) -> str:
    """${output:base/fictional,training}: the folder that a stage of a needed experiment writes."""
    if experiment not in _root_.needs:
        raise ConfigError(f"${{output:{experiment},{stage}}}: list {experiment} under needs")
    run = needed(experiment, str(Path(_root_.paths.root)))
    found = {"corpus": run.documents, "tokens": run.tokens, "synthesis": run.synthesis, "training": run.training}
    if stage not in found:
        raise ConfigError(f"${{output:{experiment},{stage}}}: {stage!r} found, one of {', '.join(found)} expected")
    return str(found[stage].folder)


NEEDED: dict[tuple[str, str], Run] = {}


def needed(experiment: str, root: str) -> Run:
    if (experiment, root) not in NEEDED:
        NEEDED[experiment, root] = Run(composed(experiment, root))
    return NEEDED[experiment, root]


def register() -> None:
    OmegaConf.register_new_resolver("output", output, replace=True)


def needs_of(run: Run) -> list[Run]:
    """The runs that this one needs, and theirs, those needed first coming first."""
    found: dict[Path, Run] = {}
    for experiment in run.config.needs:
        other = needed(experiment, str(run.root))
        for earlier in [*needs_of(other), other]:
            found[earlier.training.folder] = earlier
    return list(found.values())


def pipeline(run: Run, progress: Progress) -> None:
    """All that a run needs, then the run; what is complete is skipped."""
    for other in needs_of(run):
        advance(other, list(other.steps), progress)
    advance(run, list(run.steps), progress)


def one_stage(run: Run, stage: Stage, progress: Progress) -> None:
    """One stage alone, on what earlier stages have sealed."""
    steps = list(run.steps)
    wanted = [step for step in steps if step.stage is stage]
    if not wanted:
        raise ConfigError(f"stage={stage}: this configuration has no such stage (evaluation=none?)")
    for step in wanted:
        for folder in step.artefact.inputs.values():
            if not artefact.is_complete(folder) and folder not in {other.artefact.folder for other in wanted}:
                artefact.read(folder)
    advance(run, wanted, progress)


def advance(run: Run, steps: list[Step], progress: Progress) -> None:
    with one_tracker(run, [step for step in steps if step.tracked and not step.artefact.complete]) as tracker:
        for step in steps:
            artefact.make(
                step.artefact,
                lambda out, step=step: begun(step, out, progress, tracker),
                resumable=step.resumable,
                waiting=lambda step=step: progress.say(f"waiting for another process to finish {step.artefact.folder}"),
            )


def begun(step: Step, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    progress.say(f"{step.artefact.stage:10} {out}")
    return step.work(out, progress, tracker)


@contextmanager
def one_tracker(run: Run, steps: list[Step]) -> Iterator[Tracker]:
    """One tracked run for a job's training and its scores; none where nothing is left to track."""
    if not steps:
        yield NoTracker()
        return
    run.root.mkdir(parents=True, exist_ok=True)
    with run.logger.run(run.info, run.root) as tracker:
        yield tracker


@contextmanager
def untracked() -> Iterator[Tracker]:
    yield NoTracker()


def register_member(run: Run) -> None:
    """Enter a finished run into its study, where the analysis finds it."""
    if run.tasks:
        folder = run.study_folder / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        artefact.write_json(folder / f"{run.evaluation.folder.name}.json", run.member())


def print_plan(run: Run) -> None:
    """Where every stage stands; touches nothing."""
    for heading, other in [*(("needed", other) for other in needs_of(run)), ("", run)]:
        if heading:
            print(f"{heading}: {other.config.study}")
        for step in other.steps:
            print(f"  {state(step.artefact):9} {step.artefact.stage:10} {step.artefact.folder}")


def state(found: Artefact) -> str:
    if found.complete:
        return "done"
    return "begun" if found.folder.exists() else "to do"


def print_result(run: Run, was_complete: bool) -> None:
    if was_complete:
        print("nothing to do: every stage is complete")
    for name, score in artefact.read(run.evaluation.folder)["counts"].items() if run.tasks else ():
        print(f"{name}: accuracy {score['accuracy']:.3f} over {score['questions']:,} questions")
    print(f"model: {run.training.folder / 'model'}")
    if run.tasks:
        print(f"scores and answers: {run.evaluation.folder}")
