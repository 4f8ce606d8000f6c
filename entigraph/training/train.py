"""One rank of a training run, from the newest checkpoint to the finished model. Where all parts meet."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException

from entigraph.runtime.devices import keep_freed_memory, pick_accelerator, pick_precision
from entigraph.runtime.processes import Preempted, process_group
from entigraph.runtime.progress import Progress, SilentProgress
from entigraph.storage.artifact import CHECKPOINTS, write_json
from entigraph.storage.token_shards import TokenStore
from entigraph.training.callbacks.throughput import Metrics
from entigraph.training.checkpointing import Checkpoints, ExactSingleDeviceStrategy, FSDP2Strategy, newest_checkpoint
from entigraph.training.data_schedule import DataSchedule
from entigraph.training.datamodule import SyntheticDataModule
from entigraph.training.export import export
from entigraph.training.model_checks import refuse_misfits
from entigraph.training.module import CausalLMModule
from entigraph.training.strategies import can_fill, prepare_blocks, shard
from entigraph.training.training_job import TrainingJob, build_schedule

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


@dataclass(frozen=True)
class RankContext:
    """What a rank computes on and in."""

    accelerator: str
    precision: str
    rank: int
    ranks: int

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def pairs(self) -> bool:
        return self.precision == "bf16-true"

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", torch.cuda.current_device()) if self.accelerator == "cuda" else torch.device("cpu")


def find_rank_context(job: TrainingJob) -> RankContext:
    accelerator = pick_accelerator(job.trainer.accelerator)
    here = process_group()
    ranks = here.ranks if job.trainer.ranks > 1 else 1
    precision = pick_precision(job.trainer.precision, accelerator)
    if job.trainer.precision == "auto" and precision == "bf16-mixed" and accelerator == "cuda" and ranks == 1:
        precision = "bf16-true"
    return RankContext(accelerator, precision, here.rank if ranks > 1 else 0, ranks)


def train(job: TrainingJob, progress: Progress, record: Callable[[dict[str, float]], None]) -> dict[str, Any]:
    quieten()
    place = find_rank_context(job)
    if place.accelerator == "cpu":
        keep_freed_memory()
        if job.trainer.threads:
            torch.set_num_threads(job.trainer.threads)
    synthetic, replayed = TokenStore(job.tokens), TokenStore(job.replay) if job.replay else None
    plan = build_schedule(job, synthetic, replayed)
    if place.first:
        write_json(job.out / "plan.json", plan.summary())
        progress.say(f"           {plan.told()}")
    else:
        progress = SilentProgress()
    torch.manual_seed(job.seed)
    module = built(job, place, plan)
    accumulation = job.trainer.accumulation(job.data.batch_size)
    corpus = SyntheticDataModule(
        plan,
        synthetic,
        replayed,
        job.data.batch_size // place.ranks // accumulation,
        document_mask=job.data.document_mask,
        vocabulary=job.vocabulary,
    )
    checkpoint = newest_checkpoint(job.out / CHECKPOINTS)
    with progress.bar("training", plan.samples * plan.context_length, "tokens") as advance:
        metrics = Metrics(job, plan, place.precision, record if place.first else lambda values: None, advance)
        trainer = trainer_of(
            job,
            place,
            plan,
            [metrics, Checkpoints(job.out / CHECKPOINTS, job.trainer.checkpoint_every_n_steps)],
            accumulation,
        )
        fit(trainer, module, corpus, checkpoint)
    counts = {
        **plan.summary(),
        "parameters": sum(parameter.numel() for parameter in module.net.parameters()),
        "accelerator": place.accelerator,
        "devices": place.ranks,
        "precision": place.precision,
        "resumed_from": checkpoint.name if checkpoint else None,
    }
    export(module.net, trainer.optimizers[0], job, counts, place.pairs, place.ranks)
    return counts


def built(job: TrainingJob, place: RankContext, plan: DataSchedule) -> CausalLMModule:
    """The model as this rank holds it, ready to be trained."""
    net, weights = first_weights(job, place)
    refuse_misfits(job, net)
    if job.trainer.attention != "auto":
        net.set_attn_implementation(job.trainer.attention)
    prepare_blocks(net, job.trainer.activation_checkpointing, job.trainer.compile)
    return CausalLMModule(
        net.train(),
        job.optim,
        plan.steps,
        seed=job.seed,
        pairs=place.pairs,
        accumulate=job.trainer.gradient_dtype == "float32" and job.trainer.accumulation(job.data.batch_size) > 1,
        shard=partial(shard, bf16=place.precision == "bf16-mixed", weights=weights) if place.ranks > 1 else None,
    )


def first_weights(job: TrainingJob, place: RankContext) -> "tuple[PreTrainedModel, Path | None]":
    """A model with its weights; or, for several ranks, one without and the folder that each reads its share from."""
    if place.ranks > 1 and job.model.path:
        from entigraph.huggingface.models import build_meta_model, weights_folder

        folder = weights_folder(job.model.path)
        net = build_meta_model(job.model.path)
        if folder is not None and can_fill(net, folder):
            return net, folder
    return job.model.build(job.vocabulary), None


def trainer_of(
    job: TrainingJob, place: RankContext, plan: DataSchedule, callbacks: list[L.Callback], accumulation: int
) -> L.Trainer:
    strategy: Any
    if place.ranks > 1:
        backend = BACKENDS[place.accelerator]
        strategy = FSDP2Strategy(data_parallel_size=place.ranks, tensor_parallel_size=1, process_group_backend=backend)
    else:
        strategy = ExactSingleDeviceStrategy(device="cuda:0" if place.accelerator == "cuda" else "cpu")
    strategy.identity = {
        "data order": plan.fingerprint,
        "weights": "16-bit pairs" if place.pairs else "fp32",
        "document_mask": job.data.document_mask,
    }
    in_background = job.trainer.async_checkpoints
    strategy.background = place.accelerator == "cuda" if in_background is None else in_background
    mixed = place.precision == "bf16-mixed" and place.ranks == 1  # FSDP mixes by itself
    return L.Trainer(
        accelerator=place.accelerator,
        devices=job.trainer.devices,
        num_nodes=job.trainer.num_nodes,
        strategy=strategy,
        plugins=[environment()],
        precision="bf16-mixed" if mixed else "32-true",
        max_epochs=1,  # epochs are the plan's, so that the end of one is no special case
        max_steps=plan.steps,
        accumulate_grad_batches=accumulation,
        use_distributed_sampler=False,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(job.out),
    )


def environment() -> ClusterEnvironment:
    """Who started this process; stated, because Lightning would take a batch script for a task."""
    launcher = process_group().launcher
    if launcher == "srun":
        return SLURMEnvironment(auto_requeue=False)  # SIGTERM is ours, and SLURM requeues by itself
    return TorchElasticEnvironment() if launcher == "torchrun" else LightningEnvironment()


def fit(trainer: L.Trainer, module: CausalLMModule, corpus: SyntheticDataModule, checkpoint: Path | None) -> None:
    try:
        trainer.fit(module, datamodule=corpus, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=False)
    except Preempted:
        raise
    except SIGTERMException:  # before the first step, when nobody but Lightning listens and there is nothing to save
        raise Preempted from None
    except SystemExit:
        if trainer.interrupted:  # Lightning turns Ctrl-C into an exit of its own
            raise KeyboardInterrupt from None
        raise


def quieten() -> None:
    """Lightning's advice is for its own data loaders and loggers, which are not used here; our bars are enough.

    torch warns of a view that nobody changes in place, and of a checkpoint by a single process, which is meant.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*lightning.*")
    warnings.filterwarnings("ignore", message=".*returned a view tensor.*")
    warnings.filterwarnings("ignore", message=".*assuming the intent is to (save|load) in a single process.*")
