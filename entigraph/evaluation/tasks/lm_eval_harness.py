"""EleutherAI's lm-evaluation-harness on a run's model: its tasks, its prompts, its metrics (the extra lm-eval).

The harness's own Hugging Face adapter asks the model, with the tokenizer and the beginning of text of its training.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.base import Engine, Source
from entigraph.runtime.progress import Progress
from entigraph.storage.fingerprints import fingerprint

if TYPE_CHECKING:
    from entigraph.evaluation.backends.transformers_backend import TransformersEngine


@dataclass(frozen=True, kw_only=True)
class Harness:
    """`tasks` by name, those of `include_path` (a folder of the harness's YAML files) among them. Without it only the
    harness's own are known, whose data sets come from a hub. `limit` takes the first so many items of each, for trying
    out; `fewshot` is null for what each task says.
    """

    tasks: list[str] = field(default_factory=list)
    include_path: str | None = None
    fewshot: int | None = None
    limit: int | None = None
    batch_size: int = 8
    corpus: ClassVar[str | None] = None
    needs_likelihoods: ClassVar[bool] = True
    asks: ClassVar[bool] = False
    holds_model: ClassVar[bool] = True  # the harness's adapter takes it

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("evaluation tasks: none given; name some of the harness's, or of include_path's")
        if self.include_path is not None and not Path(self.include_path).expanduser().is_dir():
            raise ConfigError(f"evaluation include_path: {self.include_path!r} is no folder; give one of task files")
        for key, least in (("fewshot", 0), ("limit", 1), ("batch_size", 1)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise ConfigError(f"evaluation {key}: {value} found, {least} or more expected")

    @property
    def cache_key(self) -> dict[str, str]:
        """The task files count by content; what they name (data sets) by name."""
        return {"include_path": fingerprint(Path(self.include_path).expanduser())} if self.include_path else {}

    def check(self) -> None:
        if find_spec("lm_eval") is None:
            raise ConfigError("evaluation=lm_eval needs EleutherAI's harness: pip install 'entigraph[lm-eval]'")

    def measured(
        self, name: str, source: Source, engine: Callable[[], Engine], out: Path, progress: Progress
    ) -> dict[str, Any]:
        """Raises ConfigError without the harness, DataError for a task that it does not know."""
        self.check()
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        manager = TaskManager(include_path=str(Path(self.include_path).expanduser()) if self.include_path else None)
        unknown = [task for task in self.tasks if task not in manager.all_tasks]
        if unknown:
            raise DataError(f"evaluation.{name}: the harness has no task {', '.join(unknown)}; see include_path")
        found = simple_evaluate(
            adapter(cast("TransformersEngine", engine()), self.batch_size),
            tasks=list(self.tasks),
            task_manager=manager,
            num_fewshot=self.fewshot,
            limit=self.limit,
            log_samples=False,
        )
        return {"tasks": {task: metrics(values) for task, values in found["results"].items()}, "limit": self.limit}


def adapter(engine: "TransformersEngine", batch_size: int) -> Any:
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    fast = Tokenizer.from_str(engine.tokenizer.to_str())
    ends = [fast.id_to_token(each) for each in sorted(engine.ends)]
    begin = fast.id_to_token(engine.bos[0]) if engine.bos else None
    if begin is not None:  # our tokenizers leave it to the stages; the harness leaves it to the tokenizer
        fast.post_processor = TemplateProcessing(single=[begin, "$A"], special_tokens=[(begin, engine.bos[0])])
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=fast, bos_token=begin, eos_token=ends[0] if ends else None
    )
    return HFLM(
        pretrained=engine.model,
        tokenizer=tokenizer,
        backend="causal",
        add_bos_token=bool(engine.bos),
        batch_size=batch_size,
        max_length=min(engine.positions, 1 << 17),
    )


def metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """ "acc,none" is the harness's acc without a filter; "N/A" errors and names are left out."""
    return {
        key.removesuffix(",none"): float(value)
        for key, value in values.items()
        if "," in key and isinstance(value, int | float)
    }
