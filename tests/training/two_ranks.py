"""The training run of test_ranks.py, in a separate module so that its process starts without torch, like the CLI."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entigraph.training import stage

sys.path.insert(0, str(Path(__file__).parent))
from component_nodes import component_nodes, pretrained  # noqa: E402


def train(
    root: Path,
    name: str,
    document_mask: bool = True,
    batch_size: int = 4,
    nodes: dict[str, Any] | None = None,
    callback: str | None = None,
    record: Callable[[dict[str, float]], None] = lambda values: None,
    **trainer: Any,
) -> dict[str, Any]:
    settings = {
        "log_every_n_steps": 1,
        "checkpoint_every_n_steps": 5,
        "accelerator": "cpu",
        "async_checkpoints": True,
        **trainer,
    }
    out = root / name
    out.mkdir(exist_ok=True)
    callbacks = {"test": {"_target_": f"rank_callbacks.{callback}"}} if callback else {}
    return stage.run(
        root / "tokens",
        root / "tokenizer",
        None,
        out,
        nodes=component_nodes(
            data={"document_mask": document_mask, "batch_size": batch_size},
            model=pretrained(root / "first"),
            trainer=settings,
            callbacks=callbacks,
            **(nodes or {}),
        ),
        vocabulary=257,
        seed=0,
        record=record,
    )
