"""Finds the files of a source: each real file once, and skipped files with the reason."""

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from entigraph.errors import DataError
from entigraph.huggingface import hub
from entigraph.storage.jsonl import list_problems
from entigraph.storage.schemas import SkippedFile
from entigraph.text.normalization import normalize_line

COMPRESSED = frozenset({".gz", ".tgz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".7z", ".rar", ".tar"})
BROKEN_LINK = "a broken link"
POINTER = "a pointer to a file that was not downloaded; run git lfs pull or git annex get"
POINTER_STARTS = (
    b"version https://git-lfs.github.com/spec/",
    b"version https://hawser.github.com/",
    b"/annex/objects/",
)
MAX_POINTER_BYTES = 1024  # by the specification of Git LFS
TEMPORARY = ("~$", "._")  # files of Word and macOS
OUTPUTS_MARK = ".locks"  # a folder in `paths.root`
NOT_REGULAR = "not a regular file"


def find_files(folder: Path, suffixes: Collection[str]) -> tuple[list[Path], list[SkippedFile]]:
    """Returns the files with one of the suffixes, in the order of their names, and the skipped ones.

    Hidden folders, outputs of this program, and hidden or temporary files of other kinds do not count as left out.
    """
    files: list[Path] = []
    skipped: list[SkippedFile] = []
    for file, reason in walk_files(folder):
        suffix = file.suffix.lower()
        if file.name.startswith(TEMPORARY) or (file.name.startswith(".") and suffix not in suffixes):
            continue
        reason = reason or (None if suffix in suffixes else unread_reason(suffix))
        if reason:
            skipped.append(SkippedFile(file=file_id(file, folder), reason=reason))
        else:
            files.append(file)
    return sorted(files, key=lambda file: file.parts), sorted(skipped, key=lambda file: file.file)


def walk_files(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Yields each real file once, with a reason if it cannot be read. Links are followed last, so that a file is named
    by its own path where it has one in the folder.
    """
    above = {identify(path.stat()) for path in folder.parents}
    seen: set[tuple[int, int]] = set()
    links: list[Path] = []
    yield from walk_folder(folder, seen, links)
    while links:
        link = links.pop(0)
        try:
            target = link.stat()
        except OSError:
            yield link, BROKEN_LINK
            continue
        if identify(target) in above:
            yield link, "a link to a folder that contains the corpus"
        elif stat.S_ISDIR(target.st_mode):
            yield from walk_folder(link, seen, links)
        elif is_new(identify(target), seen):
            yield link, None if stat.S_ISREG(target.st_mode) else NOT_REGULAR


def walk_folder(folder: Path, seen: set[tuple[int, int]], links: list[Path]) -> Iterator[tuple[Path, str | None]]:
    """Yields the new files in a folder; adds them to `seen`, and the links to `links`."""
    try:
        status = folder.stat()
        if not is_new(identify(status), seen):
            return
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}; make it readable, or take it out of the corpus") from None
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink():
            links.append(path)
        elif not entry.is_dir():
            if is_new((status.st_dev, entry.inode()), seen):
                yield path, None if entry.is_file() else NOT_REGULAR
        elif not entry.name.startswith(".") and not os.path.exists(path / OUTPUTS_MARK):  # no error if unreadable
            yield from walk_folder(path, seen, links)


def identify(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def is_new(identity: tuple[int, int], seen: set[tuple[int, int]]) -> bool:
    if identity in seen:
        return False
    seen.add(identity)
    return True


def unread_reason(suffix: str) -> str:
    if suffix in COMPRESSED:
        return f"compressed ({suffix}); unpack it"
    return f"{suffix} files are not supported" if suffix else "no file name extension; add .txt if it is text"


def file_id(file: Path, folder: Path) -> str:
    """Returns the path within the folder as an id of a document: normalized, so that it can be typed."""
    return normalize_line(os.path.relpath(file, folder))


def find_record_files(
    path: str, expected: str, suffixes: Collection[str], pattern: str = "*"
) -> tuple[list[tuple[str, Path]], list[SkippedFile]]:
    """Returns the files with records at a path or in a dataset on the Hub, each with the start of its documents' ids,
    and the skipped files of a local folder.

    Raises DataError if no file matches, or two would give the same ids.
    """
    source, skipped = hub.resolve_dataset(path, "corpus.path", expected), list[SkippedFile]()
    if source.is_dir():
        files, skipped = find_files(source, suffixes)
        files = [file for file in files if file.match(pattern)]
        if not files:
            kinds = " or ".join(sorted(suffixes))
            message = f"corpus.path: {source} contains no {kinds} file that matches {pattern}"
            raise list_problems(message, [f"{file.file}: {file.reason}" for file in skipped])
    else:
        files = hub.list_files(path, "corpus.path", expected, tuple(suffixes), pattern)
        source = Path(os.path.commonpath([file.parent for file in files]))
    skipped += [SkippedFile(file=file_id(file, source), reason=POINTER) for file in files if is_pointer_file(file)]
    names = [(file_id(file.with_suffix(""), source), file) for file in files if not is_pointer_file(file)]
    check_distinct(names)
    return names, skipped


def is_pointer(start: bytes) -> bool:
    """Returns whether a file that starts with these bytes is a pointer of Git LFS or git-annex."""
    return start.startswith(POINTER_STARTS) and len(start) <= MAX_POINTER_BYTES


def is_pointer_file(file: Path) -> bool:
    with file.open("rb") as stream:
        return is_pointer(stream.read(MAX_POINTER_BYTES + 1))


def check_distinct(names: Collection[tuple[str, Path]]) -> None:
    """Raises DataError, which lists the files, if two have the same name: their documents would have the same ids."""
    files: dict[str, Path] = {}
    for name, file in names:
        if name in files:
            raise DataError(
                f"corpus.path: {files[name]} and {file} would both have the id {name!r}; rename or remove one of them"
            )
        files[name] = file
