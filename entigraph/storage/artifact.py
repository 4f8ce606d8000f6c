"""An artifact is a folder that one stage fills and then seals with manifest.json, written last.

outputs/tokens/fictional-entigraph-25000-1a2b3c4d/
    shard-00000.bin
    manifest.json      <- there: complete; inside: what decided it, what it was made from, what it holds

The eight hex digits are a digest of everything that decides the content: the configuration of the stage and the
names of its inputs, which carry digests of their own. So the folder of a stage is known before anything has run,
two configurations never share a folder unless they would write the same, and a sweep finds what is already made.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from entigraph.errors import ArtifactError, EntigraphError
from entigraph.storage.fingerprints import checksum, digest, fingerprint, flatten
from entigraph.storage.locks import lock

MANIFEST = "manifest.json"
MIN_FREE_BYTES = 8 << 20
CHECKPOINTS = "checkpoints"  # what a resumable stage needs until it is sealed, and nobody after
UNFINISHED = ".unfinished"
# Raised by hand whenever a stage writes something else from the same configuration.
FORMAT_VERSIONS: Mapping[str, int] = {
    "corpus": 3,
    "questions": 2,
    "retrieval": 1,
    "tokenizer": 1,
    "synthesis": 2,
    "tokens": 1,
    "training": 3,
    "evaluation": 5,
    "analysis": 2,
}
PACKAGES = ("entigraph", "torch", "lightning", "transformers", "tokenizers", "hydra-core", "numpy")

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Artifact:
    """A folder, known by what decides its content before it exists."""

    root: Path
    stage: str
    name: str
    cache_key: Values
    inputs: Mapping[str, Path]

    @property
    def key(self) -> str:
        made_from = {name: folder.name for name, folder in self.inputs.items()}
        decided_by = {"stage": self.stage, "cache_key": self.cache_key, "inputs": made_from}
        return digest({**decided_by, "format": FORMAT_VERSIONS[self.stage]})

    @property
    def folder(self) -> Path:
        return self.root / self.stage / f"{self.name}-{self.key}"

    @property
    def complete(self) -> bool:
        return is_complete(self.folder)


def build_artifact(
    artifact: Artifact,
    work: Callable[[Path], Values],
    *,
    resumable: bool = False,
    waiting: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Fill and seal the artifact unless it is complete; returns its manifest.

    One process builds, others wait for it (and say so by `waiting`). What an interrupted build left behind is removed
    first, unless the stage is `resumable` and reads it itself.
    """
    if not artifact.complete:
        with lock(artifact.folder, artifact.root, waiting):
            if not artifact.complete:
                return fill_and_finalize(artifact, work, resumable)
    manifest = read_manifest(artifact.folder)
    check_unchanged(artifact, manifest)
    return manifest


def fill_and_finalize(artifact: Artifact, work: Callable[[Path], Values], resumable: bool) -> dict[str, Any]:
    made_from = {name: {"folder": folder.name, "digest": verify(folder)} for name, folder in artifact.inputs.items()}
    folder = artifact.folder
    started = datetime.now(UTC)
    with translate_disk_errors(folder):
        if folder.exists() and not resumable:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        counts = work(folder)
        finalize(
            folder,
            {
                "stage": artifact.stage,
                "key": artifact.key,
                "cache_key": artifact.cache_key,
                "inputs": made_from,
                "counts": counts,
                "seconds": round((datetime.now(UTC) - started).total_seconds(), 1),
                "created": started.isoformat(timespec="seconds"),
                "versions": package_versions(),
            },
        )
    return read_manifest(folder)


@contextmanager
def translate_disk_errors(folder: Path) -> Iterator[None]:
    """What the disk refuses becomes one message; a fault of ours stays what it is."""
    try:
        yield
    except EntigraphError:
        raise
    except Exception as error:
        # Libraries report a full disk each in their own way; the disk itself says it plainly.
        if disk_is_full(folder):
            raise ArtifactError(f"no space left on the disk of {folder}; free some and run the same command") from error
        if not isinstance(error, OSError):
            raise
        found = Path(error.filename) if isinstance(error.filename, str) else folder
        verb = "read" if isinstance(error, FileNotFoundError) or not found.is_relative_to(folder) else "write"
        raise ArtifactError(
            f"cannot {verb} {found}: {error.strerror or error}; "
            "check the disk and its permissions, then run the same command"
        ) from error


