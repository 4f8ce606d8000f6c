"""The Python API: `entigraph.compose`, `plan`, `run` and `Study`. See docs/python.md.

It works inside a notebook or another program: it leaves no global Hydra state behind and never exits the process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from entigraph.config.composition import compose_config, hydra_initialized
from entigraph.config.validation import explain_composition_error
from entigraph.errors import ArtifactError, ConfigError
from entigraph.pipeline import dependencies, execution
from entigraph.pipeline.dry_run import artifact_state, render_plan
from entigraph.pipeline.loading import load_run
from entigraph.pipeline.registration import register_config
from entigraph.pipeline.run import Run
from entigraph.runtime.devices import use_expandable_segments
from entigraph.runtime.progress import TerminalProgress
from entigraph.storage import artifact
from entigraph.storage.artifact import read_json

if TYPE_CHECKING:
    import pandas as pd

    from entigraph.analysis.study_runs import StudyRun

register_config()


@dataclass(frozen=True)
class Plan:
    """What `run` would do: each artifact's folder and state, and the costs known in advance. Prints as text."""

    artifacts: Mapping[Path, str]
    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Result:
    """A finished run. `scores` are the headline scores of each evaluation task."""

    scores: Mapping[str, Mapping[str, Any]]
    model_path: Path
    report: Path | None
    disclaimer: str | None

    @property
    def accuracy(self) -> float | None:
        """The accuracy of the first task that has one."""
        return next((float(score["accuracy"]) for score in self.scores.values() if "accuracy" in score), None)


@dataclass(frozen=True)
class Study:
    """The finished runs of a study, written by `entigraph run -m` or `entigraph analyze`."""

    folder: Path

    @classmethod
    def open(cls, path: str | Path) -> "Study":
        """Opens a study folder, `outputs/studies/NAME-DIGEST`. Raises ArtifactError if it has no curve."""
        folder = Path(path).expanduser().resolve()
        if not folder.is_dir():
            raise ArtifactError(f"{folder} does not exist; expected a study folder, outputs/studies/NAME-DIGEST")
        if not (folder / "curve.json").exists():
            raise ArtifactError(f"{folder}: no curve.json; run `entigraph analyze` with the study's overrides first")
        return cls(folder)

    @classmethod
    def find(cls, name: str = "", root: str | Path = "outputs") -> "Study":
        """Opens the study `name`, with or without its digest, under `root`; without a name, the newest one.

        Raises ArtifactError with the names of the studies that have a curve.
        """
        curves = sorted(Path(root).expanduser().glob("studies/*/curve.json"), key=lambda file: file.stat().st_mtime)
        folders = [file.parent for file in curves]
        matching = [folder for folder in folders if name in ("", folder.name, folder.name.rpartition("-")[0])]
        if not matching:
            names = ", ".join(folder.name for folder in folders)
            available = f"studies with a curve: {names}" if names else "no study with a curve; run one first"
            raise ArtifactError(f"{name or 'a study'}: not found in {root}; {available}")
        return cls(matching[-1].resolve())

    @property
    def root(self) -> Path:
        """The outputs folder."""
        return self.folder.parent.parent

    @cached_property
    def finished_runs(self) -> "Sequence[StudyRun]":
        """The runs with the artifacts of their stages."""
        from entigraph.analysis.study_runs import finished_runs

        return finished_runs(self.folder, self.root)[0]

    @property
    def runs_with_graphs(self) -> "Sequence[StudyRun]":
        """The finished runs whose texts were written from entity graphs. Raises ArtifactError if there are none."""
        runs = [run for run in self.finished_runs if run.has_graphs]
        if not runs:
            raise ArtifactError(f"{self.folder.name}: no entity graphs; no finished run has augmenter=entigraph")
        return runs

    @cached_property
    def curve(self) -> dict[str, Any]:
        """The content of curve.json: points, fits, base model, notes."""
        content: dict[str, Any] = read_json(self.folder / "curve.json")
        return content

    @property
    def points(self) -> "pd.DataFrame":
        """The points of the curve: one row per augmenter and budget, averaged over seeds."""
        import pandas as pd

        return pd.DataFrame(self.curve["points"])

    @property
    def runs(self) -> "pd.DataFrame":
        """One row per run, with a column per metric of scores.json, such as "closed_book/accuracy"."""
        import pandas as pd

        runs = [dict(run) for run in self.curve["runs"]]
        return pd.DataFrame([{**run, **run.pop("scores", {})} for run in runs]).drop(columns="scores", errors="ignore")


def compose(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None) -> DictConfig:
    """Returns the configuration that the command line would compose from the same overrides.

    `config_dir` is a folder with your own config groups, like `--config-dir`. Raises ConfigError for overrides that
    Hydra cannot parse or apply, and for sweeps (`key=a,b`).
    """
    try:
        return compose_config(overrides, config_dir)
    except (HydraException, OmegaConfBaseException) as error:
        problem = explain_composition_error(str(error), overrides, lambda rest: compose_config(rest, config_dir))
        raise ConfigError(problem or str(error).strip()) from error


def plan(config: DictConfig) -> Plan:
    """Returns what running the configuration would do and cost. Raises ConfigError listing every problem."""
    with hydra_initialized():
        dependencies.LOADED.clear()  # files may have changed since the last call
        run = load_run(config)
        states = {step.artifact.folder: artifact_state(step.artifact) for step in dependencies.all_steps(run)}
        return Plan(states, "\n".join(render_plan(run)))


def run(config: DictConfig) -> Result:
    """Runs every stage of the configuration, skipping finished ones. Returns the result.

    Raises ConfigError if the configuration is invalid, and any EntigraphError that the command line would print.
    """
    with hydra_initialized():
        use_expandable_segments()
        dependencies.LOADED.clear()
        loaded = load_run(config)
        execution.run_pipeline(loaded, TerminalProgress())
        return load_result(loaded)


def load_result(run: Run) -> Result:
    folder = run.artifacts.evaluation.folder
    report = folder / "report.html"
    return Result(
        scores=artifact.read_manifest(folder)["counts"] if run.tasks else {},
        model_path=run.artifacts.training.folder / "model",
        report=report if run.tasks and report.exists() else None,
        disclaimer=run.disclaimer,
    )
