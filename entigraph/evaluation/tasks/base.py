"""The base class of evaluation tasks.

A task is a subclass with `evaluate`, from this package or the user's:

    # my_package/tasks.py
    @dataclass(frozen=True, kw_only=True)
    class TitleRecall(EvaluationTask):
        max_tokens: int = 20

        def evaluate(self, context: TaskContext) -> dict[str, Any]:
            documents = list(read_jsonl(context.inputs.documents, Document))
            prompts = [Prompt(document.id, document.text[:200] + "\\nTitle:") for document in documents]
            generations = context.backend().sample(prompts, Sampling(max_tokens=self.max_tokens))
            recalled = sum(documents[index].title in texts[0].text for index, texts in generations if texts)
            return {"metrics": {"title_recall": recalled / len(documents)}}

    entigraph run +evaluation.titles._target_=my_package.tasks.TitleRecall

Subclass `QuestionTask` (question_task.py) for a task on the corpus's questions: the reports then include its accuracy,
and the scaling analysis fits it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from entigraph.config.fields import check_minimums, runtime_field
from entigraph.evaluation.base import Backend, TaskInputs
from entigraph.evaluation.metrics import check_metrics, compute_metrics
from entigraph.runtime.progress import Progress
from entigraph.storage.artifact import CHECKPOINTS
from entigraph.storage.data_losses import DataLoss, render_data_losses
from entigraph.storage.jsonl import ResumableJsonLines, read_jsonl, write_jsonl

Record = TypeVar("Record")


@dataclass(frozen=True)
class TaskContext:
    """Inputs of a task. `backend` loads the model on its first call; `name` is the task's key in the config."""

    name: str
    inputs: TaskInputs
    backend: Callable[[], Backend]
    folder: Path
    progress: Progress
    response_cache: Path = Path("cache")  # of judges

    def write_records(
        self,
        prefix: str,
        kind: type[Record],
        ids: Sequence[str],
        produce: Callable[[set[str]], Iterable[Record]],
        *,
        id_field: str,
        unit: str,
    ) -> Path:
        """Writes `PREFIX-TASK.jsonl` with one record per id, in the order of `ids`, and returns its path.

        `produce` receives the ids without a record. Its records are saved one by one, so that a killed evaluation
        resumes where it stopped.
        """
        name = f"{prefix}-{self.name}.jsonl"
        records = ResumableJsonLines(self.folder / CHECKPOINTS / name, kind, id_field)
        missing = {record_id for record_id in ids if record_id not in records}
        if missing:
            self.backend()  # loads the model before the bar starts to count
            with records, self.progress.bar("evaluation", len(ids), unit) as advance:
                advance(len(ids) - len(missing), resumed=True)
                for record in produce(missing):
                    records.write(record)
                    advance(1)
        write_jsonl(self.folder / name, (records.read(record_id) for record_id in ids))
        return self.folder / name


@dataclass(frozen=True)
class UsageEstimate:
    """The size of a task's requests to an endpoint, for cost estimates. `max_completion_tokens` is over all samples."""

    items: str
    prompt_characters: int
    samples: int
    max_completion_tokens: int


@dataclass(frozen=True, kw_only=True)
class EvaluationTask(ABC):
    """`corpus` is a corpus folder, or None for the run's corpus. `metrics` are described in evaluation/metrics.py."""

    corpus: str | None = runtime_field(None)
    metrics: dict[str, Any] = field(default_factory=dict)
    uses_questions: ClassVar[bool] = False
    measures_accuracy: ClassVar[bool] = False  # writes answers and their accuracy, like QuestionTask
    needs_likelihoods: ClassVar[bool] = False
    needs_retrieval: ClassVar[bool] = False
    needs_transformers: ClassVar[bool] = False  # uses the Hugging Face model itself
    headline_keys: ClassVar[Sequence[str]] = ()  # scores that are copied to the manifest

    def __post_init__(self) -> None:
        check_metrics(self.metrics)

    def check_minimum(self, **minimums: float) -> None:
        """Raises ConfigError for a field below its minimum; None is valid."""
        check_minimums(self, "evaluation ", **minimums)

    @abstractmethod
    def evaluate(self, context: TaskContext) -> dict[str, Any]:
        """Returns the task's entry in scores.json. Numbers under its `metrics` reach W&B and the study table."""

    def judge_records(self, context: TaskContext, scores: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the scores after a judge has read the stored records. The model under test is unloaded by then."""
        return scores

    @property
    def cache_key(self) -> dict[str, Any]:
        """Returns additional fields of the cache key, such as digests of files that the settings name."""
        return {}

    def check(self) -> None:  # noqa: B027
        """Raises an error if the task cannot run here, for example because a package is missing."""

    def validate(self, inputs: TaskInputs) -> None:  # noqa: B027
        """Raises DataError if the inputs contain nothing to evaluate. Called before any paid request is sent."""

    def estimate_usage(self, inputs: TaskInputs) -> UsageEstimate | None:
        """Returns the size of the task's requests to an endpoint; None if unknown."""
        return None

    def estimate_judge_usage(self, inputs: TaskInputs) -> UsageEstimate | None:
        """Returns an upper bound on the size of the judge's requests for one model; None without a judge."""
        return None

    def compute_metric_scores(self, records: Path, kind: type[Any]) -> dict[str, Any]:
        """Returns the `metrics` entry of the scores; empty without metrics."""
        return {"metrics": compute_metrics(self.metrics, list(read_jsonl(records, kind)))} if self.metrics else {}

    def data_losses(self, scores: Mapping[str, Any]) -> Sequence[DataLoss]:
        """Returns what the scores omit, or count as incorrect without an answer. `scores` is `evaluate`'s result."""
        return ()

    def describe(self, scores: Mapping[str, Any]) -> str:
        """Returns the scores as text, without `metrics`."""
        return ""

    def summary_line(self, scores: Mapping[str, Any]) -> str:
        """Returns the scores, metrics and data losses as one line for the terminal."""
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in scores.get("metrics", {}).items())
        losses = render_data_losses(scores.get("data_losses", {}))
        return "; ".join(filter(None, (self.describe(scores), metrics, losses and f"data losses: {losses}")))