def is_from_another_version(manifest: Values) -> bool:
    """Whether this program would have made something else from the same, whatever it is called."""
    made_from = {name: made["folder"] for name, made in manifest["inputs"].items()}
    decided_by = {"stage": manifest["stage"], "cache_key": manifest["cache_key"], "inputs": made_from}
    return bool(manifest["key"] != digest({**decided_by, "format": FORMAT_VERSIONS[manifest["stage"]]}))


def is_complete(folder: Path) -> bool:
    return (folder / MANIFEST).exists()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete artifact."""
    try:
        return cast(dict[str, Any], json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        state = "is not finished" if folder.exists() else "does not exist"
        raise ArtifactError(f"{folder} {state}; run the stage that makes it (stage=pipeline runs all)") from None
    except ValueError:
        raise ArtifactError(f"{folder / MANIFEST} is damaged; remove {folder} and run the same command") from None


def verify(folder: Path) -> str:
    """The digest of a complete artifact whose files all have the size that the manifest states."""
    manifest = read_manifest(folder)
    for name, stated in manifest["files"].items():
        found = (folder / name).stat().st_size if (folder / name).exists() else None
        if found != stated["bytes"]:
            state = (
                "is missing"
                if found is None
                else f"has {found:,} bytes, not the {stated['bytes']:,} it was sealed with"
            )
            raise ArtifactError(f"{folder / name} {state}; remove {folder} and run the same command")
    return digest({"key": manifest["key"], "files": manifest["files"]})


def finalize(folder: Path, manifest: Values) -> None:
    files = {
        str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": checksum(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST and file.suffix != UNFINISHED and CHECKPOINTS not in file.parts
    }
    write_json(folder / MANIFEST, {**manifest, "files": files})
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write atomically: a reader sees the old file or the whole new one."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    unfinished.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def check_unchanged(artifact: Artifact, manifest: Values) -> None:
    then = flatten({"cache_key": manifest.get("cache_key", {})})
    now = flatten({"cache_key": json.loads(json.dumps(artifact.cache_key))})
    changed = [
        f"{key}: {then.get(key)!r} then, {now.get(key)!r} now"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]
    for name, folder in artifact.inputs.items():
        if is_complete(folder) and manifest["inputs"].get(name, {}).get("digest") != verify(folder):
            changed.append(f"inputs.{name}: {folder} was made anew since")
    if changed:
        raise ArtifactError(
            f"{artifact.folder} was made from something else:\n"
            + "\n".join(f"  - {line}" for line in changed)
            + "\nremove that folder, or write to another paths.root"
        )


def disk_is_full(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return usage.total > 0 and usage.free < MIN_FREE_BYTES


def identify_path(path: str | Path, root: Path) -> str:
    """What stands for a path in a digest: the name of our own artifact (complete or not), else its content.

    A name that is no path here (a model on a hub) stands for itself.
    """
    own = enclosing_artifact(path, root)
    if own is not None:
        return str(Path(path).relative_to(root))
    found = Path(path).expanduser()
    return fingerprint(found) if found.exists() else str(path)


def enclosing_artifact(path: str | Path, root: Path) -> Path | None:
    """The artifact of ours that a path lies in, built or not; None for anything else, also below `root`."""
    found = Path(path)
    if not found.is_absolute() or not found.is_relative_to(root):
        return None
    parts = found.relative_to(root).parts
    if len(parts) < 2 or parts[0] not in FORMAT_VERSIONS or not re.fullmatch(r".+-[0-9a-f]{8}", parts[1]):
        return None
    return root.joinpath(*parts[:2])


@cache
def package_versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    commit = git("rev-parse", "HEAD")
    if commit:
        found["commit"] = commit + ("" if git("status", "--porcelain") == "" else " with uncommitted changes")
    return found


def git(*arguments: str) -> str | None:
    """What git says about the checkout that this code runs from; None where it is none."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
