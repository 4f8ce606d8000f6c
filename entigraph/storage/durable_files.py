"""Writes that survive a power failure, and files that only one process of all hosts can create."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

UNFINISHED = ".unfinished"
WITHOUT_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}
WITHOUT_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EBADF}


def sync_file(path: Path) -> None:
    """Blocks until the content of a file is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Blocks until the names in a folder are on disk, where the file system supports this."""
    try:
        sync_file(path)
    except OSError as error:
        if error.errno not in WITHOUT_FOLDER_SYNC:
            raise


def sync_tree(folder: Path) -> None:
    """Blocks until all files and subfolders of a folder are on disk, then the folder."""
    for path, _, files in os.walk(folder, topdown=False):
        for file in files:
            sync_file(Path(path, file))
        sync_folder(Path(path))


def write_durably(path: Path, data: bytes) -> None:
    """Writes a file atomically; when this returns, a power failure leaves the new content."""
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    sync_folder(path.parent)


def create_exclusively(path: Path, data: bytes) -> bool:
    """Creates a file with this content; returns False if it exists.

    Of several processes on any hosts, exactly one succeeds, because the file server decides: a hard link is created
    atomically, even if hosts see each other's changes late. On a file system without hard links, readers may see
    the file empty at first.
    """
    complete = path.with_name(f".{path.name}.{uuid4().hex}{UNFINISHED}")
    complete.write_bytes(data)
    try:
        os.link(complete, path)
    except FileExistsError:
        return path.read_bytes() == data  # a network file system may repeat a request whose reply was lost
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
        return create_without_links(path, data)
    finally:
        complete.unlink()
    return True


def create_without_links(path: Path, data: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True
