"""Marks of folders that `entigraph publish` refuses: a file for each under `paths.root`, which no later run removes."""

from collections.abc import Iterable
from pathlib import Path

from entigraph.storage.artifact import translate_disk_errors

MARKS = ".private"


def mark_private(folders: Iterable[Path], root: Path, study: str) -> None:
    """Marks the folders of artifacts and studies, which need not exist yet, as made by a private study."""
    with translate_disk_errors(root):
        for folder in folders:
            mark = mark_of(folder)
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.write_text(study, encoding="utf-8")


def private_study(folder: Path) -> str | None:
    """Returns the private study that a folder belongs to; None if it is not private."""
    mark = mark_of(folder)
    return mark.read_text(encoding="utf-8") if mark.exists() else None


def mark_of(folder: Path) -> Path:
    return folder.parent.parent / MARKS / folder.parent.name / folder.name
