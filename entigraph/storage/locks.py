"""File locks: one process builds an artifact, others wait for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from entigraph.errors import ArtifactError


@contextmanager
def lock(folder: Path, root: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds the lock for building `folder`. Calls `waiting` once if another process holds it.

    The operating system releases the lock when a process dies.
    """
    path = lock_file(folder, root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file_lock = FileLock(path)
        file_lock.acquire(timeout=0)
    except Timeout:
        waiting()
        file_lock.acquire()
    except OSError as error:
        raise ArtifactError(
            f"cannot write below {root}: {error.strerror or error}; check the permissions, or set paths.root"
        ) from None
    try:
        yield
    finally:
        file_lock.release()


def lock_file(folder: Path, root: Path) -> Path:
    return root / ".locks" / f"{folder.parent.name}-{folder.name}.lock"
