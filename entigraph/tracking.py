"""The only importer of wandb: metrics, tables and figures of a run, offline unless WANDB_MODE says otherwise.

No text of a document or of a synthetic corpus is uploaded unless `log_texts` is set. Metrics are also on disk.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from entigraph.errors import ConfigError


@dataclass(frozen=True)
class RunInfo:
    """What a run is called: `id` stays the same for a job however often it is resumed."""

    id: str
    name: str
    group: str
    job_type: str
    tags: Sequence[str]
    config: Mapping[str, Any]


class Tracker(Protocol):
    log_texts: bool

    def log(self, values: Mapping[str, Any], prefix: str = "") -> None: ...

    def summarise(self, values: Mapping[str, Any]) -> None: ...

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...

    def image(self, name: str, path: Path) -> None: ...


class NoTracker:
    log_texts = False

    def log(self, values: Mapping[str, Any], prefix: str = "") -> None:
        pass

    def summarise(self, values: Mapping[str, Any]) -> None:
        pass

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        pass

    def image(self, name: str, path: Path) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class NoLogger:
    """Tracks nothing; metrics are in metrics.jsonl and scores.json all the same."""

    @contextmanager
    def run(self, info: RunInfo, root: Path) -> Iterator[Tracker]:
        yield NoTracker()


@dataclass(frozen=True, kw_only=True)
class Wandb:
    """Weights & Biases. Offline by default, with no account and no network; WANDB_MODE=online uploads."""

    project: str = "entigraph"
    entity: str | None = None
    log_texts: bool = False

    @contextmanager
    def run(self, info: RunInfo, root: Path) -> Iterator[Tracker]:
        """Raises ConfigError where wandb refuses to start (online without a key)."""
        import wandb

        try:
            run = wandb.init(
                project=self.project,
                entity=self.entity,
                id=info.id,
                name=info.name,
                group=info.group,
                job_type=info.job_type,
                tags=list(info.tags),
                config=dict(info.config),
                dir=str(root),
                mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
                resume="allow",
                reinit="finish_previous",
                settings=wandb.Settings(
                    console="off", silent=True, save_code=False, disable_git=True, x_disable_stats=True
                ),
            )
        except wandb.errors.Error as error:
            raise ConfigError(
                f"logger: W&B does not start: {error}. Set WANDB_API_KEY, or WANDB_MODE=offline, or logger=none"
            ) from None
        run.define_metric("training/step")
        run.define_metric("training/*", step_metric="training/step")
        try:
            yield WandbTracker(run, self.log_texts)
        except BaseException:
            run.finish(exit_code=1)
            raise
        run.finish()


class WandbTracker:
    def __init__(self, run: Any, log_texts: bool) -> None:
        self.run, self.log_texts = run, log_texts

    def log(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self.run.log({f"{prefix}{name}": value for name, value in values.items()})

    def summarise(self, values: Mapping[str, Any]) -> None:
        self.run.summary.update(dict(values))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        self.run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def image(self, name: str, path: Path) -> None:
        import wandb

        self.run.log({name: wandb.Image(str(path))})
