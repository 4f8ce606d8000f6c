"""An artifact is a folder that a stage writes and then finalizes by writing manifest.json last.

outputs/tokens/fictional-entigraph-25000-1a2b3c4d/
    shard-00000.bin
    manifest.json      <- exists only when complete; holds the cache key, the inputs, counts and file checksums

The eight hex digits are a digest of everything that determines the content: the cache key of the stage and the names
of its input folders, which end in digests too. The folder of a stage is therefore known before anything has run, two
configurations share a folder only if they would write the same content, and a sweep reuses finished artifacts.

outputs/tokens/fictional-entigraph-25000-1a2b3c4d.building-2/
    the private folder of the process that builds it, here with the second lease (storage.locks)

A finished build is renamed to its artifact's folder, and the first of several renames wins. The next process that gets
the lease continues in the folder that an interrupted one left, after renaming it.
"""

import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

from entigraph.errors import ArtifactError, EntigraphError
from entigraph.storage import locks
from entigraph.storage.durable_files import UNFINISHED, sync_folder, sync_tree, write_durably
from entigraph.storage.fingerprints import checksum, differing_values, digest, fingerprint, flatten
from entigraph.storage.jsonl import parse_json
from entigraph.storage.locks import Lease, lock

MANIFEST = "manifest.json"
MIN_FREE_BYTES = 8 << 20
CHECKPOINTS = "checkpoints"  # state of resumable stages; removed when the artifact is finalized
BUILDING = ".building-"
# Increment by hand whenever a stage writes different content for the same configuration.
FORMAT_VERSIONS: Mapping[str, int] = {
    "corpus": 3,
    "questions": 3,
    "retrieval": 3,
    "tokenizer": 1,
    "synthesis": 5,
    "tokens": 1,
    "training": 3,
    "evaluation": 9,
    "analysis": 9,
}
PACKAGES = ("entigraph", "torch", "lightning", "transformers", "tokenizers", "hydra-core", "numpy")

# Of errors that are no OSError: of tokenizers and safetensors, such as an exceeded quota, and of torch.save.
LIBRARY_DISK_ERROR = re.compile(r"\(os error (?!2\))\d+\)|PytorchStreamWriter|\. unexpected pos \d+|iostream error")

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Artifact:
    """A folder identified by everything that determines its content; the folder need not exist yet.

    Attributes:
        root: `paths.root`.
        stage: The first level under `root`.
        name: The readable part of the folder's name.
        cache_key: The configuration values that determine the content.
        inputs: The folders of the input artifacts, by role.
    """

    root: Path
    stage: str
    name: str
    cache_key: Values
    inputs: Mapping[str, Path]

    @property
    def key(self) -> str:
        return content_key(self.stage, self.cache_key, {name: folder.name for name, folder in self.inputs.items()})

    @property
    def folder(self) -> Path:
        return self.root / self.stage / f"{self.name}-{self.key}"

    @property
    def complete(self) -> bool:
        return is_complete(self.folder)

    @property
    def unfinished(self) -> bool:
        """Returns whether an unfinished build exists."""
        if self.complete:
            return False
        return self.folder.exists() or (
            locks.lease_folder(self.folder, self.root).exists() and bool(build_folders(self.folder))
        )


def content_key(stage: str, cache_key: Values, inputs: Mapping[str, str]) -> str:
    """Returns the digest at the end of a folder's name. `inputs` maps roles to folder names."""
    return digest({"stage": stage, "cache_key": cache_key, "inputs": inputs, "format": FORMAT_VERSIONS[stage]})


