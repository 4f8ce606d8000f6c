"""What lies below paths.root: how large it is, what made it and who uses it; and the removal of what nothing needs.

Needed is

- what a study shows: the artifacts of its runs, and those that its settings name;
- a trained model that no evaluation here has asked yet, and texts that a model wrote: nothing was made from them
  because they were wanted for themselves;
- questions, which somebody may have reviewed;
- a figure (its folder is whole without what it was drawn from);
- whatever those were made from, as far back as it goes.

The rest are builds that nobody goes on with, and artifacts that only such builds or studies that were removed led to.
Whatever is no artifact (the journal, studies, W&B's files, anything unknown) is not looked at.
"""

import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from entigraph.errors import ArtifactError
from entigraph.storage import artifact, locks
from entigraph.storage.artifact import FORMAT_VERSIONS
from entigraph.storage.disk import format_bytes
from entigraph.storage.fingerprints import flatten

USERS_SHOWN = 3
VALUE_WIDTH = 60
REMOVED = ".removed"  # below the root: folders on their way out
DIGEST_WIDTH = len("-00000000")


@dataclass(frozen=True)
class Entry:
    """An artifact on the disk. `manifest` is None where it is unfinished, or its manifest is damaged."""

    folder: Path
    manifest: Mapping[str, Any] | None
    bytes: int
    changed: float
    running: bool
    damaged: bool

    @property
    def stage(self) -> str:
        return self.folder.parent.name

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def inputs(self) -> Mapping[str, str]:
        """The names of the folders it was made from, by what they were to it."""
        return {part: made["folder"] for part, made in self.manifest["inputs"].items()} if self.manifest else {}

    @property
    def state(self) -> str:
        if self.running:
            return "being made now"
        return "damaged" if self.damaged else "" if self.manifest else "unfinished"


@dataclass(frozen=True)
class Inventory:
    """`users`: for each artifact's name, the artifacts made from it and the studies that show it."""

    root: Path
    entries: Sequence[Entry]
    users: Mapping[str, Sequence[str]]
    shown: frozenset[str]

    @property
    def unneeded(self) -> list[Entry]:
        by_name = {entry.name: entry for entry in self.entries}
        needed: set[str] = set()
        waiting = [entry.name for entry in self.entries if self.wanted(entry)]
        while waiting:
            name = waiting.pop()
            if name in by_name and name not in needed:
                needed.add(name)
                waiting += by_name[name].inputs.values() if by_name[name].stage != "analysis" else ()
        return [entry for entry in self.entries if entry.name not in needed]

    def wanted(self, entry: Entry) -> bool:
        """For its own sake."""
        if entry.running or entry.damaged or entry.name in self.shown:
            return True
        if entry.manifest is None:
            return False
        if entry.stage == "evaluation":  # without an accuracy no study shows it
            return not any("accuracy" in score for score in entry.manifest["counts"].values())
        if entry.stage == "training":
            return not any(user.startswith("evaluation/") for user in self.users.get(entry.name, ()))
        return entry.stage in ("analysis", "questions") or "model" in (entry.manifest["cache_key"].get("llm") or {})


def taken(root: Path) -> Inventory:
    folders = [folder for stage in FORMAT_VERSIONS for folder in sorted((root / stage).glob("*"))]
    entries = [entry_of(folder, root) for folder in folders if artifact.enclosing_artifact(folder, root)]
    users: defaultdict[str, list[str]] = defaultdict(list)
    shown: set[str] = set()
    for entry in entries:
        for name in sorted({*entry.inputs.values()}):
            users[name].append(f"{entry.stage}/{entry.name}")
    for study, text in studies(root):
        for entry in entries:
            if entry.name in text:
                users[entry.name].append(f"studies/{study}")
                shown.add(entry.name)
    return Inventory(root, entries, users, frozenset(shown))


def entry_of(folder: Path, root: Path) -> Entry:
    manifest, damaged = None, False
    if artifact.is_complete(folder):
        try:
            manifest = artifact.read_manifest(folder)
        except ArtifactError:
            damaged = True
    size, changed = 0, folder.stat().st_mtime
    for path, _, files in os.walk(folder):
        for file in files:
            try:
                found = os.stat(os.path.join(path, file), follow_symlinks=False)
            except FileNotFoundError:  # a running build's
                continue
            size, changed = size + found.st_size, max(changed, found.st_mtime)
    return Entry(folder, manifest, size, changed, is_locked(folder, root), damaged)


