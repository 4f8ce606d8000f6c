"""Logs metrics, tables, figures and lineage to Weights & Biases, offline unless WANDB_MODE is set.

Texts of documents and synthetic corpora are uploaded only if `log_texts` is set, and weights never: artifacts are
references to their manifest, by path and digest. Metrics are also on disk.
"""

import glob
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entigraph.errors import ConfigError
from entigraph.storage.artifact import MANIFEST, read_manifest
from entigraph.storage.fingerprints import flatten
from entigraph.tracking.base import RunInfo, Tracker

# The W&B artifact types of stages, if different from the stage's name.
ARTIFACT_TYPES = {"synthesis": "texts", "training": "model", "evaluation": "scores", "analysis": "curve"}


@dataclass(frozen=True, kw_only=True)
class Wandb:
    """Weights & Biases. Offline by default, without account or network; WANDB_MODE=online uploads."""

    project: str = "entigraph"
    entity: str | None = None
    log_texts: bool = False

    @property
    def mode(self) -> str:
        return os.environ.get("WANDB_MODE", "offline")

    def publish(self, study: str, results: str) -> str | None:
        """Creates or updates the study's W&B report. Returns a line with its URL or the error; None if offline."""
        if self.mode != "online":
            return None
        from entigraph.tracking.wandb_report import publish

        return publish(study, results, self.project, self.entity)

    @contextmanager
    def run(self, info: RunInfo, root: Path) -> Iterator[Tracker]:
        """Yields the tracker of a run. Raises ConfigError if wandb cannot start (online without an API key)."""
        import wandb

        if "weave" not in sys.modules:  # else W&B recommends it to every run that imports openai
            os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
        last_values = read_last_values(root, info.id) if self.mode == "offline" else {}
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
                mode=self.mode,  # type: ignore[arg-type]
                resume="allow",
                reinit="finish_previous",
                settings=wandb.Settings(
                    console="off", silent=True, save_code=False, disable_git=True, x_disable_stats=True
                ),
            )
        except wandb.errors.Error as error:
            raise ConfigError(
                f"logger: W&B cannot start: {error}. Set WANDB_API_KEY, or WANDB_MODE=offline, or logger=none"
            ) from None
        run.define_metric("training/step")
        run.define_metric("training/*", step_metric="training/step")
        if run.resumed:
            last_values = {**dict(run.summary), "_step": run.starting_step - 1}
        try:
            yield WandbTracker(run, self.log_texts, last_values)
        except BaseException:
            run.finish(exit_code=1)
            raise
        run.finish()


def read_last_values(root: Path, run_id: str) -> dict[str, Any]:
    """Returns the last logged values of an interrupted run, read with W&B's CLI; empty if there was none.

    They come from the history and not from the summary, which a killed run may have written up to a later step.
    Offline, a resumed run writes another file next to the first; W&B uploads both as one run.
    """
    files = sorted((root / "wandb").glob(f"offline-run-*-{glob.escape(run_id)}/run-*.wandb"))
    values: dict[str, Any] = {}
    for file in files:
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        output = subprocess.run(command, capture_output=True, text=True).stdout
        for record in map(json.loads, filter(None, output.split("\n"))):  # none for a run that was killed at its start
            if record["type"] == "history":
                values |= record["history"].get("item", record["history"])
    return values


class WandbTracker(Tracker):
    """`last_values` contains the last value of each key that the run logged before it was interrupted.

    Steps that training repeats from its checkpoint are not logged twice, and W&B's step never decreases.
    """

    def __init__(self, run: Any, log_texts: bool, last_values: Mapping[str, Any]) -> None:
        self.run, self.log_texts, self.last_values = run, log_texts, last_values
        self.step = int(last_values.get("_step", -1)) + 1

    def log(self, values: Mapping[str, Any], prefix: str = "") -> None:
        if "step" in values and values["step"] <= self.last_values.get(f"{prefix}step", -1):
            return
        self.write({f"{prefix}{name}": value for name, value in values.items()})

    def write(self, values: Mapping[str, Any]) -> None:
        self.run.log(dict(values), step=self.step, commit=True)
        self.step += 1

    def summarize(self, values: Mapping[str, Any]) -> None:
        self.run.summary.update(dict(values))

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        self.write({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def log_line_plot(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        x, y, series = columns
        self.write({name: wandb.plot.line(table, x, y, series, title=f"{y} over {x} by {series}")})

    def log_image(self, name: str, path: Path) -> None:
        import wandb

        self.write({name: wandb.Image(str(path))})

    def log_lineage(self, output: Path, inputs: Iterable[Path]) -> None:
        for folder in sorted({*inputs}):
            # Like `use_artifact` for an artifact that is not on the server yet, which raises an error offline.
            self.run._log_artifact(artifact_reference(folder), is_user_created=True, use_after_commit=True)
        self.run.log_artifact(artifact_reference(output))


def artifact_reference(folder: Path) -> Any:
    """Returns a W&B artifact that contains only a reference to a complete artifact's manifest (path, size and digest).

    The manifest contains the SHA-256 of every file, so its digest identifies all of them.
    """
    import wandb

    manifest = read_manifest(folder)
    counts = {name: value for name, value in flatten(manifest["counts"]).items() if isinstance(value, int | float)}
    stage = manifest["stage"]
    artifact = wandb.Artifact(
        f"{stage}-{folder.name}",
        ARTIFACT_TYPES.get(stage, stage),
        metadata={"folder": str(folder), "key": manifest["key"], "counts": counts, "versions": manifest["versions"]},
    )
    artifact.add_reference((folder / MANIFEST).as_uri())
    return artifact
