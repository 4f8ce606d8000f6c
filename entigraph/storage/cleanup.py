"""Lists the artifacts under paths.root (size, state, users) and removes those that are not needed.

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

import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from entigraph.errors import ArtifactError
from entigraph.storage import artifact, locks
from entigraph.storage.artifact import FORMAT_VERSIONS, Artifact
from entigraph.storage.data_losses import count_of
from entigraph.storage.disk import format_bytes
from entigraph.storage.durable_files import write_durably
from entigraph.storage.fingerprints import flatten_cache_key
from entigraph.storage.jsonl import parse_json

MAX_USERS_SHOWN = 3
MAX_VALUES_SHOWN = 8
MAX_VALUE_WIDTH = 60
REMOVED = ".removed"  # folders being deleted, under the root
UNFINISHED_RUNS = ".runs"  # artifact names of each interrupted command, under the root
DIGEST_WIDTH = len("-00000000")
BUILDING, MAY_BE_BUILDING = "being built now", "being built by another host, or interrupted there"
PATIENCE = f"; clean=true finds out within {locks.EXPIRY_S:.0f} s"


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
    """All artifacts under a root.

    Attributes:
        users: For each artifact's name, the artifacts built from it and the studies that contain it.
        in_studies: The names of artifacts that are part of a study.
        runs: The names of the artifacts of each run in UNFINISHED_RUNS, by file.
    """

    root: Path
    artifacts: Sequence[StoredArtifact]
    users: Mapping[str, Sequence[str]]
    in_studies: frozenset[str]
    runs: Mapping[Path, Sequence[str]]

    @cached_property
    def unfinished_runs(self) -> Mapping[Path, Sequence[str]]:
        """The runs without those that a later command has finished, whose evaluations are part of a study."""
        finished = {
            stored.name
            for stored in self.artifacts
            if stored.manifest is not None and (stored.stage != "evaluation" or self.is_wanted(stored))
        }
        return {file: names for file, names in self.runs.items() if not finished.issuperset(names)}

    @cached_property
    def names_of_unfinished_runs(self) -> Mapping[str, Sequence[str]]:
        """The readable names of the unfinished runs that continue from an artifact, by the artifact's name."""
        runs: defaultdict[str, set[str]] = defaultdict(set)
        for file, names in self.unfinished_runs.items():
            for name in names:
                runs[name].add(file.stem[:-DIGEST_WIDTH])
        return {name: sorted(of_name) for name, of_name in runs.items()}

    @property
    def unneeded(self) -> list[StoredArtifact]:
        return self.find_unneeded(keep_runs=True)

    def find_unneeded(self, keep_runs: bool) -> list[StoredArtifact]:
        """Returns the artifacts that nothing needs. `keep_runs`: unfinished runs need theirs."""
        by_name = {stored.name: stored for stored in self.artifacts}
        needed: set[str] = set()
        in_runs = self.names_of_unfinished_runs if keep_runs else {}
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
    """Returns all artifacts under `root`. `observe`: waits up to a minute to see which are built on other hosts."""
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
    return Inventory(root, artifacts, users, frozenset(in_studies), read_runs(root))


@contextmanager
def keep_until_finished(root: Path, run: str, artifacts: Sequence[Artifact]) -> Iterator[None]:
    """Keeps the artifacts of a run and their inputs from `clean` until all are finished, by this or a later command.

    A body that writes nothing, because its input is invalid, leaves nothing to keep.
    """
    inputs = {folder.name for kept in artifacts for folder in kept.inputs.values()}
    names = sorted({kept.folder.name for kept in artifacts} | inputs)
    unfinished = [kept for kept in artifacts if not kept.complete]
    file = root / UNFINISHED_RUNS / f"{run}-{uuid4().hex[: DIGEST_WIDTH - 1]}.json"
    if unfinished:
        with artifact.translate_disk_errors(root):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_durably(file, artifact.encode_json(names))
    try:
        yield
    finally:
        if not any(has_files(kept) for kept in unfinished):
            file.unlink(missing_ok=True)
    if all(kept.complete for kept in artifacts):
        for other in file.parent.glob("*.json"):  # of this command, and of earlier ones that were interrupted
            with suppress(ArtifactError, OSError):  # `clean` reports it
                if {*read_run(other)} <= {*names}:
                    other.unlink()


def has_files(stored: Artifact) -> bool:
    return stored.complete or any(locks.list_folder(build) for build in artifact.build_folders(stored.folder))


def read_runs(root: Path) -> dict[Path, list[str]]:
    runs: dict[Path, list[str]] = {}
    for file in sorted((root / UNFINISHED_RUNS).glob("*.json")):
        with suppress(FileNotFoundError):  # a running command has just finished it
            runs[file] = read_run(file)
    return runs


