"""Locks: one process builds an artifact, the others wait for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from entigraph.errors import ArtifactError


@contextmanager
def lock(folder: Path, root: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Held by whoever builds `folder`, until it ends or its process dies. `waiting` is called where it is taken."""
    path = lock_file(folder, root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(path)
        held.acquire(timeout=0)
    except Timeout:
        waiting()
        held.acquire()
    except OSError as error:
        raise ArtifactError(
            f"cannot write below {root}: {error.strerror or error}; check the permissions, or set paths.root"
        ) from None
    try:
        yield
    finally:
        held.release()


def lock_file(folder: Path, root: Path) -> Path:
    return root / ".locks" / f"{folder.parent.name}-{folder.name}.lock"
