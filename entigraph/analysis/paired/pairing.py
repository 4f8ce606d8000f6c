"""Any two finished evaluations beside one another → paired.json, paired.html, paired.png, in a folder of their own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from entigraph.analysis.drawings import shown
from entigraph.analysis.settings import check_confidence
from entigraph.analysis.study_runs import label_of_documents
from entigraph.errors import ConfigError
from entigraph.storage.artifact import Artifact, is_complete, read_manifest, write_json
from entigraph.tracking.base import Tracker

SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Paired:
    """`one` minus `other`: two evaluations by their folders below evaluation/, by the beginnings of those names, or by
    paths. Null: that of this configuration, and that of its starting model. `task` null: the first that both have.
    """

    name: ClassVar[str] = "paired"
    one: str | None = None
    other: str | None = None
    task: str | None = None
    confidence: float = 0.9
    resamples: int = 2000

    def __post_init__(self) -> None:
        check_confidence(self.confidence)
        if self.resamples < 1:
            raise ConfigError(f"analysis.resamples: {self.resamples} found, 1 or more expected")


def artifact_of(settings: Paired, root: Path, own: Artifact | None, base: Artifact | None) -> Artifact:
    """Raises ConfigError where one of the two is not there, or both are one."""
    one = evaluation("one", settings.one, root, own)
    other = evaluation("other", settings.other, root, base)
    if one == other:
        raise ConfigError(f"analysis.one, analysis.other: both are {one.name}; name two evaluations")
    task = common_task(settings.task, one, other)
    cache_key = {"task": task, "confidence": settings.confidence, "resamples": settings.resamples}
    return Artifact(root, "analysis", settings.name, cache_key, {"one": one, "other": other})


def evaluation(key: str, name: str | None, root: Path, default: Artifact | None) -> Path:
    if name is None and default is not None and default.complete:
        return default.folder
    if (
        name is not None
        and is_complete(given := Path(name).expanduser())
        and read_manifest(given)["stage"] == "evaluation"
    ):
        return given.resolve()
    finished = sorted(folder for folder in (root / "evaluation").glob("*") if is_complete(folder))
    found = [folder for folder in finished if name and folder.name.startswith(name)]
    exact = [folder for folder in found if folder.name == name]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        state = f"{name!r} begins the names of {len(found)} evaluations"
    else:
        lacking = "not set, and this configuration has none (a sweep has many, a model from random weights no start)"
        state = f"{name!r} is no finished evaluation" if name else lacking
    known = [folder.name for folder in found or finished]
    listed = ", ".join(known[:SHOWN]) + (f" and {len(known) - SHOWN:,} more" if len(known) > SHOWN else "")
    raise ConfigError(f"analysis.{key}: {state}; name one of {root / 'evaluation'}: {listed or 'there is none yet'}")


def common_task(task: str | None, one: Path, other: Path) -> str:
    mine, theirs = (
        [
            name
            for name in json.loads((folder / "scores.json").read_text("utf-8"))
            if f"answers-{name}.jsonl" in files(folder)
        ]
        for folder in (one, other)
    )
    both = [name for name in mine if name in theirs]
    if task in both or (task is None and both):
        return task or both[0]
    asked = f"both were asked {', '.join(both)}" if both else "they were asked nothing in common"
    raise ConfigError(f"analysis.task: {task!r} found; {asked} ({one.name}, {other.name})")


def files(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_manifest(folder)["files"]
    return found


def run(settings: Paired, found: Artifact, tracker: Tracker) -> list[str]:
    """Compare them unless that was done; returns what it tells, and where it is."""

    def draw(out: Path) -> list[str]:
        from entigraph.analysis.paired.paired_figure import paired_figure
        from entigraph.analysis.paired.paired_tests import Answered, compared, told, track
        from entigraph.analysis.study_report import write_paired

        task = found.cache_key["task"]
        one, other = (Answered(folder.name, folder, task) for folder in found.inputs.values())
        asked_about = (
            one.folder.parents[1] / "corpus" / read_manifest(one.folder)["inputs"][f"questions_{task}"]["folder"]
        )
        pair = {
            **compared(one, other, settings.confidence, settings.resamples),
            "label": label_of_documents(asked_about) if is_complete(asked_about) else None,
        }
        write_json(out / "paired.json", pair)
        paired_figure(pair, out)
        write_paired(out, pair)
        track(tracker, [pair])
        return told(pair)

    return shown(settings.name, found, draw, tracker)