def read_run(file: Path) -> list[str]:
    """Returns the names of the artifacts of an unfinished run. Raises ArtifactError if the file is damaged."""
    try:
        names = parse_json(file.read_text(encoding="utf-8"))
    except ValueError:
        names = None
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return names
    raise ArtifactError(
        f"{file} is damaged: expected a JSON list with the artifacts of an unfinished run; delete the file, and finish "
        "the run before `entigraph clean clean=true`, which may remove its artifacts otherwise"
    )


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
    yield render_total(inventory.root, inventory.artifacts)
    counts = Counter(stored.state for stored in inventory.artifacts)
    numbers = [f"{counts[state]} {state}" for state in ("unfinished", BUILDING)]
    numbers += [f"{counts[MAY_BE_BUILDING]} {MAY_BE_BUILDING}"] if counts[MAY_BE_BUILDING] else []
    yield f"{', '.join(numbers)}; `entigraph clean` lists the artifacts that are not needed"


def render_artifact(stored: StoredArtifact, differences: Mapping[str, str]) -> str:
    summary = f"{stored.stage:<11}{format_bytes(stored.bytes):>9} {format_age(stored.modified):>8}  {stored.name}"
    return "  ".join(part for part in (summary, stored.state, differences.get(stored.name, "")) if part)


def render_users(inventory: Inventory, stored: StoredArtifact) -> str:
    runs = inventory.names_of_unfinished_runs.get(artifact.artifact_folder(stored.folder).name, ())
    users = [*inventory.users.get(stored.name, ()), *(f"unfinished run {run}" for run in runs)]
    more = f" and {len(users) - MAX_USERS_SHOWN} more" if len(users) > MAX_USERS_SHOWN else ""
    studies_first = sorted(users, key=lambda user: not user.startswith(("studies/", "unfinished ")))
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


def render_total(root: Path, artifacts: Sequence[StoredArtifact], description: str = "") -> str:
    total = format_bytes(sum(stored.bytes for stored in artifacts))
    return f"{count_of(len(artifacts), 'artifact')}{description} under {root}: {total}"


def format_age(modified: float) -> str:
    seconds = max(0.0, time.time() - modified)
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


# --- entigraph clean ---


def clean(root: Path, remove: bool, keep_runs: bool = True) -> Iterator[str]:
    """Yields a line for each artifact that is not needed, and removes them if `remove` is true. `keep_runs` is
    described in `find_unneeded`.

    Raises ArtifactError while any artifact under `root` is being built, because its inputs are recorded only when it
    finishes, and while a command runs, which may need what it has finished for its next build. Only the removal waits
    to see whether another host is building one.
    """
    commands = locks.command_names(root)
    check_not_running(commands, root, observe=remove)  # before the inventory: one may end
    inventory = take_inventory(root, observe=remove)
    check_not_running({*locks.command_names(root)} - {*commands}, root, observe=remove)  # one may have started
    for stored in inventory.artifacts:
        if stored.building:
            hint = PATIENCE if stored.building == MAY_BE_BUILDING else ""
            raise ArtifactError(
                f"{stored.folder} is {stored.building}, and its inputs are recorded only when it finishes; "
                f"run the same command when no build runs under paths.root{hint}"
            )
    unneeded, differences = inventory.find_unneeded(keep_runs), describe_differences(inventory.artifacts)
    for stored in unneeded:
        yield render_artifact(stored, differences)
    kept = [stored for stored in inventory.find_unneeded(keep_runs=False) if stored not in unneeded]
    if kept:
        runs = ", ".join(sorted({file.stem[:-DIGEST_WIDTH] for file in inventory.unfinished_runs}))
        yield render_total(root, kept, " of unfinished runs kept")
        yield f"the unfinished runs: {runs}; unfinished=true lists these too"
    if not unneeded:
        yield f"nothing to remove: all {len(inventory.artifacts)} artifacts under {root} are needed"
    elif not remove:
        total = format_bytes(sum(stored.bytes for stored in unneeded))
        yield f"{len(unneeded)} of {count_of(len(inventory.artifacts), 'artifact')} not needed under {root}: {total}"
        yield "nothing was removed; clean=true removes them"
    for stored in unneeded if remove else ():
        remove_artifact(stored.folder, root)
    if remove:
        shutil.rmtree(root / REMOVED, ignore_errors=True)  # also what an earlier, killed removal left
        for killed in commands:
            shutil.rmtree(locks.lease_folder(killed, root), ignore_errors=True)
        for file in inventory.runs:
            if not keep_runs or file not in inventory.unfinished_runs:
                file.unlink(missing_ok=True)
        if unneeded:
            yield f"removed {render_total(root, unneeded)}"


def check_not_running(commands: Collection[Path], root: Path, observe: bool) -> None:
    """Raises ArtifactError if one of the commands is running."""
    if running := (observe_builds if observe else find_builds)(commands, root).values():
        here = BUILDING in running
        raise ArtifactError(
            f"a command {'is running' if here else 'of another host is running, or was interrupted'} under {root}, and "
            "may need artifacts that nothing else does; run the same command when it has ended"
            + ("" if here else PATIENCE)
        )


def remove_artifact(folder: Path, root: Path) -> None:
    """Moves the folder away atomically, so that a kill never leaves a partly deleted artifact that looks complete."""
    with artifact.translate_disk_errors(root), locks.lock(artifact.artifact_folder(folder), root):
        (root / REMOVED).mkdir(exist_ok=True)
        folder.rename(root / REMOVED / f"{folder.parent.name}-{folder.name}")
