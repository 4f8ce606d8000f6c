"""The training stage trains on token shards: model/ (a Hugging Face folder), metrics.jsonl, data_schedule.json.

On one device, training runs in this process. On several devices there is one process per device, started here or by
torchrun or srun; in the latter case this process is one of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from entigraph.config.validation import collect_problems
from entigraph.errors import ConfigError
from entigraph.runtime.devices import check_accelerator, check_compiler, release_gpu_memory
from entigraph.runtime.processes import ProcessGroup, process_group
from entigraph.runtime.progress import SILENT, Progress
from entigraph.training.adapters import LoraAdapter
from entigraph.training.data_schedule import DataConfig
from entigraph.training.device_fit import ChosenSettings, TrainingTarget, alternatives, choose_settings, describe
from entigraph.training.float8 import check_float8
from entigraph.training.memory import Shape, find_torch_device, read_shape
from entigraph.training.optim import OptimizerFactory, check_optimizer_package, moment_bytes
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
    progress: Progress = SILENT,
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
    current = process_group()
    check_world_size(current, job.trainer)
    if problems := find_machine_problems(job.trainer, job.optim, job.adapter):
        raise ConfigError("\n".join(problems))
    job, reason = with_chosen_settings(job)
    trainer = job.trainer
    if current.rank == 0 and reason:
        progress.notify(f"           {reason}")
    if current.rank == 0 and trainer.inexact_arguments:
        names = ", ".join(f"trainer.{name}" for name in trainer.inexact_arguments)
        progress.notify(f"           warning: with {names}, an interrupted run may end with different weights")
    if trainer.world_size > 1 and current.ranks == 1:
        from entigraph.training.launch import launch as train
    else:
        from entigraph.training.train import train
    release_gpu_memory()  # of a model that was evaluated before, and afterwards of the trained one
    counts = train(job, progress, record)
    release_gpu_memory()
    return counts


def find_machine_problems(trainer: TrainerSettings, optim: OptimizerFactory, adapter: LoraAdapter | None) -> list[str]:
    """Returns what this machine lacks for a training: devices, a compiler, packages."""
    problems = collect_problems(check_accelerator, trainer.accelerator, trainer.devices)
    problems = problems or collect_problems(check_compiler, trainer.compile, trainer.accelerator)
    problems += collect_problems(check_attention, trainer.attention)
    problems += collect_problems(check_optimizer_package, optim)
    return problems + collect_problems(check_float8, trainer.float8, adapter)


def with_chosen_settings(job: TrainingJob) -> tuple[TrainingJob, str]:
    """Returns the job without "auto" settings, and why they were chosen; empty if there are none."""
    if not job.trainer.automatic:
        return job, ""
    shape = read_shape(job.model.config_values(job.vocabulary))
    chosen = choose_for_this_machine(job.trainer, job.data, shape, job.adapter, job.optim)
    nodes = {**job.nodes, "trainer": {**job.nodes["trainer"], **chosen.values}}
    return replace(job, nodes=nodes), f"{describe(chosen.values)}: {chosen.reason}"


def choose_for_this_machine(
    trainer: TrainerSettings,
    data: DataConfig,
    shape: Shape | None,
    adapter: LoraAdapter | None,
    optim: OptimizerFactory,
) -> ChosenSettings:
    """Returns settings without "auto". Raises ConfigError if none that could be chosen fits this machine."""
    target = TrainingTarget(data, shape, find_torch_device(trainer.accelerator), adapter, moment_bytes(optim))
    chosen = choose_settings(trainer, target)
    if chosen.fits:
        return chosen
    advice = " or ".join(alternatives(trainer, target)) or "a larger device"
    raise ConfigError(f"trainer: {describe(chosen.values)}: {chosen.reason}. What would: {advice}")


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
