"""Lists the artifacts below paths.root (size, state, users) and removes those that are not needed.

An artifact is needed if it is

- part of a study: an artifact of its runs, or one that its settings refer to;
- part of an unfinished run: one that was interrupted or failed, or of which only some stages were run;
- a trained model without an evaluation here, or texts written by a model: they may be final results;
- a set of questions, which may have been reviewed by hand;
- an analysis (its inputs are not needed because of it: the folder of a figure is self-contained);
- an input of a needed artifact, recursively.

The others are used only by removed studies. Other files (the response cache, studies, W&B files, anything unknown) are
never touched.
"""

import json
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entigraph.errors import ArtifactError
from entigraph.storage import artifact, locks
from entigraph.storage.artifact import FORMAT_VERSIONS, Artifact
from entigraph.storage.disk import format_bytes
from entigraph.storage.durable_files import write_durably
from entigraph.storage.fingerprints import digest, flatten_cache_key

MAX_USERS_SHOWN = 3
MAX_VALUES_SHOWN = 8
MAX_VALUE_WIDTH = 60
REMOVED = ".removed"  # below the root: folders that are being deleted
UNFINISHED_RUNS = ".runs"  # below the root: a file for each unfinished run, with the names of its artifacts
DIGEST_WIDTH = len("-00000000")
BUILDING, MAY_BE_BUILDING = "being built now", "being built by another host, or interrupted there"


@dataclass(frozen=True)
class StoredArtifact:
    """An artifact folder on disk. `manifest` is None if it is unfinished or its manifest is damaged. `building` is
    empty, BUILDING or MAY_BE_BUILDING.
    """

    folder: Path
    manifest: Mapping[str, Any] | None
    bytes: int
    modified: float
    building: str
    damaged: bool

    @property
    def stage(self) -> str:
        return self.folder.parent.name

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def inputs(self) -> Mapping[str, str]:
        """The names of the input folders, by role."""
        return {role: entry["folder"] for role, entry in self.manifest["inputs"].items()} if self.manifest else {}

    @property
    def cache_key(self) -> Mapping[str, Any]:
        """The cache key in the manifest; empty if another version wrote it in an unknown format."""
        return (self.manifest or {}).get("cache_key") or {}

    @property
    def from_another_version(self) -> bool:
        return self.manifest is not None and artifact.is_from_another_version(self.manifest)

    @property
    def state(self) -> str:
        if self.building:
            return self.building
        if self.damaged:
            return "damaged"
        if self.manifest is None:
            return "unfinished"
        return "made by another version" if self.from_another_version else ""


@dataclass(frozen=True)
class Inventory:
    """All artifacts below a root.

    Attributes:
        users: For each artifact's name, the artifacts built from it and the studies that contain it.
        in_studies: The names of artifacts that are part of a study.
        unfinished_runs: The names of the artifacts of each unfinished run.
    """

    root: Path
    artifacts: Sequence[StoredArtifact]
    users: Mapping[str, Sequence[str]]
    in_studies: frozenset[str]
    unfinished_runs: Mapping[str, Sequence[str]]

    @property
    def unneeded(self) -> list[StoredArtifact]:
        return self.find_unneeded(keep_runs=True)

    def find_unneeded(self, keep_runs: bool) -> list[StoredArtifact]:
        """Returns the artifacts that nothing needs. `keep_runs`: unfinished runs need theirs."""
        by_name = {stored.name: stored for stored in self.artifacts}
        needed: set[str] = set()
        in_runs = {name for names in self.unfinished_runs.values() for name in names} if keep_runs else set()
        pending = [
            stored.name
            for stored in self.artifacts
            if self.is_wanted(stored) or artifact.artifact_folder(stored.folder).name in in_runs
        ]
        while pending:
            name = pending.pop()
            if name in by_name and name not in needed:
                needed.add(name)
                pending += by_name[name].inputs.values() if by_name[name].stage != "analysis" else ()
        return [stored for stored in self.artifacts if stored.name not in needed]

    def is_wanted(self, stored: StoredArtifact) -> bool:
        """Returns whether an artifact is needed regardless of the artifacts built from it."""
        if stored.building or stored.damaged or stored.name in self.in_studies:
            return True
        if stored.manifest is None:
            return False
        if stored.stage == "evaluation":  # an evaluation without an accuracy is never part of a study
            return not any("accuracy" in score for score in stored.manifest["counts"].values())
        if stored.stage == "training":
            return not any(user.startswith("evaluation/") for user in self.users.get(stored.name, ()))
        if stored.stage == "synthesis" and not stored.cache_key:  # texts that may have been paid for
            return True
        return stored.stage in ("analysis", "questions") or "model" in (stored.cache_key.get("llm") or {})


