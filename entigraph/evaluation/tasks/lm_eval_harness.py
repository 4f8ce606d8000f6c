"""Runs EleutherAI's lm-evaluation-harness on a run's model: its tasks, prompts and metrics (the extra `lm-eval`).

The harness's Hugging Face adapter runs the model, with the tokenizer and the BOS token used in training.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.tasks.base import EvaluationTask, TaskContext
from entigraph.runtime.progress import Advance
from entigraph.storage.fingerprints import fingerprint

if TYPE_CHECKING:
    from entigraph.evaluation.backends.transformers_backend import TransformersBackend

MAX_CONTEXT = 1 << 17  # tokens, for models without a limit


@dataclass(frozen=True, kw_only=True)
class LMEvalHarness(EvaluationTask):
    """`tasks` are names of the harness's tasks, or of tasks in `include_path`, a folder with task files (YAML). The
    harness downloads its datasets from the Hub. `limit` uses only the first items of each task, for tests. `fewshot`
    defaults to the setting of each task.
    """

    tasks: list[str] = field(default_factory=list)
    include_path: str | None = None
    fewshot: int | None = None
    limit: int | None = None
    batch_size: int = 8
    needs_likelihoods: ClassVar[bool] = True
    needs_transformers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("corpus", "metrics"):
            if getattr(self, key):
                raise ConfigError(f"evaluation {key}: not a setting of lm_eval; the harness's tasks define it")
        if not self.tasks:
            raise ConfigError("evaluation tasks: empty; list tasks of the harness or of include_path")
        if self.include_path is not None and not Path(self.include_path).expanduser().is_dir():
            raise ConfigError(f"evaluation include_path: {self.include_path!r} is not a folder of task files")
        self.check_minimum(fewshot=0, limit=1, batch_size=1)

    @property
    def cache_key(self) -> dict[str, Any]:
        """Returns the digest of the task files. Their datasets are part of it by name only."""
        return {"include_path": fingerprint(Path(self.include_path).expanduser())} if self.include_path else {}

    def check(self) -> None:
        if find_spec("lm_eval") is None:
            raise ConfigError("evaluation=lm_eval needs EleutherAI's harness: pip install 'entigraph[lm-eval]'")

    def evaluate(self, context: TaskContext) -> dict[str, Any]:
        """Runs the harness. Raises ConfigError if it is not installed, DataError for an unknown task."""
        self.check()
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        manager = TaskManager(include_path=str(Path(self.include_path).expanduser()) if self.include_path else None)
        unknown = [task for task in self.tasks if task not in manager.all_tasks]
        if unknown:
            raise DataError(
                f"evaluation.{context.name}: the harness has no task {', '.join(unknown)}; see include_path"
            )
        model = adapter(cast("TransformersBackend", context.backend()), self.batch_size)
        with context.progress.bar("evaluation", unit="requests") as advance, captured_bars(advance):
            results = simple_evaluate(
                model,
                tasks=list(self.tasks),
                task_manager=manager,
                num_fewshot=self.fewshot,
                limit=self.limit,
                log_samples=False,
            )
        metrics = {
            f"{task}/{name}": value
            for task, values in results["results"].items()
            for name, value in select_numbers(values).items()
        }
        return {"metrics": metrics, "limit": self.limit}


@contextmanager
def captured_bars(advance: Advance) -> Iterator[None]:
    """Hides the progress bars of the harness and of datasets. The harness's bar advances ours instead."""
    from tqdm import tqdm

    start, update = tqdm.__init__, tqdm.update

    def start_hidden(bar: Any, *args: Any, **options: Any) -> None:
        start(bar, *args, **{**options, "disable": True})
        bar.counts_requests = str(options.get("desc")).startswith("Running ")

    def count(bar: Any, n: float | None = 1) -> None:
        if getattr(bar, "counts_requests", False):
            advance(int(n or 0))

    tqdm.__init__, tqdm.update = start_hidden, count
    try:
        yield
    finally:
        tqdm.__init__, tqdm.update = start, update


def adapter(backend: "TransformersBackend", batch_size: int) -> Any:
    """Returns the harness's model object for a loaded backend."""
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    fast = Tokenizer.from_str(backend.tokenizer.to_str())
    eos_tokens = [fast.id_to_token(token) for token in sorted(backend.ends)]
    bos_token = fast.id_to_token(backend.bos[0]) if backend.bos else None
    if bos_token is not None:  # the harness expects the tokenizer to add BOS; our tokenizers do not
        fast.post_processor = TemplateProcessing(single=[bos_token, "$A"], special_tokens=[(bos_token, backend.bos[0])])
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=fast, bos_token=bos_token, eos_token=eos_tokens[0] if eos_tokens else None
    )
    return HFLM(
        pretrained=backend.model,
        tokenizer=tokenizer,
        backend="causal",
        add_bos_token=bool(backend.bos),
        batch_size=batch_size,
        max_length=min(backend.max_length, MAX_CONTEXT),
    )


def select_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numeric metrics of a task; "acc,none" (acc without a filter) becomes "acc"."""
    return {
        key.removesuffix(",none"): float(value)
        for key, value in values.items()
        if "," in key and isinstance(value, int | float)
    }
