"""One training run as values: what a stage is called with, and what its other processes read from a file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from entigraph.storage.artifact import write_json
from entigraph.storage.token_shards import TokenStore
from entigraph.training.data_schedule import DataConfig, DataSchedule
from entigraph.training.optim.adamw_cosine import AdamWCosine
from entigraph.training.starting_models import Model
from entigraph.training.trainer import TrainerSettings


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """`origin` says in words what the tokens are, for the model card."""

    tokens: Path
    tokenizer: Path
    replay: Path | None
    out: Path
    data: DataConfig
    model: Model
    optim: AdamWCosine
    trainer: TrainerSettings
    vocabulary: int
    seed: int
    origin: Mapping[str, str] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        write_json(file, {found.name: plain(getattr(self, found.name)) for found in fields(self)})


def read_training_job(file: Path) -> TrainingJob:
    values = {name: component(value) for name, value in json.loads(file.read_text(encoding="utf-8")).items()}
    for name in ("tokens", "tokenizer", "replay", "out"):
        values[name] = Path(values[name]) if values[name] else None
    return TrainingJob(**values)


def plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {"_target_": f"{type(value).__module__}.{type(value).__qualname__}", **asdict(value)}
    return str(value) if isinstance(value, Path) else value


def component(value: Any) -> Any:
    if not isinstance(value, dict) or "_target_" not in value:
        return value
    from hydra.utils import get_object

    return get_object(value["_target_"])(**{name: part for name, part in value.items() if name != "_target_"})


def build_schedule(job: TrainingJob, synthetic: TokenStore, replayed: TokenStore | None) -> DataSchedule:
    return DataSchedule(
        synthetic_tokens=len(synthetic),
        replay_tokens=len(replayed) if replayed else 0,
        context_length=job.data.context_length,
        batch_size=job.data.batch_size,
        epochs=job.trainer.max_epochs,
        replay_rate=job.data.replay_rate,
        seed=job.seed,
        max_steps=job.trainer.max_steps,
        replaces=job.data.replay_mode == "replace",
    )
