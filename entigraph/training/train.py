"""Runs one rank of a training run, from the latest checkpoint to the exported model."""

import inspect
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning as L
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.utilities.exceptions import SIGTERMException

from entigraph.config.instantiate import build
from entigraph.errors import ArtifactError, ConfigError
from entigraph.runtime.devices import keep_freed_memory, pick_accelerator, pick_precision
from entigraph.runtime.processes import Preempted, process_group
from entigraph.runtime.progress import Progress, SilentProgress, print_line
from entigraph.storage.artifact import CHECKPOINTS, Fence, write_json
from entigraph.training.adapters import is_adapter_weight
from entigraph.training.callbacks.token_progress import TokenProgress
from entigraph.training.checkpointing import ShardedCheckpoints, latest_checkpoint
from entigraph.training.component_errors import training_errors
from entigraph.training.component_nodes import build_callbacks, build_loggers, check_kind
from entigraph.training.data_schedule import VALIDATION
from entigraph.training.datamodule import SyntheticDataModule
from entigraph.training.export import export
from entigraph.training.float8 import convert_to_float8
from entigraph.training.metrics_file import METRICS, MetricsFile
from entigraph.training.model_checks import check_model_fits
from entigraph.training.module import CausalLMModule
from entigraph.training.optim import trains_split_weights
from entigraph.training.strategies import (
    ExactSingleDeviceStrategy,
    FSDP2Strategy,
    Sharding,
    has_all_weights,
    prepare_layers,
)
from entigraph.training.training_job import TrainingJob

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
SCHEDULE = "data_schedule.json"
Record = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class RankContext:
    """The accelerator and precision of this process, its rank and the number of ranks. `sharded`: by FSDP2."""

    accelerator: str
    precision: str
    rank: int
    ranks: int
    sharded: bool

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def splits_weights(self) -> bool:
        return self.precision == "bf16-true"

    @property
    def compute_dtype(self) -> torch.dtype:
        return torch.float32 if self.precision == "32-true" else torch.bfloat16


def find_rank_context(job: TrainingJob) -> RankContext:
    accelerator = pick_accelerator(job.trainer.accelerator)
    current = process_group()
    ranks = current.ranks if job.trainer.world_size > 1 else 1
    precision = pick_precision(job.trainer.precision, accelerator)
    can_split = trains_split_weights(job.optim)
    sharded = job.trainer.is_sharded
    if job.trainer.precision == "auto" and precision == "bf16-mixed" and accelerator == "cuda" and not sharded:
        precision = "bf16-true" if can_split else precision
    if precision == "bf16-true" and not can_split:
        raise ConfigError(
            "trainer.precision: bf16-true needs an optimizer that stores the low 16 bits of each weight, such as "
            "optim=adamw; plain bf16 weights do not train at small learning rates. Set bf16-mixed"
        )
    return RankContext(accelerator, precision, current.rank if ranks > 1 else 0, ranks, sharded)


def train(job: TrainingJob, progress: Progress, record: Record) -> dict[str, Any]:
    silence_libraries()
    context = find_rank_context(job)
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)  # an evaluation disables it for the process
    try:
        with process_group_errors(context, job.trainer.timeout_s):
            return train_rank(job, context, progress, record)
    except torch.OutOfMemoryError as error:
        raise ArtifactError(
            "training: out of GPU memory; set trainer.micro_batch_size=1 or trainer.activation_checkpointing=full, or "
            "both to auto (entigraph plan shows what fits). The same command continues from the latest checkpoint"
        ) from error
    finally:
        torch.use_deterministic_algorithms(deterministic)  # trainer.deterministic sets it for the process


@contextmanager
def process_group_errors(context: RankContext, timeout_s: float) -> Iterator[None]:
    """Turns a timeout of collectives into an ArtifactError, and destroys the process group of a single rank."""
    try:
        yield
    except RuntimeError as error:  # of gloo, NCCL, or the store where the ranks meet
        if context.ranks == 1 or not re.search("timed? ?out", str(error), re.IGNORECASE):
            raise
        raise ArtifactError(
            f"training: rank {context.rank} waited trainer.timeout_s = {timeout_s:g} seconds for another rank, which "
            "hangs or has died; see its output, or raise the limit if saving or loading takes longer. The same command "
            "continues from the latest checkpoint"
        ) from error
    finally:
        if context.sharded and context.ranks == 1 and dist.is_initialized():
            dist.destroy_process_group()