def build_artifact(
    artifact: Artifact,
    write: Callable[[Path], Values],
    *,
    resumable: bool = False,
    waiting: Callable[[], None] = lambda: None,
    builder: str = "",
    in_place: bool = False,
) -> dict[str, Any]:
    """Builds and finalizes the artifact unless it is complete; returns its manifest.

    One process builds; others wait for it, and call `waiting` once before they do. Files of an interrupted build are
    removed first, unless the stage is `resumable` and continues from them.

    Args:
        artifact: The artifact to build.
        write: Writes the content into the folder that it receives, and returns the counts for the manifest.
        resumable: Whether `write` continues from the files of an interrupted build.
        waiting: Called before this process waits for another one.
        builder: Names the private folder if other processes must find it; by default it has the number of the lease.
        in_place: Writes to the artifact's folder, which also holds other files, and replaces its manifest.

    Raises:
        ArtifactError: An input changed since the artifact was built, or the disk cannot be read or written.
    """
    if not artifact.complete:
        with lock(artifact.folder, artifact.root, waiting, unless=lambda: artifact.complete) as lease:
            locks.list_folder(artifact.folder.parent)  # a network file system may remember that there was no manifest
            if lease and not artifact.complete:
                if in_place:
                    return fill_and_finalize(artifact, write, artifact.folder, lease)
                folder = build_folder(artifact.folder, builder or str(lease.number))
                with explain_lost_lease(artifact.folder, lease):
                    build_privately(artifact, write, folder, lease, resumable)
    manifest = read_manifest(artifact.folder)
    check_unchanged(artifact, manifest)
    return manifest


def build_privately(
    artifact: Artifact, write: Callable[[Path], Values], folder: Path, lease: Lease, resumable: bool
) -> None:
    """Fills the private folder and renames it to the artifact's folder."""
    with translate_disk_errors(folder):
        adopt_interrupted_build(artifact.folder, folder, lease, resumable)
    if not is_complete(folder):  # otherwise a process was killed just before it renamed the folder
        fill_and_finalize(artifact, write, folder, lease)
    with translate_disk_errors(folder):
        publish(folder, artifact.folder)


def fill_and_finalize(
    artifact: Artifact, write: Callable[[Path], Values], folder: Path, lease: Lease
) -> dict[str, Any]:
    inputs = {name: {"folder": folder.name, "digest": verify(folder)} for name, folder in artifact.inputs.items()}
    started = datetime.now(UTC)
    with translate_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        counts = write(folder)
        if not lease.is_current:  # the successor may have renamed the folder while files were written to it
            raise lost_lease_error(artifact.folder)
        finalize(
            folder,
            {
                "stage": artifact.stage,
                "key": artifact.key,
                "cache_key": artifact.cache_key,
                "inputs": inputs,
                "counts": counts,
                "seconds": round((datetime.now(UTC) - started).total_seconds(), 1),
                "created": started.isoformat(timespec="seconds"),
                "versions": package_versions(),
            },
        )
    return read_manifest(folder)


@contextmanager
def explain_lost_lease(folder: Path, lease: Lease) -> Iterator[None]:
    """Replaces the errors that follow from a lost lease, such as missing files, by one that names the reason."""
    try:
        yield
    except (EntigraphError, OSError) as error:
        if lease.is_current:
            raise
        raise lost_lease_error(folder) from error


def lost_lease_error(folder: Path) -> ArtifactError:
    return ArtifactError(
        f"another process has taken over the build of {folder}, because this one did not respond for "
        f"{locks.EXPIRY_S:.0f} s; run the same command to use its result"
    )


def build_folder(folder: Path, builder: str) -> Path:
    """Returns the private folder in which a builder fills an artifact's folder."""
    return folder.with_name(f"{folder.name}{BUILDING}{builder}")


def build_folders(folder: Path) -> list[Path]:
    """Returns the folders of unfinished builds of an artifact, the latest last."""
    builds = [other for other in locks.list_folder(folder.parent) if other.name.startswith(folder.name + BUILDING)]
    return sorted(builds, key=lambda build: (build.stat().st_mtime, build.name))


def artifact_folder(folder: Path) -> Path:
    """Returns the artifact's folder that a build folder becomes; other folders unchanged."""
    return folder.with_name(folder.name.partition(BUILDING)[0])


@dataclass(frozen=True)
class Fence:
    """The lease under which the processes of a stage fill a folder. Folders outside artifacts have number 0."""

    folder: Path
    leases: Path
    number: int

    @classmethod
    def of(cls, folder: Path) -> "Fence":
        final = artifact_folder(folder)
        leases = locks.lease_folder(final, folder.parent.parent)
        builder = folder.name.partition(BUILDING)[2]
        return cls(final, leases, int(builder) if builder.isdigit() else locks.current_number(leases))

    def check(self) -> None:
        """Raises ArtifactError if another process has taken over."""
        if not locks.is_current(self.leases, self.number):
            raise lost_lease_error(self.folder)


