"""Writes metrics.jsonl, one line per logged step, without gaps or duplicates if the run is killed and resumed."""

import json
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from entigraph.storage.durable_files import write_durably
from entigraph.storage.jsonl import json_line

METRICS = "metrics.jsonl"


class MetricsFile(Logger):
    """The logger of every run: appends each line to the file, then passes it to `record`.

    A line has `step`, `tokens_seen`, and either the training metrics of the step or `val_loss`. The argument `step` is
    that of the checkpoint to resume from: later lines are removed, because they will be written again, and earlier ones
    are recorded again, because the run may have been killed before they were.
    """

    def __init__(self, file: Path, tokens_per_step: int, step: int, record: Callable[[dict[str, float]], None]) -> None:
        super().__init__()
        self.file, self.tokens_per_step, self.record = file, tokens_per_step, record
        self.restore(step)

    @rank_zero_only
    def restore(self, step: int) -> None:
        lines = truncate_metrics(self.file, step)
        self.restored_steps = {line["step"] for line in lines if "loss" in line}
        for line in lines:
            self.record(line)

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> int:
        return 0

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration is in the manifest."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        if not values or step is None or ("loss" in values and step in self.restored_steps):
            return
        line = {"step": step, "tokens_seen": step * self.tokens_per_step, **values}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.record(line)


def truncate_metrics(file: Path, step: int) -> list[dict[str, float]]:
    """Removes the lines after a step, and from the first incomplete or unreadable one on; returns the others."""
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    earlier: list[dict[str, float]] = []
    with suppress(ValueError):  # after a power failure
        for line in lines:
            values = json.loads(line)
            earlier += [values] if values["step"] <= step else []
    write_durably(file, b"".join(map(json_line, earlier)))
    return earlier
