"""The run of test_ranks.py, apart from it: its process starts without torch, like the command's own."""

from pathlib import Path

from entigraph.runtime.progress import SilentProgress
from entigraph.training import stage
from entigraph.training.data_schedule import DataConfig
from entigraph.training.optim.adamw_cosine import AdamWCosine
from entigraph.training.starting_models import PretrainedModel
from entigraph.training.trainer import TrainerSettings


def train(root: Path, name: str, document_mask: bool = False, **changes: object) -> dict[str, object]:
    settings = {
        "max_epochs": 2,
        "log_every_n_steps": 1,
        "checkpoint_every_n_steps": 5,
        "precision": "32-true",
        "accelerator": "cpu",
        "async_checkpoints": True,
        **changes,
    }
    out = root / name
    out.mkdir(exist_ok=True)
    return stage.run(
        root / "tokens",
        root / "tokenizer",
        None,
        out,
        data=DataConfig(context_length=16, batch_size=4, document_mask=document_mask),
        model=PretrainedModel(path=str(root / "first")),
        optim=settings.pop("optim", AdamWCosine(lr=1e-2)),  # type: ignore[arg-type]
        trainer=TrainerSettings(**settings),  # type: ignore[arg-type]
        vocabulary=257,
        seed=0,
        progress=SilentProgress(),
        record=lambda values: None,
    )
