"""EleutherAI's lm-evaluation-harness on a run's model: its tasks, prompts and metrics (the extra `lm-eval`).

The harness's own Hugging Face adapter runs the model, with the tokenizer and the beginning token of its training.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.tasks.base import EvaluationTask, TaskContext
from entigraph.storage.fingerprints import fingerprint

if TYPE_CHECKING:
    from entigraph.evaluation.backends.transformers_backend import TransformersBackend

LONGEST_CONTEXT = 1 << 17  # tokens; a model without a limit of its own gets this one


@dataclass(frozen=True, kw_only=True)
class LMEvalHarness(EvaluationTask):
    """`tasks` are names of the harness's tasks or of those in `include_path`, a folder of the harness's YAML files. The
    harness's own data sets come from a hub. `limit` takes the first items of each task, for trying out; `fewshot` is
    null for each task's default.
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
                raise ConfigError(f"evaluation {key}: not an option of lm_eval; the harness's tasks bring their own")
        if not self.tasks:
            raise ConfigError("evaluation tasks: none given; name some of the harness's, or of include_path's")
        if self.include_path is not None and not Path(self.include_path).expanduser().is_dir():
            raise ConfigError(f"evaluation include_path: {self.include_path!r} is no folder; give one of task files")
        self.check_minimum(fewshot=0, limit=1, batch_size=1)

    @property
    def cache_key(self) -> dict[str, Any]:
        """Task files enter by content; the data sets they name by name."""
        return {"include_path": fingerprint(Path(self.include_path).expanduser())} if self.include_path else {}

    def check(self) -> None:
        if find_spec("lm_eval") is None:
            raise ConfigError("evaluation=lm_eval needs EleutherAI's harness: pip install 'entigraph[lm-eval]'")

    def evaluate(self, context: TaskContext) -> dict[str, Any]:
        """Raises ConfigError without the harness, DataError for a task that it does not have."""
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
        results = simple_evaluate(
            adapter(cast("TransformersBackend", context.backend()), self.batch_size),
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


def adapter(backend: "TransformersBackend", batch_size: int) -> Any:
    """Returns the harness's model object for a loaded model."""
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    fast = Tokenizer.from_str(backend.tokenizer.to_str())
    ends = [fast.id_to_token(each) for each in sorted(backend.ends)]
    begin = fast.id_to_token(backend.bos[0]) if backend.bos else None
    if begin is not None:  # our tokenizers leave the beginning token to the stages, the harness to the tokenizer
        fast.post_processor = TemplateProcessing(single=[begin, "$A"], special_tokens=[(begin, backend.bos[0])])
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=fast, bos_token=begin, eos_token=ends[0] if ends else None
    )
    return HFLM(
        pretrained=backend.model,
        tokenizer=tokenizer,
        backend="causal",
        add_bos_token=bool(backend.bos),
        batch_size=batch_size,
        max_length=min(backend.max_length, LONGEST_CONTEXT),
    )


def select_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns a task's metrics. "acc,none" is acc without a filter; "N/A" errors and names are left out."""
    return {
        key.removesuffix(",none"): float(value)
        for key, value in values.items()
        if "," in key and isinstance(value, int | float)
    }
