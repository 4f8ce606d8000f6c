"""Checks that the components of a run fit each other: what no component can see alone."""

from collections.abc import Callable, Iterator
from pathlib import Path

from entigraph.config.schema import Stage
from entigraph.config.validation import collect_problems
from entigraph.evaluation.models_under_test import PretrainedBaseline
from entigraph.evaluation.tasks.question_task import QuestionTask
from entigraph.huggingface.model_folders import TOKENIZER, check_model_path, max_positions, text_vocabulary
from entigraph.pipeline.cache_keys import Artifacts
from entigraph.pipeline.components import Components
from entigraph.questions.question_sources import GeneratedQuestions, QuestionForm
from entigraph.storage import artifact
from entigraph.storage.artifact import Artifact, enclosing_artifact
from entigraph.storage.document_changes import DOCUMENTS
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import UNGROUPED, Document, Question
from entigraph.training.adapters import adapter_of
from entigraph.training.model_checks import check_context_length, check_same_tokenizer, check_vocabulary


def check_components(run: Components) -> list[str]:
    """Returns the problems that are visible before the artifacts are known."""
    return [
        *source_problems(run),
        *changed_since_problems(run),
        *evaluation_problems(run),
        *question_problems(run),
        *baseline_problems(run),
        *context_problems(run),
        *adapter_problems(run),
        *packing_problems(run),
        *budget_problems(run),
    ]


def check_artifacts(run: Components, artifacts: Artifacts) -> list[str]:
    """Returns the problems of what exists already: a model or replay tokens of another tokenizer, too few texts."""
    return [
        *tokenizer_problems(run, artifacts.tokenizer),
        *replay_problems(run, artifacts),
        *shortage_problems(run, artifacts),
        *exclusion_problems(run, artifacts),
    ]


def source_problems(run: Components) -> Iterator[str]:
    """Yields files and models that do not exist."""
    sources: list[Callable[[], object]] = [run.corpus.sources, run.questions.sources, run.augmenter.sources]
    if not enclosing_artifact(getattr(run.tokenizer, "path", ""), run.root):
        sources.append(run.tokenizer.sources)
    for find_sources in sources:
        yield from collect_problems(find_sources)
    if run.model.path and not enclosing_artifact(run.model.path, run.root):
        yield from collect_problems(check_model_path, run.model.path)


def changed_since_problems(run: Components) -> Iterator[str]:
    earlier = run.tokens.changed_since
    if earlier and not enclosing_artifact(earlier, run.root) and not (Path(earlier).expanduser() / DOCUMENTS).is_file():
        yield (f"tokens.changed_since must be a corpus folder, outputs/corpus/NAME; no {DOCUMENTS} in {earlier}")


def exclusion_problems(run: Components, artifacts: Artifacts) -> Iterator[str]:
    """Yields the excluded documents that a finished corpus does not have."""
    if not run.tokens.exclude_documents or not artifacts.corpus.complete:
        return
    documents = {document.id for document in read_jsonl(artifacts.corpus.folder / DOCUMENTS, Document)}
    if unknown := sorted(set(run.tokens.exclude_documents) - documents):
        yield f"tokens.exclude_documents must be documents of {artifacts.corpus.folder}, got {', '.join(unknown)}"


def evaluation_problems(run: Components) -> Iterator[str]:
    if run.config.stage in (Stage.evaluation, Stage.baselines, Stage.retrieval) and not run.tasks:
        yield from run.skipped_task_notes
    for name, task in run.tasks.items():
        if task.needs_transformers and not run.engine.holds_model:
            yield f"engine: evaluation.{name} uses the Hugging Face model itself; choose engine=transformers for it"


def question_problems(run: Components) -> Iterator[str]:
    """Yields the tasks that cannot ask the questions that will be written."""
    if not isinstance(run.questions, GeneratedQuestions) or run.questions.form != QuestionForm.short_answer:
        return
    if run.config.stage in (Stage.corpus, Stage.questions):  # then no task asks them
        return
    example = Question(id="", document_id="", text="Who?", group=UNGROUPED, accepted=["a name"])
    for name, task in run.tasks.items():
        if isinstance(task, QuestionTask) and task.corpus is None and task.question_problem(example):
            yield (
                f"questions.form=short_answer does not fit evaluation.{name}, which is multiple choice; choose "
                "evaluation=free_form, or questions.form=multiple_choice"
            )