def take_inventory(root: Path, *, observe: bool = False) -> Inventory:
    """Returns all artifacts below `root`. `observe`: waits up to a minute to see which are built on other hosts."""
    folders = [
        folder
        for stage in FORMAT_VERSIONS
        for folder in sorted((root / stage).glob("*"))
        if artifact.enclosing_artifact(artifact.artifact_folder(folder), root)
    ]
    unfinished = {artifact.artifact_folder(folder) for folder in folders if not artifact.is_finished(folder)}
    building = observe_builds(unfinished, root) if observe else find_builds(unfinished, root)
    artifacts = [
        read_stored(folder, "" if artifact.is_finished(folder) else building.get(artifact.artifact_folder(folder), ""))
        for folder in folders
    ]
    users: defaultdict[str, list[str]] = defaultdict(list)
    in_studies: set[str] = set()
    for stored in artifacts:
        for name in sorted({*stored.inputs.values()}):
            users[name].append(f"{stored.stage}/{stored.name}")
    for study, text in read_studies(root):
        for stored in artifacts:
            if stored.name in text:
                users[stored.name].append(f"studies/{study}")
                in_studies.add(stored.name)
    return Inventory(root, artifacts, users, frozenset(in_studies), read_unfinished_runs(root))


@contextmanager
def keep_until_finished(root: Path, run: str, artifacts: Sequence[Artifact]) -> Iterator[None]:
    """Keeps the artifacts of a run from `clean` until all of them are finished, by this command or a later one.

    A body that writes nothing, because its input is invalid, leaves nothing to keep.
    """
    names = sorted({kept.folder.name for kept in artifacts})
    file = root / UNFINISHED_RUNS / f"{run}-{digest(names)}.json"
    with artifact.translate_disk_errors(root):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, artifact.encode_json(names))
    try:
        yield
    finally:
        if all(kept.complete for kept in artifacts) or not any(has_files(kept) for kept in artifacts):
            file.unlink(missing_ok=True)


def has_files(stored: Artifact) -> bool:
    return stored.complete or any(any(build.iterdir()) for build in artifact.build_folders(stored.folder))


def read_unfinished_runs(root: Path) -> dict[str, list[str]]:
    runs: dict[str, list[str]] = {}
    for file in sorted((root / UNFINISHED_RUNS).glob("*.json")):
        with suppress(FileNotFoundError):  # a running command has just finished it
            runs[file.stem] = json.loads(file.read_text(encoding="utf-8"))
    return runs


def find_builds(folders: Collection[Path], root: Path) -> dict[Path, str]:
    """Returns the unfinished artifacts that a process is building, or may be building on another host."""
    leases = {folder: locks.lease_folder(folder, root) for folder in folders}
    return {
        folder: BUILDING if locks.is_held_here(lease) else MAY_BE_BUILDING
        for folder, lease in leases.items()
        if locks.is_held(lease)
    }


def observe_builds(folders: Collection[Path], root: Path) -> dict[Path, str]:
    return dict.fromkeys(locks.held([*folders], root), BUILDING)


def read_stored(folder: Path, building: str) -> StoredArtifact:
    manifest, damaged = None, False
    if artifact.is_finished(folder):
        try:
            manifest = artifact.read_manifest(folder)
        except ArtifactError:
            damaged = True
    size, modified = 0, folder.stat().st_mtime
    for path, _, files in os.walk(folder):
        for file in files:
            try:
                status = os.stat(os.path.join(path, file), follow_symlinks=False)
            except FileNotFoundError:  # a running build removed it
                continue
            size, modified = size + status.st_size, max(modified, status.st_mtime)
    return StoredArtifact(folder, manifest, size, modified, building, damaged)


def read_studies(root: Path) -> Iterator[tuple[str, str]]:
    """Yields each study's name and the text of its files, which contain the names of its artifacts."""
    for study in sorted((root / "studies").glob("*")):
        files = [study / "settings.json", *sorted(study.glob("runs/*.json")), *sorted(study.glob("baselines/*.json"))]
        yield study.name, "\n".join(file.read_text(encoding="utf-8") for file in files if file.exists())


# --- entigraph list ---


def render_inventory(inventory: Inventory) -> Iterator[str]:
    """Yields two lines per artifact: size, age, name, state and distinguishing values; then its users."""
    differences = describe_differences(inventory.artifacts)
    for stored in inventory.artifacts:
        yield render_artifact(stored, differences)
        yield f"{'':31}used by {render_users(inventory, stored)}"
    yield render_total(inventory.root, inventory.artifacts, "artifacts")
    counts = Counter(stored.state for stored in inventory.artifacts)
    numbers = [f"{counts[state]} {state}" for state in ("unfinished", BUILDING)]
    numbers += [f"{counts[MAY_BE_BUILDING]} {MAY_BE_BUILDING}"] if counts[MAY_BE_BUILDING] else []
    yield f"{', '.join(numbers)}; see `entigraph clean`"


def render_artifact(stored: StoredArtifact, differences: Mapping[str, str]) -> str:
    summary = f"{stored.stage:<11}{format_bytes(stored.bytes):>9} {format_age(stored.modified):>8}  {stored.name}"
    return "  ".join(part for part in (summary, stored.state, differences.get(stored.name, "")) if part)


def render_users(inventory: Inventory, stored: StoredArtifact) -> str:
    users = inventory.users.get(stored.name, ())
    more = f" and {len(users) - MAX_USERS_SHOWN} more" if len(users) > MAX_USERS_SHOWN else ""
    studies_first = sorted(users, key=lambda user: not user.startswith("studies/"))
    return ", ".join(studies_first[:MAX_USERS_SHOWN]) + more if users else "nothing"