def studies(root: Path) -> Iterator[tuple[str, str]]:
    """Each study's name, and all that it says of itself: settings, runs, other models, with artifacts by name."""
    for study in sorted((root / "studies").glob("*")):
        files = [study / "settings.json", *sorted(study.glob("runs/*.json")), *sorted(study.glob("baselines/*.json"))]
        yield study.name, "\n".join(file.read_text(encoding="utf-8") for file in files if file.exists())


def is_locked(folder: Path, root: Path) -> bool:
    file = locks.lock_file(folder, root)
    if not file.exists():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # somebody else's outputs, to read only
        return False


# --- in words ---


def listing(found: Inventory) -> Iterator[str]:
    """Every artifact by stage: its size, age, name and what tells it from its namesakes, then who uses it."""
    apart = told_apart(found.entries)
    for entry in found.entries:
        yield line(entry, apart)
        yield f"{'':31}used by {users_of(found, entry)}"
    yield total(found.root, found.entries, "artifacts")
    running = sum(entry.running for entry in found.entries)
    unfinished = sum(entry.state == "unfinished" for entry in found.entries)
    yield f"{unfinished} unfinished, {running} being made now; stage=clean shows what nothing needs"


def line(entry: Entry, apart: Mapping[str, str]) -> str:
    parts = (f"{entry.stage:<11}{format_bytes(entry.bytes):>9} {age_of(entry.changed):>8}  {entry.name}", entry.state)
    return "  ".join(part for part in (*parts, apart.get(entry.name, "")) if part)


def users_of(found: Inventory, entry: Entry) -> str:
    users = found.users.get(entry.name, ())
    more = f" and {len(users) - USERS_SHOWN} more" if len(users) > USERS_SHOWN else ""
    studies_first = sorted(users, key=lambda user: not user.startswith("studies/"))
    return ", ".join(studies_first[:USERS_SHOWN]) + more if users else "nothing"


def told_apart(entries: Sequence[Entry]) -> dict[str, str]:
    """For artifacts of one stage and readable name, the deciding values in which they differ."""
    alike: defaultdict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.manifest:
            alike[entry.stage, entry.name[:-DIGEST_WIDTH]].append(entry)
    told: dict[str, str] = {}
    for group in alike.values():
        values = [flatten(entry.manifest["cache_key"]) | from_of(entry) for entry in group if entry.manifest]
        spread = Counter(key for key, _ in {(key, repr(value)) for each in values for key, value in each.items()})
        differing = [key for key in spread if spread[key] > 1 or any(key not in each for each in values)]
        for entry, own in zip(group, values, strict=True):
            told[entry.name] = " ".join(f"{key}={shown(own[key])}" for key in sorted(differing) if key in own)
    return told


def from_of(entry: Entry) -> dict[str, str]:
    return {part: name[1 - DIGEST_WIDTH :] for part, name in entry.inputs.items()}


def shown(value: Any) -> str:
    text = f"{value}"
    return text if len(text) <= VALUE_WIDTH else text[: VALUE_WIDTH - 3] + "..."


def total(root: Path, entries: Sequence[Entry], what: str) -> str:
    return f"{len(entries)} {what} below {root}: {format_bytes(sum(entry.bytes for entry in entries))}"


def age_of(changed: float) -> str:
    seconds = max(0.0, time.time() - changed)
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


# --- clean ---


def clean(root: Path, remove: bool) -> Iterator[str]:
    """Show what nothing needs, and with `remove` remove it. Raises ArtifactError while anything below is being made."""
    found = taken(root)
    running = [entry for entry in found.entries if entry.running]
    if running:
        raise ArtifactError(
            f"{running[0].folder} is being made, and what it needs is known when it is finished only; "
            "run the same command when nothing runs below paths.root"
        )
    unneeded, apart = found.unneeded, told_apart(found.entries)
    for entry in unneeded:
        yield line(entry, apart)
    if not unneeded:
        yield f"nothing to remove: all {len(found.entries)} artifacts below {root} are needed"
    elif not remove:
        yield total(root, unneeded, f"of {len(found.entries)} artifacts that nothing needs")
        yield "nothing was removed; clean=true removes them"
    for entry in unneeded if remove else ():
        put_away(entry.folder, root)
    if remove:
        shutil.rmtree(root / REMOVED, ignore_errors=True)  # also of a removal that was killed
        if unneeded:
            yield f"removed {total(root, unneeded, 'artifacts')}"


def put_away(folder: Path, root: Path) -> None:
    """Gone in one step: no kill leaves half an artifact that looks whole."""
    with artifact.translate_disk_errors(root), locks.lock(folder, root):
        (root / REMOVED).mkdir(exist_ok=True)
        folder.rename(root / REMOVED / f"{folder.parent.name}-{folder.name}")