def train_rank(job: TrainingJob, context: RankContext, progress: Progress, record: Record) -> dict[str, Any]:
    if context.accelerator == "cpu":
        keep_freed_memory()
        if job.trainer.threads:
            torch.set_num_threads(job.trainer.threads)
    accumulation = job.trainer.accumulation(job.data.batch_size)
    datamodule = build_datamodule(job, job.data.batch_size // context.ranks // accumulation)
    schedule = datamodule.schedule
    if context.is_first:
        write_json(job.out / SCHEDULE, schedule.summary())
        progress.notify(f"           {schedule.summary_line()}")
    else:
        progress = SilentProgress()
    torch.manual_seed(job.seed)
    with progress.bar("loading model"):
        module = build_module(job, context, schedule.steps)
    checkpoint = latest_checkpoint(job.out / CHECKPOINTS)
    named = dict(zip(job.nodes["callbacks"], build_callbacks(job.nodes), strict=True))
    check_validation_metric(named, datamodule)
    callbacks = showable_callbacks(named, progress)
    loggers = [
        MetricsFile(
            job.out / METRICS,
            schedule.batch_size * schedule.context_length,
            int(checkpoint.name.removeprefix("step-")) if checkpoint else 0,
            record if context.is_first else lambda values: None,
        ),
        *build_loggers(job.nodes, job.out / "logs"),
    ]
    bars = SilentProgress() if shows_lightning_bar(job, callbacks) else progress
    with bars.bar("training", schedule.samples * schedule.context_length, "tokens") as advance:
        for callback in callbacks:
            if isinstance(callback, TokenProgress):
                callback.advance = advance
        with training_errors(named):
            trainer = build_trainer(
                job, context, schedule.fingerprint, schedule.steps, callbacks, loggers, accumulation
            )
            fit(trainer, module, datamodule, checkpoint)
        if context.is_first:
            close_wandb_loggers(loggers, job.out)
    val_loss = trainer.callback_metrics.get("val_loss")
    counts = {
        **schedule.summary(trainer.global_step),
        **count_parameters(module.net),
        "accelerator": context.accelerator,
        "devices": context.ranks,
        "precision": context.precision,
        "resumed_from": checkpoint.name if checkpoint else None,
        "exact_resume": not job.trainer.inexact_arguments,
        **({} if val_loss is None else {"val_loss": float(val_loss)}),
    }
    with progress.bar("saving model"):
        export(module.net, trainer.optimizers[0], job, counts, context.splits_weights, context.sharded)
    return counts


def check_validation_metric(callbacks: Mapping[str, L.Callback], datamodule: SyntheticDataModule) -> None:
    """Raises ConfigError if a callback monitors the validation loss and no text is held out."""
    if len(datamodule.stores.get(VALIDATION, (None,))):
        return
    for name, callback in callbacks.items():
        if getattr(callback, "monitor", None) == "val_loss":
            raise ConfigError(
                f"callbacks.{name}.monitor: there is no val_loss, because data.validation_fraction = "
                f"{datamodule.config.validation_fraction:g} holds out no text; raise it, or generate more texts"
            )


def showable_callbacks(callbacks: Mapping[str, L.Callback], progress: Progress) -> list[L.Callback]:
    """Returns the callbacks, without progress bars if there is no terminal: Lightning rejects disabled ones."""
    hidden = [] if sys.stderr.isatty() else [name for name, item in callbacks.items() if isinstance(item, ProgressBar)]
    for name in hidden:
        progress.notify(f"           note: callbacks.{name} shows nothing, because there is no terminal")
    return [callback for name, callback in callbacks.items() if name not in hidden]


def shows_lightning_bar(job: TrainingJob, callbacks: list[L.Callback]) -> bool:
    """Returns whether Lightning's progress bar is shown instead of the stage's."""
    return job.trainer.shows_lightning_bar or any(isinstance(callback, ProgressBar) for callback in callbacks)


def count_parameters(net: "PreTrainedModel") -> dict[str, int]:
    """Returns the parameters of the model without its adapter, and the trained ones if it has an adapter."""
    sizes = {name: parameter.numel() for name, parameter in net.named_parameters()}
    total = sum(size for name, size in sizes.items() if not is_adapter_weight(name))
    if total == sum(sizes.values()):
        return {"parameters": total}
    trained = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    return {"parameters": total, "trained_parameters": trained}


def build_datamodule(job: TrainingJob, micro_batch_size: int) -> SyntheticDataModule:
    datamodule: SyntheticDataModule = build(job.nodes["data"], "data")(
        tokens=job.tokens,
        replay_tokens=job.replay,
        seed=job.seed,
        max_epochs=job.trainer.max_epochs,
        max_steps=job.trainer.max_steps,
        micro_batch_size=micro_batch_size,
        vocabulary=job.vocabulary,
    )
    check_kind(datamodule, SyntheticDataModule, job.nodes["data"], "data")
    datamodule.setup("fit")  # the length of the schedule is an argument of the module
    return datamodule


def build_module(job: TrainingJob, context: RankContext, num_training_steps: int) -> CausalLMModule:
    """Returns the module to train on this rank."""
    net, weights = load_starting_model(job, context)
    check_model_fits(job, net)
    if job.trainer.float8 != "none":
        convert_to_float8(net, job.trainer.float8)
    if job.adapter:
        job.adapter.add_to(net, job.seed)
    if job.trainer.attention != "auto":
        net.set_attn_implementation(job.trainer.attention)
    adapter_rank = job.adapter.adapter_rank if job.adapter else 0
    prepare_layers(net, job.trainer.activation_checkpointing, job.trainer.compile, adapter_rank)
    accumulates = job.trainer.accumulation(job.data.batch_size) > 1
    sharding = Sharding(
        bf16=context.precision == "bf16-mixed",
        weights=weights,
        seed=job.seed,
        reshard_after_forward=job.trainer.reshard_after_forward,
        cpu_offload=job.trainer.cpu_offload,
    )
    module: CausalLMModule = build(job.nodes["module"], "module")(
        net=net.train(),
        optimizer=job.optim,
        scheduler=job.scheduler,
        num_training_steps=num_training_steps,
        seed=job.seed,
        split_bf16=context.splits_weights,
        fp32_gradients=job.trainer.gradient_dtype == "float32" and accumulates,
        compute_dtype=context.compute_dtype,
        shard=sharding if context.sharded else None,
        config=job.nodes,
    )
    check_kind(module, CausalLMModule, job.nodes["module"], "module")
    return module


def load_starting_model(job: TrainingJob, context: RankContext) -> "tuple[PreTrainedModel, Path | None]":
    """Returns the model; if it is sharded and possible on the meta device, with the folder to read shards from."""
    if context.sharded and job.model.path:
        from entigraph.huggingface.models import build_meta_model, weights_folder

        folder = weights_folder(job.model.path)
        net = build_meta_model(job.model.path)
        if folder is not None and has_all_weights(net, folder):
            return net, folder
        if context.is_first and context.ranks > 1:
            print_line(
                f"warning: each of the {context.ranks} processes loads all weights in fp32: {job.model.path} cannot be "
                "read in shards, because it has no safetensors with the names of the model's parameters, or has buffers"
            )
    return job.model.build(job.vocabulary), None


def build_trainer(
    job: TrainingJob,
    context: RankContext,
    data_order: str,
    steps: int,
    callbacks: list[L.Callback],
    loggers: list[Logger],
    accumulation: int,
) -> L.Trainer:
    strategy: Any
    if context.sharded:
        hybrid = job.trainer.sharding == "hybrid"
        backend = BACKENDS[context.accelerator]
        strategy = FSDP2Strategy(backend, job.trainer.timeout_s, hybrid, job.trainer.cpu_offload)
    else:
        strategy = ExactSingleDeviceStrategy(device="cuda:0" if context.accelerator == "cuda" else "cpu")
        strategy.compiles_optimizer = job.trainer.compile == "blocks" and context.accelerator == "cuda"
    strategy.identity = {
        "data order": data_order,
        "weights": "16-bit halves" if context.splits_weights else "fp32",
        "document_mask": job.data.document_mask,
    }
    strategy.fence = Fence.of(job.out)
    async_saves = job.trainer.async_checkpoints
    strategy.async_saves = context.accelerator == "cuda" if async_saves is None else async_saves
    mixed = context.precision == "bf16-mixed" and not context.sharded  # FSDP applies mixed precision itself
    interval = job.trainer.val_check_interval
    if isinstance(interval, int):  # Lightning counts micro-batches, and rejects more than there are
        interval = min(interval, steps) * accumulation
    arguments = {
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        **job.trainer.lightning_arguments(inspect.signature(L.Trainer.__init__).parameters),
        "val_check_interval": 0.1 if interval is None and job.data.validation_fraction else interval,
        "enable_progress_bar": shows_lightning_bar(job, callbacks),
    }
    return L.Trainer(
        accelerator=context.accelerator,
        strategy=strategy,
        plugins=[cluster_environment()],
        precision="bf16-mixed" if mixed else "32-true",
        max_epochs=1,  # epochs are part of the data schedule, so that resuming needs no special case between epochs
        max_steps=steps,
        accumulate_grad_batches=accumulation,
        use_distributed_sampler=False,
        callbacks=callbacks,
        logger=loggers,
        profiler=build_profiler(job.trainer.profiler, job.out),
        default_root_dir=str(job.out),
        **arguments,
    )


def build_profiler(profiler: Any, folder: Path) -> Any:
    """Returns the profiler; one specified by name, as in Lightning, writes to `folder`."""
    if isinstance(profiler, str) and profiler in PROFILERS:
        return PROFILERS[profiler](dirpath=folder, filename="profile")
    return build(profiler, "trainer.profiler") if isinstance(profiler, Mapping) else profiler


def cluster_environment() -> ClusterEnvironment:
    """Returns the launcher's environment explicitly: Lightning would mistake a batch script for a task of srun."""
    launcher = process_group().launcher
    if launcher == "srun":
        return SLURMEnvironment(auto_requeue=False)  # PeriodicCheckpoint handles SIGTERM, and submitit requeues
    return TorchElasticEnvironment() if launcher == "torchrun" else LightningEnvironment()


def fit(trainer: L.Trainer, module: CausalLMModule, datamodule: SyntheticDataModule, checkpoint: Path | None) -> None:
    try:
        trainer.fit(
            module, datamodule=datamodule, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=False
        )
        cast(ShardedCheckpoints, trainer.strategy).wait_until_saved()  # by a callback of Lightning or the user
    except Preempted:
        raise
    except SIGTERMException:  # before the first step: Lightning's handler is active and there is nothing to save
        raise Preempted from None
    except SystemExit:
        if trainer.interrupted:  # Lightning turns KeyboardInterrupt into SystemExit
            raise KeyboardInterrupt from None
        raise


def close_wandb_loggers(loggers: list[Logger], folder: Path) -> None:
    """Ends the W&B runs in a folder, which Lightning leaves open: they would change files of the finished artifact.

    A logger that was built during a run of this package's tracker logs to that run, which continues.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger) and Path(logger.experiment.dir).is_relative_to(folder.resolve()):
            logger.experiment.finish()


def silence_libraries() -> None:
    """Hides Lightning's hints, which do not apply to our data loaders, and the progress bars of transformers.

    Also hides torch's warnings about views that are not modified in place and about single-process checkpoints, which
    are intended.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*lightning.*")
    warnings.filterwarnings("ignore", message=".*returned a view tensor.*")
    warnings.filterwarnings("ignore", message=".*assuming the intent is to (save|load) in a single process.*")
