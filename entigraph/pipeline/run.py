"""One configuration, resolved: its components, and the artifacts that they decide, known before anything is built.

Where things are follows from here alone, so the plan, the pipeline and other configurations (`needs`) agree on it.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from entigraph.config.fields import content_fields
from entigraph.config.schema import COMPONENTS, refuse, settle_root, validate
from entigraph.evaluation.models_under_test import PretrainedBaseline
from entigraph.pipeline.compatibility import refuse_contradictions
from entigraph.questions.drafting import prompt as question_prompt
from entigraph.reporting.disclaimers import FICTIONAL, PLUMBING
from entigraph.storage.artifact import Artifact, enclosing_artifact, identify_path
from entigraph.storage.fingerprints import digest, flatten
from entigraph.synthesis.rules import Rules


class Run:
    """Raises ConfigError listing every problem, before anything is built."""

    def __init__(self, config: DictConfig) -> None:
        settle_root(config)
        components = validate(config)
        self.config = config
        self.root = Path(config.paths.root)
        self.seed: int = config.seed
        for key in COMPONENTS:
            setattr(self, key, components[key])
        self.tasks = {str(name): components[f"evaluation.{name}"] for name in config.evaluation}
        self.baselines = {str(name): components[f"baselines.{name}"] for name in config.baselines}
        refuse_contradictions(self)

    corpus: Any
    questions: Any
    augmenter: Any
    llm: Any
    tokenizer: Any
    data: Any
    model: Any
    optim: Any
    trainer: Any
    retriever: Any
    engine: Any
    analysis: Any
    logger: Any

    def ours(self, path: str) -> Path | None:
        return enclosing_artifact(path, self.root)

    def options(self, component: Any) -> dict[str, Any]:
        kept = content_fields(component)
        return {name: value for name, value in asdict(component).items() if name in kept}

    @property
    def writer(self) -> dict[str, Any]:
        """The options of the writer; a model or a template in files of one's own enters by content."""
        return self.options(self.llm) | getattr(self.llm, "cache_key", {})

    def new(self, stage: str, name: str, cache_key: Mapping[str, Any], inputs: Mapping[str, Path]) -> Artifact:
        return Artifact(self.root, stage, name, cache_key, inputs)

    # --- the artifacts, in the order of the data ---

    @cached_property
    def documents(self) -> Artifact:
        sources = named_sources(self.corpus.sources(), self.root)
        cache_key = {**self.options(self.corpus), "sources": sources}
        if converters := getattr(self.corpus, "converters", None):
            cache_key["converters"] = converters
        return self.new("corpus", self.corpus.name, cache_key, {})

    @cached_property
    def tokenizer_files(self) -> Artifact:
        path = getattr(self.tokenizer, "path", "")
        sources = [path]  # a hub name stands for itself, a tokenizer of ours for the artifact that it lies in
        if self.ours(path):
            sources = [identify_path(path, self.root)]
        elif path:
            sources = [identify_path(source, self.root) for source in self.tokenizer.sources()] or [path]
        cache_key = {**self.options(self.tokenizer), "sources": sources}
        return self.new("tokenizer", self.tokenizer.name, cache_key, {})

    @cached_property
    def questions_folder(self) -> Artifact | None:
        """Questions that the corpus does not have; None where it has them. No stage that writes texts reads it."""
        if self.questions.name == "from_corpus":
            return None
        cache_key = {**self.options(self.questions), "prompts": question_prompts(self.questions.prompts)}
        cache_key["sources"] = [identify_path(path, self.root) for path in self.questions.sources()]
        if self.questions.needs_writer:
            cache_key["llm"] = self.writer
        inputs = {"corpus": self.documents.folder}
        return self.new("questions", f"{self.corpus.name}-{self.questions.name}", cache_key, inputs)

    @cached_property
    def retrieval(self) -> dict[str, Artifact]:
        """Passages ranked for a task's questions, by the task's name: the same for every k, order and temperature."""
        return {name: self.rankings_of(task) for name, task in self.tasks.items() if task.needs_retrieval}

    def retrieving(self) -> dict[str, Any]:
        models = [identify_path(model, self.root) for model in self.retriever.models]
        return {"retriever": {**self.options(self.retriever), "models": models}}

    def rankings_of(self, task: Any) -> Artifact:
        cache_key = {
            **self.retrieving(),
            "questions": task.question_selection,
        }
        inputs = {"corpus": self.documents_of(task)}
        if self.questions_of(task) != self.documents_of(task):
            inputs["questions"] = self.questions_of(task)
        return self.new("retrieval", f"{self.corpus.name}-{self.retriever.name}", cache_key, inputs)

    @cached_property
    def synthesis(self) -> Artifact:
        inputs = {"corpus": self.documents.folder, "tokenizer": self.tokenizer_files.folder}
        cache_key: dict[str, Any] = {"augmenter": self.options(self.augmenter)}
        if self.augmenter.sources():
            cache_key["sources"] = [identify_path(path, self.root) for path in self.augmenter.sources()]
        if self.augmenter.needs_writer:
            cache_key |= {
                **self.augmenter.cache_key,
                "llm": self.writer,
                **self.options(self.rules),
            }
        return self.new("synthesis", f"{self.corpus.name}-{self.augmenter.name}", cache_key, inputs)

    @cached_property
    def tokens(self) -> Artifact:
        inputs = {"synthesis": self.synthesis.folder, "tokenizer": self.tokenizer_files.folder}
        budget = self.config.tokens.budget
        cache_key = {"budget": budget, "seed": self.seed, "repeat": self.augmenter.repeats}
        if self.config.tokens.block_length:
            cache_key |= {"block_length": self.config.tokens.block_length, "too_long": self.config.tokens.too_long}
        return self.new("tokens", f"{self.corpus.name}-{self.augmenter.name}-{budget or 'all'}", cache_key, inputs)

    @cached_property
    def training(self) -> Artifact:
        inputs = {"tokens": self.tokens.folder, "tokenizer": self.tokenizer_files.folder}
        if self.data.replay_rate:
            inputs["replay"] = self.replay_folder
        cache_key = {
            "data": self.options(self.data),
            "optim": self.options(self.optim),
            "trainer": self.options(self.trainer),
            "seed": self.seed,
            **self.starting_model(inputs),
        }
        return self.new("training", self.readable_name, cache_key, inputs)

    @cached_property
    def evaluation(self) -> Artifact:
        inputs = {"training": self.training.folder, **self.question_sources()}
        return self.new("evaluation", self.readable_name, self.asking() | self.answering(), inputs)

    @cached_property
    def baseline(self) -> Artifact | None:
        """The starting model asked the same questions; None where it starts from random weights."""
        if not self.model.path or not self.tasks:
            return None
        inputs = {"tokenizer": self.tokenizer_files.folder, **self.question_sources()}
        cache_key = self.asking() | self.answering() | self.starting_model(inputs)
        return self.new("evaluation", f"{self.corpus.name}-base", cache_key, inputs)

    @cached_property
    def baseline_answers(self) -> dict[str, Artifact]:
        """Other models asked the same questions; by name."""
        return {name: self.answers_of(name) for name in self.baselines if self.tasks}

    def baseline_entry(self, name: str) -> dict[str, str]:
        """As its study keeps it. `name` stands in the figure; `subject` tells two models of one name apart."""
        subject, answers = self.baselines[name], self.baseline_answers[name]
        if isinstance(subject, PretrainedBaseline):
            path = Path(subject.path)
            shown = path.parent.name if path.name == "model" else path.name
        else:
            shown = subject.model
        decided = [answers.cache_key["subject"], answers.cache_key.get("start")]
        return {"name": shown, "subject": digest(decided), "evaluation": str(answers.folder.relative_to(self.root))}

    def answers_of(self, name: str) -> Artifact:
        subject, inputs = self.baselines[name], self.question_sources()
        cache_key = {**self.asking(), "subject": self.options(subject) | getattr(subject, "cache_key", {})}
        if isinstance(subject, PretrainedBaseline):
            cache_key |= self.answering()
            cache_key["start"] = identify_path(subject.path, self.root)
            if own := self.ours(subject.path):
                inputs["model"] = own
        return self.new("evaluation", f"{self.corpus.name}-{name}", cache_key, inputs)

    @property
    def rules(self) -> Rules:
        """Where nobody writes, the texts that there are are taken, all of them."""
        return self.stated_rules if self.augmenter.needs_writer else replace(self.stated_rules, token_budget=None)

    @property
    def stated_rules(self) -> Rules:
        given = self.config.synthesis
        return Rules(**{str(name): given[name] for name in given})

    @property
    def pays(self) -> bool:
        """Its texts take a writer some time, or cost something."""
        return bool(self.augmenter.needs_writer and self.llm.name != "offline")

    @property
    def label(self) -> str | None:
        """What a reader must know of its results: that something in it was simulated."""
        if self.corpus.fictional:
            return FICTIONAL
        writes = self.augmenter.needs_writer or self.questions.needs_writer
        return PLUMBING if writes and self.llm.name == "offline" else None

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
        start = identify_path(self.model.path, self.root) if self.model.path else "random"
        return {"model": {**self.options(self.model), "start": start}}

    def question_sources(self) -> dict[str, Path]:
        asked = {f"questions_{name}": self.questions_of(task) for name, task in self.tasks.items()}
        return asked | {f"passages_{name}": rankings.folder for name, rankings in self.retrieval.items()}

    @property
    def asks(self) -> bool:
        """Whether some evaluation asks questions: without an accuracy there is no study's curve."""
        return any(task.uses_questions for task in self.tasks.values())

    def questions_of(self, task: Any) -> Path:
        if task.corpus:
            return Path(task.corpus)
        written = self.questions_folder if task.uses_questions else None
        return written.folder if written else self.documents.folder

    def documents_of(self, task: Any) -> Path:
        return Path(task.corpus) if task.corpus else self.documents.folder

    def asking(self) -> dict[str, Any]:
        return {"tasks": {name: {**self.options(task), **task.cache_key} for name, task in self.tasks.items()}}

    def answering(self) -> dict[str, Any]:
        """The engine of a model on this machine: another one rounds and draws otherwise."""
        options = self.options(self.engine)
        return {"engine": options} if options else {}

    @property
    def readable_name(self) -> str:
        return f"{self.readable}-seed{self.seed}"

    def varied(self) -> dict[str, Any]:
        """This run's values of what `study_varies` names. Raises ConfigError for a name of nothing."""
        settings = self.settings
        known = {**settings, **flatten(settings)}
        unknown = [key for key in self.config.study_varies if key not in known]
        refuse(
            [
                f"study_varies: {key!r} found; one of a study's settings expected: "
                f"{' or '.join(get_close_matches(key, known) or sorted(settings))}"
                for key in unknown
            ]
        )
        return {key: known[key] for key in self.config.study_varies}

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "corpus": {name: value for name, value in self.documents.cache_key.items() if name != "seed"},
            "tokenizer": self.tokenizer_files.folder.name,
            "llm": self.writer,
            "data": self.options(self.data),
            "replay": self.replay_folder.name if self.data.replay_rate else None,
            "optim": self.options(self.optim),
            "trainer": self.options(self.trainer),
            "model": {name: value for name, value in self.starting_model({})["model"].items() if name != "seed"},
            **self.asking(),
            **self.answering(),
            "questions": {name: Path(task.corpus).name for name, task in self.tasks.items() if task.corpus},
            **(self.retrieving() if self.retrieval else {}),
            **({"written_questions": self.questions_folder.cache_key} if self.questions_folder else {}),
            # One pool of texts: a curve's points are its prefixes.
            "synthesis": self.options(replace(self.stated_rules, seed=0)),
        }


def question_prompts(names: Sequence[str]) -> dict[str, str]:
    return {name: digest(question_prompt(name)) for name in names}


def named_sources(paths: Sequence[Path], root: Path) -> list[list[str]]:
    """Each source's name, relative to what all have in common, and its content: a renamed document is another one."""
    if not paths:
        return []
    common = os.path.commonpath(paths)
    return [[os.path.relpath(path, common), identify_path(path, root)] for path in paths]