def adopt_interrupted_build(final: Path, folder: Path, lease: Lease, resumable: bool) -> None:
    """Creates the private folder: the latest interrupted build if it can be continued or is complete, else empty.

    A build at the final path was left by an earlier version.
    """
    left = [*([final] if final.exists() else []), *build_folders(final)]
    latest = folder if folder in left else left[-1] if left else None
    for other in left:
        if other != latest or not (resumable or is_complete(other)):
            shutil.rmtree(other, ignore_errors=other != folder)  # a process that lost its lease may still write there
    if latest is not None and latest.exists() and latest != folder:
        latest.rename(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if lease.previous_may_run:
        detach_open_files(folder)


def detach_open_files(folder: Path) -> None:
    """Replaces each file with a copy, so that a process of another host that was only presumed dead, and still has
    files open, does not write into them. Finished checkpoints are never written again.
    """
    for file in folder.rglob("*"):
        if file.is_file() and not (CHECKPOINTS in file.parts and file.parent.name.startswith("step-")):
            copy = file.with_name(f".{file.name}{UNFINISHED}")
            shutil.copy2(file, copy)
            os.replace(copy, file)


def publish(folder: Path, final: Path) -> None:
    """Renames a finalized build to its artifact's folder, durably. If another process did this first, its files win."""
    try:
        folder.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not is_complete(final):
            raise
        shutil.rmtree(folder)
    sync_folder(final.parent)
    shutil.rmtree(final / CHECKPOINTS, ignore_errors=True)


@contextmanager
def translate_disk_errors(folder: Path) -> Iterator[None]:
    """Translates disk errors to ArtifactError; other exceptions pass unchanged."""
    try:
        yield
    except EntigraphError:
        raise
    except Exception as error:
        # Libraries report a full disk in different ways, so check the free space.
        if disk_is_full(folder):
            raise ArtifactError(f"no space left on the disk of {folder}; free some and run the same command") from error
        if not isinstance(error, OSError) and not LIBRARY_DISK_ERROR.search(str(error)):
            raise
        name = getattr(error, "filename", None)
        file = Path(name) if isinstance(name, str) else folder
        verb = "read" if isinstance(error, FileNotFoundError) or not file.is_relative_to(folder) else "write"
        raise ArtifactError(
            f"cannot {verb} {file}: {getattr(error, 'strerror', None) or error}; "
            "check the disk and its permissions, then run the same command"
        ) from error


def is_from_another_version(manifest: Values) -> bool:
    """Returns whether this version would build the same configuration into a different folder."""
    if not {"cache_key", "stage", "key", "inputs"} <= manifest.keys() or manifest["stage"] not in FORMAT_VERSIONS:
        return True
    inputs = {name: entry["folder"] for name, entry in manifest["inputs"].items()}
    return bool(manifest["key"] != content_key(manifest["stage"], manifest["cache_key"], inputs))


def is_complete(folder: Path) -> bool:
    return (folder / MANIFEST).exists()


def is_finished(folder: Path) -> bool:
    """Returns whether a folder has a manifest and its final name."""
    return is_complete(folder) and folder == artifact_folder(folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns the manifest of a complete artifact. Raises ArtifactError if it is missing or damaged."""
    try:
        return check_manifest(parse_json((folder / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        state = "is not finished" if folder.exists() or build_folders(folder) else "does not exist"
        raise ArtifactError(f"{folder} {state}; run the stage that makes it (entigraph run runs all)") from None
    except ValueError:
        raise damaged_manifest(folder) from None


def check_manifest(value: Any) -> dict[str, Any]:
    """Returns the manifest. Raises ValueError if a field that it has is not of its type."""
    if not isinstance(value, dict) or not all(isinstance(value.get(name, ""), str) for name in ("stage", "key")):
        raise ValueError("no manifest")
    for section, field, kind in (("inputs", "folder", str), ("files", "bytes", int)):
        entries = value.get(section, {})
        if not isinstance(entries, dict) or not all(
            isinstance(entry, dict) and isinstance(entry.get(field), kind) for entry in entries.values()
        ):
            raise ValueError(f"no {section}")
    if not isinstance(value.get("counts", {}), dict):
        raise ValueError("no counts")
    return value


def damaged_manifest(folder: Path) -> ArtifactError:
    return ArtifactError(f"{folder / MANIFEST} is damaged; remove {folder} and run the same command")


def verify(folder: Path) -> str:
    """Returns the digest of a complete artifact. Raises ArtifactError unless all files have the recorded size."""
    manifest = read_manifest(folder)
    if not {"key", "files"} <= manifest.keys():
        raise damaged_manifest(folder)
    for name, recorded in manifest["files"].items():
        size = (folder / name).stat().st_size if os.path.exists(folder / name) else None
        if size != recorded["bytes"]:
            problem = "is missing" if size is None else f"must have {recorded['bytes']:,} bytes, got {size:,}"
            raise ArtifactError(f"{folder / name} {problem}; remove {folder} and run the same command")
    return digest({"key": manifest["key"], "files": manifest["files"]})


def finalize(folder: Path, manifest: Values) -> None:
    """Writes the manifest with size and checksum of every file, once all files are on disk."""
    files = {
        str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": checksum(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST and file.suffix != UNFINISHED and CHECKPOINTS not in file.parts
    }
    sync_tree(folder)
    write_durably(folder / MANIFEST, encode_json({**manifest, "files": files}))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically: readers see either the old file or the complete new one."""
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}{UNFINISHED}")  # containers may share a pid
    unfinished.write_bytes(encode_json(value))
    os.replace(unfinished, path)


def encode_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def check_unchanged(artifact: Artifact, manifest: Values) -> None:
    """Raises ArtifactError if the manifest has a different cache key, or an input has been rebuilt since."""
    recorded = flatten({"cache_key": manifest.get("cache_key", {})})
    current = flatten({"cache_key": json.loads(json.dumps(artifact.cache_key))})
    differences = differing_values(recorded, current)
    changes = [f"{key}: {before!r} then, {now!r} now" for key, (before, now) in differences.items()]
    for name, folder in artifact.inputs.items():
        if is_complete(folder) and manifest["inputs"].get(name, {}).get("digest") != verify(folder):
            changes.append(f"inputs.{name}: {folder} was rebuilt since")
    if changes:
        raise ArtifactError(
            f"{artifact.folder} was built from something else:\n"
            + "\n".join(f"  - {line}" for line in changes)
            + "\nremove that folder, or write to another paths.root"
        )


def disk_is_full(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return usage.total > 0 and usage.free < MIN_FREE_BYTES


def identify_path(path: str | Path, root: Path) -> str:
    """Returns the identity of a path for cache keys.

    A path inside an artifact under `root` (complete or not) is identified by its relative path, any other existing
    path by a fingerprint of its content, and any other name (a model on the Hugging Face Hub) by itself.
    """
    local = absolute_path(path)
    if enclosing_artifact(local, root) is not None:
        return str(local.relative_to(root))
    return fingerprint(local) if local.exists() else str(path)


def absolute_path(path: str | Path) -> Path:
    """Returns an existing local path as an absolute one, and any other name (a model on the Hub) unchanged."""
    local = Path(path).expanduser()
    return Path(os.path.abspath(local)) if local.exists() else local


def enclosing_artifact(path: str | Path, root: Path) -> Path | None:
    """Returns the artifact folder that contains a path, complete or not; None if the path is not in an artifact."""
    path = absolute_path(path)
    if not path.is_relative_to(root):
        return None
    parts = path.relative_to(root).parts
    if len(parts) < 2 or parts[0] not in FORMAT_VERSIONS or not re.fullmatch(r".+-[0-9a-f]{8}", parts[1]):
        return None
    return root.joinpath(*parts[:2])


@cache
def package_versions() -> dict[str, str]:
    """Returns the versions of the packages that affect results, and the git commit if the code is a checkout."""
    installed = {}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            installed[package] = metadata.version(package)
    commit = git("rev-parse", "HEAD")
    if commit:
        installed["commit"] = commit + ("" if git("status", "--porcelain") == "" else " with uncommitted changes")
    return installed


def git(*arguments: str) -> str | None:
    """Returns git's output in the checkout that contains this code; None outside a checkout or if git fails."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(checkout), *arguments]
        process = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.strip() if process.returncode == 0 else None
