"""What each stage is given: which parts of a run become which arguments. Nothing below sees a config."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from entigraph.config.schema import Stage, problem_of
from entigraph.evaluation.base import ModelUnderTest, TaskInputs
from entigraph.evaluation.entity_mentions import TrainingTexts
from entigraph.evaluation.tasks.base import EvaluationTask
from entigraph.llm.response_cache import response_cache_path
from entigraph.llm.vllm.vllm_writer import LOG_NAME
from entigraph.pipeline.run import Run
from entigraph.pipeline.study import Study
from entigraph.runtime.progress import Progress
from entigraph.storage import artifact
from entigraph.storage.artifact import Artifact
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, EntityGraph
from entigraph.tracking.base import Tracker

TEXTS_LOGGED = 100
VECTORS = "vectors.sqlite"  # every embedding and reranking


def read_corpus(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.corpus import stage

    counts = stage.run(run.corpus, out)
    for line in stage.summary_lines(counts):
        progress.say(line)
    return counts


def question(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.questions import stage

    if run.questions.needs_writer:
        with run.llm.connect(response_cache_path(run.root), progress.say) as llm:
            counts = stage.generate(run.documents.folder, out, settings=run.questions, llm=llm, progress=progress)
    else:
        counts = stage.copy_questions(run.documents.folder, out, *run.questions.sources())
    for line in stage.summary_lines(counts, out):
        progress.say(line)
    return counts


def retrieve(run: Run, name: str, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.evaluation.stage import validate_task
    from entigraph.retrieval import stage

    task = run.tasks[name]
    inputs = task_inputs(run, task)
    validate_task(task, name, inputs)
    counts = stage.run(
        inputs.documents,
        task.load_questions(inputs),
        out,
        retriever=run.retriever,
        embedding_cache=run.root / VECTORS,
        response_cache=response_cache_path(run.root),
        progress=progress,
    )
    for line in stage.summary_lines(counts):
        progress.say(line)
    return counts


def synthesize(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.synthesis import dataset_card, generation_stats, stage, synthesis_report
    from entigraph.tokenization.tokenizer import Tokenizer

    rules, writes = run.rules, run.augmenter.needs_writer
    with run.llm.connect(response_cache_path(run.root), progress.say) if writes else nullcontext() as llm:
        counts = stage.run(
            run.documents.folder,
            out,
            augmenter=run.augmenter,
            llm=llm,
            count_tokens=Tokenizer(run.tokenizer_files.folder, run.config.tokens.encoder).count,
            rules=rules,
            progress=progress,
            log=lambda values: tracker.log(values, "synthesis/"),
        )
    tracker.summarize({f"synthesis/{name}": value for name, value in counts.items()})
    described = dataset_card.card(
        counts,
        read_jsonl(run.documents.folder / "documents.jsonl", Document),
        name=run.synthesis.name,
        augmenter=run.augmenter.name,
        options=run.options(run.augmenter),
        writer=getattr(run.llm, "model", run.llm.name) if writes else None,
        rules=rules,
        label=run.label,
    )
    (out / dataset_card.FILE).write_text(described, encoding="utf-8")
    if writes:
        synthesis_report.write(out, run.documents.folder, counts, name=run.synthesis.name, rules=rules, label=run.label)
    documents = artifact.read_manifest(run.documents.folder)["counts"]["documents"]
    for line in generation_stats.summary_lines(counts, documents, rules.token_budget):
        progress.say(line)
    return counts


def tokenize(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.tokenization import stage

    return stage.run(
        run.synthesis.folder,
        run.tokenizer_files.folder,
        out,
        **drawing(run),
        progress=progress,
        encoder=run.config.tokens.encoder,
    )


def drawing(run: Run) -> dict[str, Any]:
    """What decides which texts stand among a run's tokens."""
    tokens = run.config.tokens
    return {
        "budget": tokens.budget,
        "repeat": run.augmenter.repeats,
        "seed": run.seed,
        "block_length": tokens.block_length,
        "too_long": tokens.too_long,
    }


