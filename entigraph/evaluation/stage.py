"""The evaluation stage runs tasks on a model: answers-TASK.jsonl (or losses-, summaries-), scores.json."""

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from entigraph.errors import ArtifactError, DataError
from entigraph.evaluation.backends.endpoint_backend import EndpointBackend
from entigraph.evaluation.base import AnswerNotes, Backend, ModelUnderTest, TaskInputs
from entigraph.evaluation.tasks.base import EvaluationTask, TaskContext
from entigraph.runtime.progress import SILENT, Progress
from entigraph.storage.artifact import CHECKPOINTS, write_json
from entigraph.storage.data_losses import DataLosses, collect_data_losses
from entigraph.storage.jsonl import ResumableJsonLines, read_jsonl


def run(
    model: ModelUnderTest,
    out: Path,
    *,
    tasks: Mapping[str, EvaluationTask],
    inputs: Mapping[str, TaskInputs],
    progress: Progress = SILENT,
    data_losses: DataLosses = MappingProxyType({}),
    response_cache: Path = Path("cache"),
) -> dict[str, Any]:
    """Runs all tasks and returns their headline scores. Raises DataError if a task has nothing to evaluate.

    Records that an interrupted evaluation saved in the checkpoints folder are reused. `data_losses` are those of the
    earlier stages, which the scores of every task repeat. `response_cache` stores the replies of judges.
    """
    for name, task in tasks.items():
        validate_task(task, name, inputs[name])
    (out / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    scores: dict[str, Any] = {}

    def context(name: str, notes: ResumableJsonLines[AnswerNotes] | None = None) -> TaskContext:
        return TaskContext(name, inputs[name], partial(backend, notes), out, progress, response_cache)

    with ExitStack() as stack:
        backends: list[Backend] = []

        def backend(notes: ResumableJsonLines[AnswerNotes] | None) -> Backend:
            if not backends:
                with progress.bar("preparing model"):
                    backends.append(stack.enter_context(model.connect(progress.notify)))
            if isinstance(backends[0], EndpointBackend):
                backends[0].notes = notes
            return backends[0]

        for name, task in tasks.items():
            notes = ResumableJsonLines(out / CHECKPOINTS / f"notes-{name}.jsonl", AnswerNotes, "request")
            try:
                with notes:
                    scores[name] = task.evaluate(context(name, notes))
            except RuntimeError as error:
                raise_if_out_of_memory(error, name)
                raise
            if counts := Counter(note for answer in read_jsonl(notes.path, AnswerNotes) for note in answer.notes):
                scores[name]["answer_notes"] = dict(counts)
        backends.clear()
    for name, task in tasks.items():
        scores[name] |= task.judge_records(context(name), scores[name])
        earlier = data_losses if task.corpus is None else {}  # those of the run's corpus
        scores[name]["data_losses"] = {**collect_data_losses(task.data_losses(scores[name])), **earlier}
    write_json(out / "scores.json", scores)
    return {name: select_headline_scores(task, scores[name]) for name, task in tasks.items()}


def raise_if_out_of_memory(error: RuntimeError, name: str) -> None:
    """Raises ArtifactError, with what to set, if the error is torch's for a full GPU."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        raise ArtifactError(
            f"evaluation.{name}: out of GPU memory; lower evaluation.{name}.batch_tokens. The same command continues"
        ) from error


def validate_task(task: EvaluationTask, name: str, inputs: TaskInputs) -> None:
    """Raises DataError, naming the task, if it has nothing to evaluate."""
    try:
        task.validate(inputs)
    except DataError as error:
        raise DataError(f"evaluation.{name}: {error}") from None


def select_headline_scores(task: EvaluationTask, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the scores that are copied to the manifest."""
    return {
        name: scores[name] for name in (*task.headline_keys, "metrics", "answer_notes", "data_losses") if name in scores
    }
