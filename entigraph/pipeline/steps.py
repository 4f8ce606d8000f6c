"""The steps of a run: how each artifact is made from the components and from other artifacts.

Stages take finished folders and typed settings; none of them sees the config.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

from entigraph.config.schema import GateMode, Stage
from entigraph.config.validation import collect_problems, raise_if_problems
from entigraph.evaluation.base import ModelUnderTest, TaskInputs
from entigraph.evaluation.entity_mentions import TrainingTexts
from entigraph.evaluation.tasks.question_task import QuestionTask
from entigraph.huggingface.downloads import download_model
from entigraph.llm.response_cache import response_cache_path
from entigraph.llm.vllm.vllm_writer import LOG_NAME
from entigraph.pipeline.code_identity import check_code_unchanged
from entigraph.pipeline.evaluation_estimate import record_time
from entigraph.pipeline.run import Run
from entigraph.pipeline.study import headline
from entigraph.pipeline.text_checks import check_texts, find_quoted_questions
from entigraph.pipeline.trained_texts import select_documents, text_selection, trained_documents, training_texts
from entigraph.pipeline.training_rates import record_rate
from entigraph.questions.question_sources import GeneratedQuestions
from entigraph.runtime.processes import process_group
from entigraph.runtime.progress import Progress
from entigraph.storage import artifact
from entigraph.storage.artifact import Artifact, enclosing_artifact, read_json
from entigraph.storage.data_losses import DataLoss, collect_data_losses, count_of
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document
from entigraph.storage.scores import scalar_scores
from entigraph.tracking.base import Tracker
from entigraph.training.starting_models import compared_model

TEXTS_LOGGED = 100
EMBEDDING_CACHE = "vectors.sqlite"


def read_corpus(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.corpus import stage

    with progress.bar("documents"):
        counts = stage.run(run.corpus, out)
    for line in stage.summary_lines(counts):
        progress.notify(line)
    return counts


def make_questions(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.questions import stage

    corpus = run.artifacts.corpus.folder
    if isinstance(run.questions, GeneratedQuestions):
        with run.llm.connect(response_cache_path(run.root), progress.notify) as llm:
            counts = stage.generate(corpus, out, settings=run.questions, llm=llm, progress=progress)
    else:
        counts = stage.copy_questions(corpus, out, *run.questions.sources())
    for line in stage.summary_lines(counts, out):
        progress.notify(line)
    return counts


def retrieve(run: Run, name: str, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.evaluation.stage import validate_task
    from entigraph.retrieval import stage

    task = cast(QuestionTask, run.tasks[name])
    inputs = task_inputs(run, name)
    validate_task(task, name, inputs)
    counts = stage.run(
        inputs.documents,
        task.load_questions(inputs),
        out,
        retriever=run.retriever,
        embedding_cache=run.root / EMBEDDING_CACHE,
        response_cache=response_cache_path(run.root),
        progress=progress,
    )
    for line in stage.summary_lines(counts):
        progress.notify(line)
    return counts


def make_tokenizer(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    return run.tokenizer.build(out)


def synthesize(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.synthesis import dataset_card, generation_stats, stage, synthesis_report
    from entigraph.tokenization.tokenizer import Tokenizer

    raise_if_problems(find_quoted_questions(run))
    corpus, name = run.artifacts.corpus.folder, run.artifacts.synthesis.name
    writes = run.augmenter.needs_writer
    rules = run.synthesis if writes else replace(run.synthesis, token_budget=None)  # then all texts are taken
    with run.llm.connect(response_cache_path(run.root), progress.notify) if writes else nullcontext() as llm:
        counts = stage.run(
            corpus,
            out,
            augmenter=run.augmenter,
            llm=llm,
            count_tokens=Tokenizer(run.artifacts.tokenizer.folder, run.tokens.encoder).count,
            rules=rules,
            progress=progress,
            log=lambda values: tracker.log(values, "synthesis/"),
        )
    tracker.summarize({f"synthesis/{key}": value for key, value in counts.items()})
    card = dataset_card.render_card(
        counts,
        read_jsonl(corpus / "documents.jsonl", Document),
        name=name,
        augmenter=run.augmenter.name,
        options={key: value for key, value in run.keys["augmenter"].items() if key not in ("_target_", "code")},
        writer=getattr(run.llm, "model", run.llm.name) if writes else None,
        rules=rules,
        label=run.disclaimer,
    )
    (out / dataset_card.FILE).write_text(card, encoding="utf-8")
    if writes:
        synthesis_report.write(out, corpus, counts, name=name, rules=rules, label=run.disclaimer)
    documents = artifact.read_manifest(corpus)["counts"]["documents"]
    for line in generation_stats.summary_lines(counts, documents, rules.token_budget):
        progress.notify(line)
    return counts


def tokenize(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.tokenization import stage

    counts = stage.run(
        run.artifacts.synthesis.folder,
        run.artifacts.tokenizer.folder,
        out,
        text_selection(run),
        progress=progress,
        encoder=run.tokens.encoder,
        stitched=run.tokens.text_layout == "stitched",
    )
    if too_long := counts.get("too_long"):
        progress.notify(f"  left out {count_of(too_long, 'text')} longer than tokens.block_length")
    return counts


def train(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.training import stage
    from entigraph.training.component_nodes import resolved_nodes

    if run.quality_gate.mode is not GateMode.off and process_group().rank == 0:
        check_texts(run, out, progress, tracker)
    if tracker.log_texts:
        from entigraph.storage.texts import read_texts

        texts = islice(read_texts(run.artifacts.synthesis.folder), TEXTS_LOGGED)
        rows = [(text.document_id, text.kind, ", ".join(text.about), text.text) for text in texts]
        tracker.log_table("texts", ("document", "kind", "about", "text"), rows)
    download_model(run.model.path, progress)
    if run.trainer.world_size > 1:  # each process loads the code
        check_code_unchanged(run.artifacts.training.cache_key)
    started = time.monotonic()
    counts = stage.run(
        run.artifacts.tokens.folder,
        run.artifacts.tokenizer.folder,
        run.replay_folder,
        out,
        nodes=resolved_nodes(run.config),
        vocabulary=artifact.read_manifest(run.artifacts.tokenizer.folder)["counts"]["vocabulary"],
        seed=run.seed,
        progress=progress,
        record=lambda values: tracker.log(values, "training/"),
        origin=training_origin(run),
    )
    if process_group().rank == 0:
        record_rate(run, counts, time.monotonic() - started)
    return counts


def training_origin(run: Run) -> dict[str, str]:
    """Returns what the model card says about the training texts."""
    writer = {"writer": run.llm.name} if run.augmenter.needs_writer else {}
    note = {"note": run.disclaimer} if run.disclaimer else {}
    return {"corpus": run.corpus.name, "augmenter": run.augmenter.name, **writer, **note}


def evaluate(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    model = model_with_tokenizer(run, str(run.artifacts.training.folder / "model"))
    with record_time(run, out):
        lost = synthesis_data_losses(run, trained=True)
        counts = evaluate_model(run, model, out, progress, training_texts(run), lost)
    scores = read_json(out / "scores.json")
    tracker.summarize({**headline(run, counts), **scalar_scores(scores)})
    return counts


def evaluate_base_model(run: Run, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    path = compared_model(run.model)
    download_model(path, progress)
    with record_time(run, out):
        return evaluate_model(run, model_with_tokenizer(run, path), out, progress)


def evaluate_reference(run: Run, name: str, out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
    from entigraph.evaluation.models_under_test import EndpointModel, PretrainedBaseline

    baseline = run.baselines[name]
    if not isinstance(baseline, PretrainedBaseline):
        return evaluate_model(run, EndpointModel(baseline, response_cache_path(run.root)), out, progress)
    download_model(baseline.path, progress)
    return evaluate_model(run, local_model(run, baseline.path), out, progress)


def model_with_tokenizer(run: Run, model: str, tokenizer: Path | None = None) -> ModelUnderTest:
    """Returns a model that is evaluated with the tokenizer of its training, and its token before each text."""
    from entigraph.evaluation.models_under_test import LocalModel

    tokenizer = tokenizer or run.artifacts.tokenizer.folder
    bos_id = artifact.read_manifest(tokenizer)["counts"]["separators"]["bos_id"]
    return LocalModel(**local_model_options(run, model), tokenizer=tokenizer, bos_id=bos_id)


def local_model_options(run: Run, model: str) -> dict[str, Any]:
    device = {"accelerator": run.trainer.accelerator, "threads": run.trainer.threads}
    return {"path": model, **device, "engine": run.engine, "log": run.root / LOG_NAME}


def local_model(run: Run, model: str) -> ModelUnderTest:
    """Returns any model: one trained under `paths.root` with the tokenizer of its training, another with its own."""
    from entigraph.evaluation.models_under_test import LocalModel

    folder = enclosing_artifact(model, run.root)
    tokenizer = artifact.read_manifest(folder)["inputs"].get("tokenizer") if folder else None
    if tokenizer:
        return model_with_tokenizer(run, model, run.root / "tokenizer" / tokenizer["folder"])
    return LocalModel(**local_model_options(run, model))


def evaluate_model(
    run: Run,
    model: ModelUnderTest,
    out: Path,
    progress: Progress,
    training: TrainingTexts | None = None,
    training_data_losses: Sequence[DataLoss] = (),
) -> Mapping[str, Any]:
    """Evaluates a model. `training` is what it was trained on, and `training_data_losses` what that lacks, if this run
    trained it.
    """
    from entigraph.evaluation import evaluation_report, stage

    inputs = {name: task_inputs(run, name) for name in run.tasks}
    losses = collect_data_losses([*training_data_losses, *source_data_losses(run)])
    counts = stage.run(
        model,
        out,
        tasks=run.tasks,
        inputs=inputs,
        progress=progress,
        data_losses=losses,
        response_cache=response_cache_path(run.root),
    )
    reported = {name: files for name, files in inputs.items() if run.tasks[name].measures_accuracy}
    if reported:
        with progress.bar("report"):
            evaluation_report.write(
                out, reported, name=artifact.artifact_folder(out).name, label=run.disclaimer, training=training
            )
    return counts


def source_data_losses(run: Run) -> list[DataLoss]:
    """Returns the data losses of the run's documents and questions."""
    from entigraph.corpus import stage as corpus_stage
    from entigraph.questions import stage as questions_stage
    from entigraph.storage.question_files import unstated_data_loss

    counts = artifact.read_manifest(run.artifacts.corpus.folder)["counts"]
    losses = corpus_stage.data_losses(counts)
    if run.artifacts.questions:
        questions = artifact.read_manifest(run.artifacts.questions.folder)["counts"]
        return losses + questions_stage.data_losses(questions, counts["documents"])
    without = DataLoss("documents have no question", counts.get("documents_without_questions", 0), counts["documents"])
    return [*losses, without, unstated_data_loss(counts)]


