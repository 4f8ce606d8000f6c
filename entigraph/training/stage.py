"""Stage 4: token shards → model/ (a Hugging Face folder with its tokenizer), metrics.jsonl, plan.json.

On one device the run is this process. On several it is a process tree of its own, one process a device: started here,
or by torchrun or srun, where this process is one of them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from entigraph.errors import ConfigError
from entigraph.runtime.devices import check_accelerator
from entigraph.runtime.processes import ProcessGroup, process_group
from entigraph.runtime.progress import Progress
from entigraph.training.data_schedule import DataConfig
from entigraph.training.optim.adamw_cosine import AdamWCosine
from entigraph.training.starting_models import Model
from entigraph.training.trainer import TrainerSettings
from entigraph.training.training_job import TrainingJob


def run(
    tokens: Path,
    tokenizer: Path,
    replay: Path | None,
    out: Path,
    *,
    data: DataConfig,
    model: Model,
    optim: AdamWCosine,
    trainer: TrainerSettings,
    vocabulary: int,
    seed: int,
    progress: Progress,
    record: Callable[[dict[str, float]], None],
    origin: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Train, from the newest checkpoint in `out` where there is one, and leave a finished model.

    Raises ConfigError where model, tokens and context do not fit together, ArtifactError for damaged shards or
    checkpoints, NonFiniteLossError where the loss is no number any more.
    """
    job = TrainingJob(
        tokens=tokens,
        tokenizer=tokenizer,
        replay=replay if data.replay_rate else None,
        out=out,
        data=data,
        model=model,
        optim=optim,
        trainer=trainer,
        vocabulary=vocabulary,
        seed=seed,
        origin=origin or {},
    )
    trainer.accumulation(data.batch_size)
    here = process_group()
    refuse_other_world(here, trainer)
    check_accelerator(trainer.accelerator)
    if trainer.ranks > 1 and here.ranks == 1:
        from entigraph.training.launch import launch

        return launch(job, progress, record)
    from entigraph.training.train import train

    return train(job, progress, record)


def refuse_other_world(here: ProcessGroup, trainer: TrainerSettings) -> None:
    asked = f"trainer.devices x trainer.num_nodes = {trainer.devices} x {trainer.num_nodes}"
    if here.ranks > 1 and here.ranks != trainer.ranks:
        raise ConfigError(f"{asked}, but {here.launcher} started {here.ranks} processes; make them equal")
    if here.ranks == 1 and trainer.num_nodes > 1:
        raise ConfigError(
            f"{asked}: several nodes are started by torchrun or srun, one process a device: "
            "srun entigraph stage=training ..., after stage=tokens of the same configuration"
        )
