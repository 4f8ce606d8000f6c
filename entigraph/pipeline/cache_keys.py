"""The artifacts of a run, each with the cache key that determines its content, in the order of the data.

Where an artifact lies follows from the configuration alone, before anything has run. So the plan, the run and other
configurations that need an artifact agree on its folder.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entigraph.config.fields import content_fields
from entigraph.corpus import cleaning
from entigraph.evaluation.models_under_test import PretrainedBaseline
from entigraph.evaluation.tasks.base import EvaluationTask
from entigraph.pipeline.components import Components
from entigraph.questions.drafting import prompt as question_prompt
from entigraph.storage.artifact import Artifact, enclosing_artifact, identify_path
from entigraph.storage.fingerprints import digest
from entigraph.training.component_nodes import content_nodes
from entigraph.training.starting_models import compared_model, difference_of

Key = dict[str, Any]
MEASURING = ("val_check_interval", "limit_val_batches", "log_every_n_steps")  # trainer arguments


@dataclass(frozen=True, kw_only=True)
class Artifacts:
    """`questions` is None where the corpus has its own. `rankings`, the passages ranked for a task's questions, are the
    same for every k, order and temperature. `base_model_evaluation` is None where training starts from random weights.
    """

    corpus: Artifact
    tokenizer: Artifact
    questions: Artifact | None
    rankings: Mapping[str, Artifact]
    synthesis: Artifact
    tokens: Artifact
    training: Artifact
    evaluation: Artifact
    base_model_evaluation: Artifact | None
    reference_evaluations: Mapping[str, Artifact]

    def question_folder(self, task: EvaluationTask) -> Path:
        return question_folder(task, self.corpus, self.questions)

    def document_folder(self, task: EvaluationTask) -> Path:
        return corpus_folder(task) or self.corpus.folder


def compute_artifacts(run: Components) -> Artifacts:
    corpus, tokenizer = corpus_artifact(run), tokenizer_artifact(run)
    questions = questions_artifact(run, corpus)
    rankings = {
        name: rankings_artifact(run, task, corpus, questions)
        for name, task in run.tasks.items()
        if task.needs_retrieval
    }
    synthesis = synthesis_artifact(run, corpus, tokenizer)
    tokens = tokens_artifact(run, synthesis, tokenizer)
    training = training_artifact(run, tokens, tokenizer)
    sources = question_sources(run, corpus, questions, rankings)
    return Artifacts(
        corpus=corpus,
        tokenizer=tokenizer,
        questions=questions,
        rankings=rankings,
        synthesis=synthesis,
        tokens=tokens,
        training=training,
        evaluation=evaluation_artifact(run, training, sources),
        base_model_evaluation=base_model_artifact(run, tokenizer, sources),
        reference_evaluations={name: reference_artifact(run, name, sources) for name in run.baselines if run.tasks},
    )


def corpus_artifact(run: Components) -> Artifact:
    key = {**run.keys["corpus"], "sources": identify_sources(run)}
    if converters := getattr(run.corpus, "converters", None):
        key["converters"] = converters
    if not run.corpus.fictional:
        key["cleaning"] = cleaning.VERSION
    return Artifact(run.root, "corpus", run.corpus.name, key, {})


def tokenizer_artifact(run: Components) -> Artifact:
    """A Hub ID stands for itself; a tokenizer trained under `paths.root` for the artifact that it lies in."""
    path = getattr(run.tokenizer, "path", "")
    if enclosing_artifact(path, run.root):
        sources = [identify_path(path, run.root)]
    else:
        sources = [identify_path(source, run.root) for source in run.tokenizer.sources()] or [path]
    return Artifact(run.root, "tokenizer", run.tokenizer.name, {**run.keys["tokenizer"], "sources": sources}, {})


def questions_artifact(run: Components, corpus: Artifact) -> Artifact | None:
    """Returns None where the corpus has its own questions. No stage that writes texts reads this artifact."""
    if run.questions.name == "from_corpus":
        return None
    key = {
        **run.keys["questions"],
        "prompts": {name: digest(question_prompt(name)) for name in run.questions.prompts},
        "sources": [identify_path(path, run.root) for path in run.questions.sources()],
    }
    if run.questions.needs_writer:
        key["llm"] = run.keys["llm"]
    name = f"{run.corpus.name}-{run.questions.name}"
    return Artifact(run.root, "questions", name, key, {"corpus": corpus.folder})


def rankings_artifact(run: Components, task: Any, corpus: Artifact, questions: Artifact | None) -> Artifact:
    documents = Path(task.corpus) if task.corpus else corpus.folder
    inputs = {"corpus": documents}
    if questions and not task.corpus:
        inputs["questions"] = questions.folder
    name = f"{run.corpus.name}-{run.retriever.name}"
    return Artifact(
        run.root, "retrieval", name, {"retriever": retriever_key(run), "questions": task.question_selection}, inputs
    )


def synthesis_artifact(run: Components, corpus: Artifact, tokenizer: Artifact) -> Artifact:
    key: Key = {"augmenter": run.keys["augmenter"]}
    if sources := run.augmenter.sources():
        key["sources"] = [identify_path(path, run.root) for path in sources]
    if run.augmenter.needs_writer:
        key["llm"] = run.keys["llm"]
        key |= content_fields(run.synthesis)
    inputs = {"corpus": corpus.folder, "tokenizer": tokenizer.folder}
    enclosing = (enclosing_artifact(path, run.root) for path in run.augmenter.sources())
    inputs |= {folder.parent.name: folder for folder in enclosing if folder}
    return Artifact(run.root, "synthesis", f"{run.corpus.name}-{run.augmenter.name}", key, inputs)


def tokens_artifact(run: Components, synthesis: Artifact, tokenizer: Artifact) -> Artifact:
    key: Key = {"budget": run.tokens.budget, "seed": run.seed, "repeat": run.augmenter.repeats}
    if run.tokens.block_length:
        key |= {"block_length": run.tokens.block_length, "too_long": run.tokens.too_long}
    if run.tokens.text_layout != "separate":
        key["text_layout"] = run.tokens.text_layout
    if run.data.validation_fraction:
        key["validation_fraction"] = run.data.validation_fraction
    inputs = {"synthesis": synthesis.folder, "tokenizer": tokenizer.folder}
    if run.tokens.exclude_documents:
        key["exclude_documents"] = sorted(run.tokens.exclude_documents)
    if earlier := run.tokens.changed_since:
        key["changed_since"] = identify_path(earlier, run.root)
        inputs |= {"changed_since": folder} if (folder := enclosing_artifact(earlier, run.root)) else {}
    if not run.corpus.fictional:  # whose texts contain none
        key["special_tokens"] = "as text"
    name = f"{run.corpus.name}-{run.augmenter.name}-{run.tokens.budget or 'all'}"
    return Artifact(run.root, "tokens", name, key, inputs)


def training_artifact(run: Components, tokens: Artifact, tokenizer: Artifact) -> Artifact:
    inputs = {"tokens": tokens.folder, "tokenizer": tokenizer.folder, **model_input(run, run.model.path)}
    if run.replay_folder:
        inputs["replay"] = run.replay_folder
    if difference := difference_of(run.model):
        inputs |= {f"difference_{name}": folder for name, folder in model_input(run, difference).items()}
    key = {**training_keys(run), "seed": run.seed, "model": trained_model_key(run)}
    return Artifact(run.root, "training", run.readable_name, key, inputs)


def training_keys(run: Components) -> dict[str, Key]:
    """Returns the keys of the training's components: ours, and callbacks and a module of other packages."""
    nodes = content_nodes(run.config)
    keys = {name: key for name, key in run.keys.items() if name in {"data", "optim", "scheduler", "trainer", *nodes}}
    if any(name.startswith("callbacks.") for name in nodes):  # which may act on what is measured
        keys["trainer"] = {**keys["trainer"], **{name: getattr(run.trainer, name) for name in MEASURING}}
    return keys