def synthesis_data_losses(run: Run, trained: bool = False) -> list[DataLoss]:
    """Returns the data losses of the run's texts; empty where their artifact or the corpus was removed.

    `trained`: of the texts within the run's token budget, which may leave out whole documents.
    """
    from entigraph.synthesis import generation_stats

    if not (run.artifacts.synthesis.complete and run.artifacts.corpus.complete):
        return []
    documents = artifact.read_manifest(run.artifacts.corpus.folder)["counts"]["documents"]
    counts = artifact.read_manifest(run.artifacts.synthesis.folder)["counts"]
    if trained:
        counts |= {"documents_with_texts": len(trained_documents(run))}
        selection = select_documents(run)
        documents = len(selection.documents) if selection else documents
    losses = generation_stats.data_losses(counts, documents)
    if trained and run.artifacts.tokens.complete:
        tokens = artifact.read_manifest(run.artifacts.tokens.folder)["counts"]
        too_long = tokens.get("too_long", 0)
        losses.append(DataLoss("texts are longer than tokens.block_length", too_long, counts["texts"]))
    return losses


def check_tasks(run: Run) -> list[str]:
    """Returns what an evaluation could not ask about, as soon as questions and documents exist."""
    return [
        f"evaluation.{name}: {problem}"
        for name, task in run.tasks.items()
        for problem in collect_problems(task.validate, task_inputs(run, name))
    ]