def describe_differences(artifacts: Sequence[StoredArtifact]) -> dict[str, str]:
    """Returns, for artifacts of the same stage and readable name, the cache key values in which they differ."""
    groups: defaultdict[tuple[str, str], list[StoredArtifact]] = defaultdict(list)
    for stored in artifacts:
        if stored.manifest:
            groups[stored.stage, stored.name[:-DIGEST_WIDTH]].append(stored)
    differences: dict[str, str] = {}
    for group in groups.values():
        keys = [flatten_cache_key(stored.cache_key) | input_digests(stored) for stored in group]
        spread = Counter(name for name, _ in {(name, repr(value)) for key in keys for name, value in key.items()})
        differing = sorted(name for name in spread if spread[name] > 1 or any(name not in key for key in keys))
        for stored, key in zip(group, keys, strict=True):
            values = [f"{name}={shorten(key[name])}" for name in differing if name in key]
            more = [f"and {len(values) - MAX_VALUES_SHOWN} more"] if len(values) > MAX_VALUES_SHOWN else []
            differences[stored.name] = " ".join(values[:MAX_VALUES_SHOWN] + more)
    return differences


def input_digests(stored: StoredArtifact) -> dict[str, str]:
    return {role: name[1 - DIGEST_WIDTH :] for role, name in stored.inputs.items()}


def shorten(value: Any) -> str:
    text = f"{value}"
    return text if len(text) <= MAX_VALUE_WIDTH else text[: MAX_VALUE_WIDTH - 3] + "..."


def render_total(root: Path, artifacts: Sequence[StoredArtifact], noun: str) -> str:
    return f"{len(artifacts)} {noun} below {root}: {format_bytes(sum(stored.bytes for stored in artifacts))}"


def format_age(modified: float) -> str:
    seconds = max(0.0, time.time() - modified)
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


# --- entigraph clean ---


def clean(root: Path, remove: bool, keep_runs: bool = True) -> Iterator[str]:
    """Yields a line for each artifact that is not needed, and removes them if `remove` is true. `keep_runs` is
    that of `find_unneeded`.

    Raises ArtifactError while any artifact below `root` is being built, because its inputs are recorded only when it
    finishes, and while a command runs, which may need what it has finished for its next build. Only the removal waits
    to see whether another host is building one.
    """
    commands = locks.command_names(root)
    running = (observe_builds if remove else find_builds)(commands, root).values()  # before the inventory: one may end
    patience = f"; clean=true finds out within {locks.EXPIRY_S:.0f} s"
    if running:
        here = BUILDING in running
        raise ArtifactError(
            f"a command {'is running' if here else 'of another host is running, or was interrupted'} below {root}, and "
            "may need artifacts that nothing else does; run the same command when it has ended"
            + ("" if here else patience)
        )
    inventory = take_inventory(root, observe=remove)
    for stored in inventory.artifacts:
        if stored.building:
            hint = patience if stored.building == MAY_BE_BUILDING else ""
            raise ArtifactError(
                f"{stored.folder} is {stored.building}, and its inputs are recorded only when it finishes; "
                f"run the same command when no build runs below paths.root{hint}"
            )
    unneeded, differences = inventory.find_unneeded(keep_runs), describe_differences(inventory.artifacts)
    for stored in unneeded:
        yield render_artifact(stored, differences)
    kept = [stored for stored in inventory.find_unneeded(keep_runs=False) if stored not in unneeded]
    if kept:
        runs = ", ".join(name[:-DIGEST_WIDTH] for name in inventory.unfinished_runs)
        yield render_total(root, kept, "artifacts of unfinished runs kept")
        yield f"the unfinished runs: {runs}; unfinished=true does not keep them"
    if not unneeded:
        yield f"nothing to remove: all {len(inventory.artifacts)} artifacts below {root} are needed"
    elif not remove:
        yield render_total(root, unneeded, f"of {len(inventory.artifacts)} artifacts not needed")
        yield "nothing was removed; clean=true removes them"
    for stored in unneeded if remove else ():
        remove_artifact(stored.folder, root)
    if remove:
        shutil.rmtree(root / REMOVED, ignore_errors=True)  # also what an earlier, killed removal left
        for killed in commands:
            shutil.rmtree(locks.lease_folder(killed, root), ignore_errors=True)
        if not keep_runs:
            shutil.rmtree(root / UNFINISHED_RUNS, ignore_errors=True)
        if unneeded:
            yield f"removed {render_total(root, unneeded, 'artifacts')}"


def remove_artifact(folder: Path, root: Path) -> None:
    """Moves the folder away atomically, so that a kill never leaves a partly deleted artifact that looks complete."""
    with artifact.translate_disk_errors(root), locks.lock(artifact.artifact_folder(folder), root):
        (root / REMOVED).mkdir(exist_ok=True)
        folder.rename(root / REMOVED / f"{folder.parent.name}-{folder.name}")