def evaluation_artifact(run: Components, training: Artifact, sources: Mapping[str, Path]) -> Artifact:
    key = {"tasks": task_keys(run), "engine": run.keys["engine"]}
    return Artifact(run.root, "evaluation", run.readable_name, key, {"training": training.folder, **sources})


def base_model_artifact(run: Components, tokenizer: Artifact, sources: Mapping[str, Path]) -> Artifact | None:
    """Returns the evaluation of the model that training is compared with; None where it starts from random weights."""
    path = compared_model(run.model)
    if not path or not run.tasks:
        return None
    model = {**model_key(run), "start": identify_path(path, run.root)}
    key = {"tasks": task_keys(run), "engine": run.keys["engine"], "model": model}
    inputs = {"tokenizer": tokenizer.folder, **sources, **model_input(run, path)}
    return Artifact(run.root, "evaluation", f"{run.corpus.name}-base", key, inputs)


def reference_artifact(run: Components, name: str, sources: Mapping[str, Path]) -> Artifact:
    """Returns the evaluation of another model on the run's questions."""
    subject, inputs = run.baselines[name], dict(sources)
    key: Key = {"tasks": task_keys(run), "subject": run.keys[f"baselines.{name}"]}
    if isinstance(subject, PretrainedBaseline):
        key |= {"engine": run.keys["engine"], "start": identify_path(subject.path, run.root)}
        inputs |= model_input(run, subject.path)
    return Artifact(run.root, "evaluation", f"{run.corpus.name}-{name}", key, inputs)


