"""A training run of a tiny model, as test_training.py and test_exact_resume.py start it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entigraph.runtime.progress import Progress, SilentProgress
from entigraph.training import stage

sys.path.insert(0, str(Path(__file__).parent))
from component_nodes import component_nodes  # noqa: E402


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def train(
    tokens: Path,
    tokenizer: Path,
    out: Path,
    *,
    vocabulary: int = 257,
    seed: int = 0,
    progress: Progress | None = None,
    record: Callable[[dict[str, float]], None] = lambda values: None,
    origin: dict[str, str] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    return stage.run(
        tokens,
        tokenizer,
        None,
        out,
        nodes=component_nodes(**changes),
        vocabulary=vocabulary,
        seed=seed,
        progress=progress or SilentProgress(),
        record=record,
        origin=origin,
    )


def losses(out: Path) -> list[tuple[int, float]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]