def baseline_problems(run: Components) -> Iterator[str]:
    for name, model in run.baselines.items():
        if isinstance(model, PretrainedBaseline):
            if not enclosing_artifact(model.path, run.root):
                yield from collect_problems(check_model_path, model.path)
            continue
        if not hasattr(model, "body"):
            yield f"baselines.{name}: {type(model).__name__} answers no questions; choose an endpoint"
        for task_name, task in run.tasks.items():
            if task.needs_likelihoods:
                yield (
                    f"baselines.{name}: an endpoint returns no likelihoods, which evaluation.{task_name} needs; "
                    "ask by samples: evaluation=closed_book_cot"
                )


def context_problems(run: Components) -> list[str]:
    values = run.model.config_values(0) or {}
    return collect_problems(check_context_length, run.data.context_length, max_positions(values))


def adapter_problems(run: Components) -> Iterator[str]:
    adapter = adapter_of(run.model)
    if not adapter:
        return
    hidden = (run.model.config_values(0) or {}).get("hidden_size")
    if hidden and adapter.adapter_rank > hidden:
        yield (
            f"model.adapter.rank must be at most {hidden}, the dimensions of the layers of {run.model.path}, "
            f"got {adapter.rank}"
        )
    if adapter.quantized and run.trainer.is_sharded:
        yield (
            "model.adapter: qlora trains on one device, without trainer.cpu_offload; set trainer=gpu, or "
            "model/adapter=lora"
        )


def tokenizer_problems(run: Components, tokenizer: Artifact) -> list[str]:
    """Returns how the tokenizer differs from the model's, as far as their files are on this machine."""
    folder = tokenizer.folder if tokenizer.complete else Path(getattr(run.tokenizer, "path", "")).expanduser()
    if not run.model.path or not (folder / TOKENIZER).is_file():
        return []
    embeddings = (run.model.config_values(0) or {}).get("vocab_size")
    return [
        *collect_problems(check_vocabulary, run.model.path, embeddings, text_vocabulary(folder / TOKENIZER)),
        *collect_problems(check_same_tokenizer, run.model.path, folder),
    ]


def packing_problems(run: Components) -> Iterator[str]:
    if run.tokens.block_length not in (None, run.data.context_length):
        yield (
            f"tokens.block_length must be data.context_length, which is {run.data.context_length}, "
            f"got {run.tokens.block_length}"
        )
    chats = any(getattr(source, "conversations", False) for source in (run.corpus, run.augmenter))
    if chats != getattr(run.tokenizer, "conversations", False):
        yield "corpus, augmenter, tokenizer: conversations and tokenizer=chat go together"


def budget_problems(run: Components) -> Iterator[str]:
    if not run.augmenter.needs_writer:
        return
    budget, available = run.tokens.budget, run.synthesis.token_budget
    if available is None and run.augmenter.endless:
        yield f"synthesis.token_budget: not set; augmenter={run.augmenter.name} ends by a budget only"
    if available is not None and budget is not None and budget > available:
        yield (
            f"tokens.budget must be at most synthesis.token_budget, which is {available:,}, got {budget:,}; "
            "raise that, or lower this"
        )


def replay_problems(run: Components, artifacts: Artifacts) -> list[str]:
    """Replay tokens are token ids: they mean something else in another tokenizer."""
    folder = run.replay_folder
    if folder is None or (enclosing_artifact(run.data.replay or "", run.root) and not artifact.is_complete(folder)):
        return []
    if not folder.exists():
        return [f"data.replay: {folder} does not exist; set it to a tokens folder, outputs/tokens/NAME"]
    if problems := collect_problems(artifact.read_manifest, folder):
        return [f"data.replay: {problem}" for problem in problems]
    manifest = artifact.read_manifest(folder)
    if manifest["stage"] != "tokens":
        return [f"data.replay: {folder} is not a tokens folder"]
    tokenizer = manifest["inputs"].get("tokenizer", {}).get("folder")
    if tokenizer == artifacts.tokenizer.folder.name:
        return []
    return [
        f"data.replay: {folder} was written with the tokenizer {tokenizer}, "
        f"this run uses {artifacts.tokenizer.folder.name}; make the replay tokens with this one"
    ]


def shortage_problems(run: Components, artifacts: Artifacts) -> list[str]:
    """A budget beyond the texts that exist fails before the first stage."""
    budget, folder = run.tokens.budget, artifacts.synthesis.folder
    if budget is None or not run.augmenter.needs_writer or not artifacts.synthesis.complete:
        return []
    tokens = artifact.read_manifest(folder)["counts"]["tokens"]
    if tokens >= budget:
        return []
    return [f"tokens.budget: {budget:,} tokens requested; {folder} has {tokens:,}. Lower tokens.budget"]