def retriever_key(run: Components) -> Key:
    models = [identify_path(model, run.root) for model in run.retriever.models]
    return {**run.keys["retriever"], "models": models}


def task_keys(run: Components) -> dict[str, Key]:
    return {name: run.keys[f"evaluation.{name}"] for name in run.tasks}


def model_key(run: Components) -> Key:
    start = identify_path(run.model.path, run.root) if run.model.path else "random"
    key = {name: value for name, value in run.keys["model"].items() if name != "adapter" or value}
    return {**key, "start": start}


def trained_model_key(run: Components) -> Key:
    """Returns the key of the model with what is added to its weights after training."""
    difference = difference_of(run.model)
    return {**model_key(run), **({"add_difference": identify_path(difference, run.root)} if difference else {})}


def model_input(run: Components, path: str) -> dict[str, Path]:
    """Returns the artifact that a model lies in, where it was trained under `paths.root`."""
    folder = enclosing_artifact(path, run.root)
    return {"model": folder} if folder else {}


def question_sources(
    run: Components, corpus: Artifact, questions: Artifact | None, rankings: Mapping[str, Artifact]
) -> dict[str, Path]:
    sources = {f"questions_{name}": question_folder(task, corpus, questions) for name, task in run.tasks.items()}
    return sources | {f"passages_{name}": ranking.folder for name, ranking in rankings.items()}


def question_folder(task: EvaluationTask, corpus: Artifact, questions: Artifact | None) -> Path:
    return corpus_folder(task) or (questions.folder if questions and task.uses_questions else corpus.folder)


def corpus_folder(task: EvaluationTask) -> Path | None:
    """Returns the corpus that the task names, relative to the working directory; None for the run's own corpus."""
    return Path(task.corpus).expanduser().resolve() if task.corpus else None


def identify_sources(run: Components) -> list[list[str]]:
    """Returns the name and the content of each source of the corpus: a renamed document is another one.

    A name is the reader's (`named_sources`), or else the path relative to the common folder.
    """
    paths = run.corpus.sources()
    named: Mapping[str, Path] | None = getattr(run.corpus, "named_sources", None)
    if named is not None:
        return [[name, identify_path(path, run.root)] for name, path in named.items()]
    if not paths:
        return []
    common = os.path.commonpath(paths)
    return [[printable(os.path.relpath(path, common)), identify_path(path, run.root)] for path in paths]


def printable(path: str) -> str:
    """Returns a path with the bytes that are not UTF-8 escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