def task_inputs(run: Run, name: str) -> TaskInputs:
    """Returns the files that a task's questions, documents and passages come from."""
    task, rankings = run.tasks[name], run.artifacts.rankings.get(name)
    return TaskInputs(
        run.artifacts.question_folder(task) / "questions.jsonl",
        run.artifacts.document_folder(task) / "documents.jsonl",
        rankings.folder if rankings else None,
    )


@dataclass(frozen=True)
class Step:
    """One artifact of a run and how to make it.

    `tracked_in_job`: its values go to the tracked run of the job; otherwise the artifact has a separate tracked run.
    `logs`: it logs values while it runs. `shared`: the first stage that needs the artifact builds it.
    """

    stage: Stage
    artifact: Artifact
    work: Callable[[Path, Progress, Tracker], Mapping[str, Any]]
    resumable: bool = False
    tracked_in_job: bool = False
    logs: bool = False
    shared: bool = False


def run_steps(run: Run) -> Iterator[Step]:
    """Yields a step for every artifact of a run, in the order of the data."""
    artifacts = run.artifacts
    yield Step(Stage.corpus, artifacts.corpus, partial(read_corpus, run))
    if artifacts.questions:
        yield Step(Stage.questions, artifacts.questions, partial(make_questions, run))
    distinct = {ranking.folder: name for name, ranking in artifacts.rankings.items()}
    for name in distinct.values():
        yield Step(Stage.retrieval, artifacts.rankings[name], partial(retrieve, run, name))
    yield Step(Stage.tokens, artifacts.tokenizer, partial(make_tokenizer, run), shared=True)
    yield Step(Stage.synthesis, artifacts.synthesis, partial(synthesize, run), logs=run.writer_is_slow)
    yield Step(Stage.tokens, artifacts.tokens, partial(tokenize, run), resumable=True)
    if artifacts.base_model_evaluation:
        yield Step(Stage.evaluation, artifacts.base_model_evaluation, partial(evaluate_base_model, run), resumable=True)
    job = {"resumable": True, "tracked_in_job": True, "logs": True}
    yield Step(Stage.training, artifacts.training, partial(train, run), **job)
    if run.tasks:
        yield Step(Stage.evaluation, artifacts.evaluation, partial(evaluate, run), **job)
    for name, evaluation in artifacts.reference_evaluations.items():
        yield Step(Stage.baselines, evaluation, partial(evaluate_reference, run, name), resumable=True)
