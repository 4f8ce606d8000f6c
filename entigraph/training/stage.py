"""Stage 4: token shards → model/ (a Hugging Face folder with its tokenizer), metrics.jsonl, plan.json."""

import logging
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entigraph.artefact import SCRATCH, write_json
from entigraph.errors import ArtefactError, ConfigError
from entigraph.hardware import pick_accelerator, pick_precision
from entigraph.progress import Progress
from entigraph.shards import TokenStore
from entigraph.training.plan import Plan
from entigraph.training.settings import AdamWCosine, Data, Model, TrainerSettings

if TYPE_CHECKING:
    import lightning as L
    from transformers import PreTrainedModel

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def run(
    tokens: Path,
    tokenizer: Path,
    replay: Path | None,
    out: Path,
    *,
    data: Data,
    model: Model,
    optim: AdamWCosine,
    trainer: TrainerSettings,
    vocabulary: int,
    seed: int,
    progress: Progress,
    record: Callable[[dict[str, float]], None],
) -> dict[str, Any]:
    """Train, from the newest checkpoint in `out` where there is one, and leave a finished model.

    Raises ConfigError where model, tokens and context do not fit together, ArtefactError for a damaged checkpoint.
    """
    import lightning as L
    import torch

    from entigraph.training.callbacks import Checkpoints, Metrics, newest_checkpoint
    from entigraph.training.data import SyntheticCorpus
    from entigraph.training.module import CausalLM

    quieten()
    accelerator = pick_accelerator(trainer.accelerator)
    precision = pick_precision(trainer.precision, accelerator)
    if accelerator == "cpu" and trainer.threads:
        torch.set_num_threads(trainer.threads)
    synthetic, replayed = TokenStore(tokens), TokenStore(replay) if replay and data.replay_rate else None
    plan = Plan(
        synthetic_tokens=len(synthetic),
        replay_tokens=len(replayed) if replayed else 0,
        context_length=data.context_length,
        batch_size=data.batch_size,
        epochs=trainer.max_epochs,
        replay_rate=data.replay_rate,
        seed=seed,
        max_steps=trainer.max_steps,
    )
    write_json(out / "plan.json", plan.summary())
    torch.manual_seed(seed)
    net = model.build(vocabulary)
    refuse_long_context(net, data.context_length)
    accumulation = trainer.accumulation(data.batch_size)
    checkpoint = newest_checkpoint(out / SCRATCH)
    with progress.bar("training", plan.samples * plan.context_length, "tokens") as advance:
        lightning_trainer = L.Trainer(
            accelerator=accelerator,
            devices=1,
            precision=precision,  # type: ignore[arg-type]
            max_epochs=1,  # epochs are the plan's, so that the end of one is no special case
            max_steps=plan.steps,
            accumulate_grad_batches=accumulation,
            use_distributed_sampler=False,
            callbacks=[
                Metrics(out / "metrics.jsonl", plan, trainer.log_every_steps, record, advance),
                Checkpoints(out / SCRATCH, trainer.checkpoint_every_steps),
            ],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=str(out),
        )
        corpus = SyntheticCorpus(plan, synthetic, replayed, data.batch_size // accumulation)
        fit(lightning_trainer, CausalLM(net, optim, plan.steps), corpus, checkpoint)
    export(net, tokenizer, out / "model")
    return {
        **plan.summary(),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "accelerator": accelerator,
        "precision": precision,
        "resumed_from": checkpoint.stem if checkpoint else None,
    }


def fit(trainer: "L.Trainer", module: Any, corpus: Any, checkpoint: Path | None) -> None:
    try:
        trainer.fit(module, datamodule=corpus, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=False)
    except SystemExit:
        if trainer.interrupted:  # Lightning turns Ctrl-C into an exit of its own
            raise KeyboardInterrupt from None
        raise
    except (EOFError, pickle.UnpicklingError, RuntimeError, KeyError) as error:
        if checkpoint and not readable(checkpoint):
            raise ArtefactError(
                f"{checkpoint} is damaged; remove {checkpoint.parent} and run the same command"
            ) from error
        raise


def readable(checkpoint: Path) -> bool:
    import torch

    try:
        torch.load(checkpoint, map_location="cpu", weights_only=False)
    except Exception:
        return False
    return True


def refuse_long_context(net: "PreTrainedModel", context_length: int) -> None:
    positions = getattr(net.config, "max_position_embeddings", None)
    if positions and context_length > positions:
        raise ConfigError(f"data.context_length: {context_length:,} found; the model has {positions:,} positions")


def export(net: "PreTrainedModel", tokenizer: Path, folder: Path) -> None:
    net.save_pretrained(str(folder))
    for name in TOKENIZER_FILES:
        if (tokenizer / name).exists():
            shutil.copyfile(tokenizer / name, folder / name)


def quieten() -> None:
    """Lightning's advice is for its own data loaders and loggers, which are not used here; our bars are enough."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*lightning.*")
