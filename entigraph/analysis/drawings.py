"""Figures that are no study's curve: each a sealed folder below analysis/, made once for what decides it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from entigraph.analysis.settings import Drawing
from entigraph.analysis.study_runs import finished
from entigraph.storage.artifact import Artifact, build_artifact
from entigraph.tracking.base import Tracker

SUMMARY = "summary.txt"


def artifact_of(settings: Drawing, study: Path, root: Path) -> Artifact:
    """Where the drawing is: another folder whenever a run is added to the study that it reads."""
    runs = finished(study, root)[0] if settings.reads_runs else []
    inputs = {
        f"{part}/{run.name}": run.folder(part)
        for run in runs
        for part in ("corpus", "synthesis", "tokens", "evaluation", "baseline")
        if part in run.member
    }
    name = f"{settings.name}-{study.name.rsplit('-', 1)[0]}" if runs else settings.name
    cache_key: dict[str, Any] = asdict(settings)  # type: ignore[call-overload]
    return Artifact(root, "analysis", name, {"drawing": settings.name, **cache_key}, inputs)


def run(settings: Drawing, found: Artifact, study: Path, tracker: Tracker) -> list[str]:
    """Draw it unless it is there; returns what it tells, and where it is."""
    runs = finished(study, found.root)[0] if settings.reads_runs and not found.complete else []
    return shown(settings.name, found, lambda out: settings.draw(runs, out), tracker)


def shown(name: str, found: Artifact, draw: Callable[[Path], Sequence[str]], tracker: Tracker) -> list[str]:
    """What `draw` told when the folder was made, by this command or an earlier one, and the files of that name."""

    def work(out: Path) -> dict[str, Any]:
        (out / SUMMARY).write_text("\n".join(draw(out)) + "\n", encoding="utf-8")
        tracker.image(name, out / f"{name}.png")
        return {}

    build_artifact(found, work)
    told = (found.folder / SUMMARY).read_text(encoding="utf-8").splitlines()
    return [*told, "", *(str(file) for file in sorted(found.folder.glob(f"{name}.*")))]
