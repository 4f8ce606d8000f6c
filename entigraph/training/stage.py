"""The training stage trains on token shards: model/ (a Hugging Face folder), metrics.jsonl, data_schedule.json.

On one device, training runs in this process. On several devices there is one process per device, started here or by
torchrun or srun; in the latter case this process is one of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from entigraph.errors import ConfigError
from entigraph.runtime.devices import check_accelerator
from entigraph.runtime.processes import ProcessGroup, process_group
from entigraph.runtime.progress import Progress
from entigraph.training.device_fit import TrainingTarget, alternatives, choose_settings, describe
from entigraph.training.float8 import check_float8
from entigraph.training.memory import find_device, read_shape
from entigraph.training.optim import check_optimizer_package, moment_bytes
from entigraph.training.trainer import TrainerSettings, check_attention
from entigraph.training.training_job import TrainingJob


def run(
    tokens: Path,
    tokenizer: Path,
    replay: Path | None,
    out: Path,
    *,
    nodes: Mapping[str, Any],
    vocabulary: int,
    seed: int,
    progress: Progress,
    record: Callable[[dict[str, float]], None],
    origin: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Trains from the latest checkpoint in `out`, if there is one, and exports the model. Returns counts.

    `nodes` are the resolved config nodes of the components (`component_nodes.resolved_nodes`). `record` receives each
    line of metrics.jsonl. Raises ConfigError if model, tokens and context length are incompatible, ArtifactError for
    damaged shards or checkpoints, NonFiniteLossError if the loss becomes NaN or infinite.
    """
    job = TrainingJob(
        tokens=tokens,
        tokenizer=tokenizer,
        replay=replay,
        out=out,
        nodes=nodes,
        vocabulary=vocabulary,
        seed=seed,
        origin=origin or {},
    )
    if job.difference:
        from entigraph.training.weight_difference import check_difference

        check_difference(job.model.path, job.difference)
    job.trainer.accumulation(job.data.batch_size)
    job, reason = with_chosen_settings(job)
    trainer = job.trainer
    current = process_group()
    check_world_size(current, trainer)
    check_accelerator(trainer.accelerator, trainer.devices if current.ranks == 1 else 1)
    check_attention(trainer.attention)
    check_optimizer_package(job.optim)
    check_float8(trainer.float8, job.adapter)
    if current.rank == 0 and reason:
        progress.notify(f"           {reason}")
    if current.rank == 0 and trainer.inexact_arguments:
        names = ", ".join(f"trainer.{name}" for name in trainer.inexact_arguments)
        progress.notify(f"           warning: with {names}, an interrupted run may end with different weights")
    if trainer.world_size > 1 and current.ranks == 1:
        from entigraph.training.launch import launch

        return launch(job, progress, record)
    from entigraph.training.train import train

    return train(job, progress, record)


def with_chosen_settings(job: TrainingJob) -> tuple[TrainingJob, str]:
    """Returns the job without "auto" settings, and why they were chosen; empty if there are none.

    Raises ConfigError if all settings are "auto" and none fits this machine's GPU.
    """
    if not job.trainer.automatic:
        return job, ""
    target = TrainingTarget(
        job.data,
        read_shape(job.model.config_values(job.vocabulary)),
        find_device(job.trainer.accelerator),
        job.adapter,
        moment_bytes(job.optim),
    )
    chosen = choose_settings(job.trainer, target)
    if not chosen.fits:
        advice = " or ".join(alternatives(job.trainer, target)) or "a larger device"
        raise ConfigError(f"trainer: {describe(chosen.values)}: {chosen.reason}. What would: {advice}")
    nodes = {**job.nodes, "trainer": {**job.nodes["trainer"], **chosen.values}}
    return replace(job, nodes=nodes), f"{describe(chosen.values)}: {chosen.reason}"


def check_world_size(current: ProcessGroup, trainer: TrainerSettings) -> None:
    """Raises ConfigError if the launcher's number of processes differs from the configured number of devices."""
    sizes = f"trainer.devices x trainer.num_nodes = {trainer.devices} x {trainer.num_nodes}"
    if current.ranks > 1 and current.ranks != trainer.world_size:
        raise ConfigError(f"{sizes}, but {current.launcher} started {current.ranks} processes; make them equal")
    if current.ranks == 1 and trainer.num_nodes > 1:
        raise ConfigError(
            f"{sizes}: start several nodes with torchrun or srun, one process per device: "
            "srun entigraph stage=training ..., after stage=tokens with the same configuration"
        )
