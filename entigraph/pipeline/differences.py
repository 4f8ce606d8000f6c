"""Explains why an artifact has to be built: how it differs from the most similar one that is finished."""

import json
from collections.abc import Iterator
from os.path import commonprefix
from pathlib import Path
from typing import Any

from entigraph.storage.artifact import MANIFEST, Artifact, read_json
from entigraph.storage.fingerprints import ABSENT, differing_values, flatten_cache_key

MAX_FIELDS_SHOWN = 20


def explain_difference(artifact: Artifact) -> list[str]:
    """Returns a line for each field in which an artifact differs from the nearest finished one of its stage.

    The nearest is the one with the fewest differing fields; of several, the one with the most similar name. Returns an
    empty list for a finished artifact.
    """
    if artifact.complete:
        return []
    inputs = {name: folder.name for name, folder in artifact.inputs.items()}
    current = flatten_cache_key({**json.loads(json.dumps(artifact.cache_key)), "inputs": inputs})
    finished = {folder: differing_values(fields, current) for folder, fields in finished_fields(artifact)}
    if not finished:
        return [f"no finished {artifact.stage} artifact exists"]
    similarity = {folder: len(commonprefix([folder.name, artifact.folder.name])) for folder in finished}
    nearest = min(sorted(finished), key=lambda folder: (len(finished[folder]), -similarity[folder]))
    lines = [f"nearest finished: {nearest.name}"]
    if not finished[nearest]:
        return [*lines, "the same fields, but written by another version of entigraph"]
    differences = [
        f"{name}: {render_value(before)} → {render_value(now)}" for name, (before, now) in finished[nearest].items()
    ]
    more = len(differences) - MAX_FIELDS_SHOWN
    return [*lines, *differences[:MAX_FIELDS_SHOWN], *([f"and {more} more fields"] if more > 0 else [])]


def render_value(value: Any) -> str:
    return ABSENT if value == ABSENT else repr(value)


def finished_fields(artifact: Artifact) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields the folder and the flattened key of every finished artifact of a stage; damaged manifests are skipped."""
    for file in (artifact.root / artifact.stage).glob(f"*/{MANIFEST}"):
        try:
            manifest = read_json(file)
            inputs = {name: source["folder"] for name, source in manifest["inputs"].items()}
            yield file.parent, flatten_cache_key({**manifest["cache_key"], "inputs": inputs})
        except (OSError, ValueError, KeyError, AttributeError):
            continue