def train(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.training import stage

    if tracker.log_texts:
        from entigraph.storage.texts import read_texts

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
        vocabulary=artifact.read_manifest(run.tokenizer_files.folder)["counts"]["vocabulary"],
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
    counts = ask(run, trained_here(run, str(run.training.folder / "model")), out, progress, texts_read(run))
    tracker.summarize(Study(run).headline(counts))
    return counts


def evaluate_baseline(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    return ask(run, trained_here(run, run.model.path), out, progress)


def ask_baseline(run: Run, name: str, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.evaluation.models_under_test import EndpointModel, PretrainedBaseline

    found = run.baselines[name]
    if not isinstance(found, PretrainedBaseline):
        return ask(run, EndpointModel(found, response_cache_path(run.root)), out, progress)
    return ask(run, local_model(run, found.path), out, progress)


def trained_here(run: Run, model: str, tokenizer: Path | None = None) -> ModelUnderTest:
    """A model of this run's tokenizer: with what stood before each text in training."""
    from entigraph.evaluation.models_under_test import LocalModel

    tokenizer = tokenizer or run.tokenizer_files.folder
    bos_id = artifact.read_manifest(tokenizer)["counts"]["separators"]["bos_id"]
    return LocalModel(**on_this_machine(run, model), tokenizer=tokenizer, bos_id=bos_id)


def on_this_machine(run: Run, model: str) -> dict[str, Any]:
    trainer = run.trainer
    where = {"accelerator": trainer.accelerator, "threads": trainer.threads}
    return {"path": model, **where, "engine": run.engine, "log": run.root / LOG_NAME}


def local_model(run: Run, model: str) -> ModelUnderTest:
    """Any model: one that was trained below the same root with the tokenizer of its training, another with its own."""
    from entigraph.evaluation.models_under_test import LocalModel

    own = run.ours(model)
    made_with = artifact.read_manifest(own)["inputs"].get("tokenizer") if own else None
    if made_with:
        return trained_here(run, model, run.root / "tokenizer" / made_with["folder"])
    return LocalModel(**on_this_machine(run, model))


def ask(
    run: Run, model: ModelUnderTest, out: Path, progress: Progress, training: TrainingTexts | None = None
) -> Mapping[str, Any]:
    """`training`: what the model was trained on, if this run trained it."""
    from entigraph.evaluation import evaluation_report, stage

    inputs = {name: task_inputs(run, task) for name, task in run.tasks.items()}
    counts = stage.run(model, out, tasks=run.tasks, inputs=inputs, progress=progress)
    reported = {name: each for name, each in inputs.items() if run.tasks[name].uses_questions}
    if reported:
        evaluation_report.write(out, reported, name=out.name, label=run.label, training=training)
    return counts


def texts_read(run: Run) -> TrainingTexts | None:
    """The texts that a run's budget holds, and the entities that they are about; None where they were removed."""
    from entigraph.storage.texts import read_texts
    from entigraph.tokenization.stage import texts_within

    if not run.synthesis.complete:
        return None
    drawn = texts_within(run.synthesis.folder, **drawing(run))
    graphs = run.synthesis.folder / "graphs.jsonl"
    return TrainingTexts(
        lambda: (text for text, read in zip(read_texts(run.synthesis.folder), drawn, strict=True) if read),
        list(read_jsonl(graphs, EntityGraph)) if graphs.exists() else [],
    )


def unaskable(run: Run) -> list[str]:
    """What an evaluation could not ask about: told as soon as questions and documents are there."""
    return [
        f"evaluation.{name}: {problem}"
        for name, task in run.tasks.items()
        for problem in problem_of(task.validate, task_inputs(run, task))
    ]


def task_inputs(run: Run, task: EvaluationTask) -> TaskInputs:
    return TaskInputs(
        run.questions_of(task) / "questions.jsonl",
        run.documents_of(task) / "documents.jsonl",
        run.rankings_of(task).folder if task.needs_retrieval else None,
    )


@dataclass(frozen=True)
class Step:
    """One artifact of a run and how to make it."""

    stage: Stage
    artifact: Artifact
    work: Callable[[Path, Progress, Tracker], Mapping[str, Any]]
    resumable: bool = False
    of_job: bool = False  # tracked in the W&B run of the job, not in one of its own
    logs: bool = False  # as it goes on
    shared: bool = False  # no stage's own: made by whichever needs it first


def steps_of(run: Run) -> Iterator[Step]:
    """Every artifact of a run, in the order of the data."""
    yield Step(Stage.corpus, run.documents, partial(read_corpus, run))
    if run.questions_folder:
        yield Step(Stage.questions, run.questions_folder, partial(question, run))
    for name, rankings in {found.folder: (name, found) for name, found in run.retrieval.items()}.values():
        yield Step(Stage.retrieval, rankings, partial(retrieve, run, name))
    yield Step(Stage.tokens, run.tokenizer_files, lambda out, *_: run.tokenizer.build(out), shared=True)
    yield Step(Stage.synthesis, run.synthesis, partial(synthesize, run), logs=run.pays)
    yield Step(Stage.tokens, run.tokens, partial(tokenize, run), resumable=True)
    if run.baseline and run.tasks:
        yield Step(Stage.evaluation, run.baseline, partial(evaluate_baseline, run), resumable=True)
    yield Step(Stage.training, run.training, partial(train, run), resumable=True, of_job=True, logs=True)
    if run.tasks:
        yield Step(Stage.evaluation, run.evaluation, partial(evaluate, run), resumable=True, of_job=True, logs=True)
    for name, answers in run.baseline_answers.items():
        yield Step(Stage.baselines, answers, partial(ask_baseline, run, name), resumable=True)
