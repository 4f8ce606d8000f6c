"""Leases: one process builds an artifact and others wait for it, also on other hosts of a shared file system.

.locks/<stage>-<name>/1, 2, 3     one small file per lease, never removed; the highest number is the current lease
.locks/commands-<random>/1        the same for a running command, removed when it ends

A lease is acquired by creating the file with the next number, which the file server allows only one process. The
number is a fencing token: it grows with every lease, so that a process can tell that it lost its lease. The holder
writes a new heartbeat into its file every few seconds. A process that waits takes over

- when the holder has released the lease;
- at once, when the holder ran on this host and its process has ended;
- when it has observed an unchanged heartbeat for a minute of its own time, on any other host.

Clocks of different hosts are never compared, and file locks are not used: on network file systems they are often local
to one host. A holder that was suspended for longer than a minute may lose its lease without noticing at once. Artifacts
tolerate this: each holder writes to a private folder (`storage.artifact`).
"""

import json
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from entigraph.errors import ArtifactError
from entigraph.storage.durable_files import create_exclusively

HEARTBEAT_S = 5.0
EXPIRY_S = 60.0  # a waiting process takes over after a heartbeat has not changed for this long
FIRST_POLL_S, MAX_POLL_S = 0.02, 1.0
COMMANDS = "commands"  # leases of running commands
LEASE_BYTES = 512  # fixed, because a host may see a changed size later than changed content


@dataclass
class Lease:
    """A held lease. `previous_may_run`: its previous holder, on another host, was only presumed dead."""

    folder: Path  # with the files of the lease
    number: int
    previous_may_run: bool = False
    beats: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def is_current(self) -> bool:
        return is_current(self.folder, self.number)

    def beat_until_stopped(self) -> None:
        while not self.stopped.wait(HEARTBEAT_S):
            self.beats += 1
            with suppress(OSError):  # the next heartbeat may succeed
                self.write(released=False)

    def write(self, released: bool) -> None:
        """Overwrites the lease's file; opened anew each time, so that network file systems send it to the server."""
        file = os.open(self.folder / str(self.number), os.O_WRONLY)
        try:
            os.pwrite(file, encode_lease(self.beats, released), 0)
        finally:
            os.close(file)

    def release(self) -> None:
        self.stopped.set()
        with suppress(OSError):  # others take over after the heartbeat expires
            self.write(released=True)


@contextmanager
def lock(
    folder: Path, root: Path, waiting: Callable[[], None] = lambda: None, unless: Callable[[], bool] = lambda: False
) -> Iterator[Lease | None]:
    """Holds the lease for building `folder`. Calls `waiting` once if another process holds it.

    Yields None, without a lease, if `unless` became true while waiting.
    """
    try:
        lease = acquire(lease_folder(folder, root), waiting, unless)
    except OSError as error:
        raise ArtifactError(
            f"cannot write under {root}: {error.strerror or error}; check the permissions, or set paths.root"
        ) from None
    if lease is None:
        yield None
        return
    threading.Thread(target=lease.beat_until_stopped, name="lease", daemon=True).start()
    try:
        yield lease
    finally:
        lease.release()


@contextmanager
def running_command(root: Path) -> Iterator[None]:
    """Holds a lease while a command runs, so that others see it between two of its builds too."""
    name = root / COMMANDS / uuid4().hex
    try:
        with lock(name, root):
            yield
    finally:
        shutil.rmtree(lease_folder(name, root), ignore_errors=True)


def command_names(root: Path) -> list[Path]:
    """Returns what the leases of commands, including killed ones, are held for."""
    leases = (root / ".locks").glob(f"{COMMANDS}-*")
    return [root / COMMANDS / folder.name.removeprefix(f"{COMMANDS}-") for folder in leases]


def acquire(leases: Path, waiting: Callable[[], None], unless: Callable[[], bool]) -> Lease | None:
    leases.mkdir(parents=True, exist_ok=True)
    observed, poll_s = Observation(), FIRST_POLL_S
    while True:
        number, content = read_current(leases)
        free = not number or has_ended(content)
        # A process of this host is known to run, also while it computes without letting its heartbeat's thread run.
        expired = not free and not is_local(content) and observed.is_expired(number, content)
        if free or expired:
            if create_exclusively(leases / str(number + 1), encode_lease(0, released=False)):
                return Lease(leases, number + 1, previous_may_run=expired)
            continue
        if unless():
            return None
        if poll_s == FIRST_POLL_S:
            waiting()
        time.sleep(poll_s)
        poll_s = min(MAX_POLL_S, 1.5 * poll_s)


@dataclass
class Observation:
    """How long a lease has been observed without a change."""

    seen: tuple[int, bytes] | None = None
    unchanged_s: float = 0.0
    last: float = 0.0

    def is_expired(self, number: int, content: bytes) -> bool:
        """Returns whether the heartbeat stood still for EXPIRY_S.

        An interval between two observations counts at most twice the polling interval: this process, or the file
        server, may have been suspended itself.
        """
        now = time.monotonic()
        if self.seen != (number, content):
            self.seen, self.unchanged_s = (number, content), 0.0
        else:
            self.unchanged_s += min(now - self.last, 2 * MAX_POLL_S)
        self.last = now
        return self.unchanged_s >= EXPIRY_S


def held(folders: Sequence[Path], root: Path) -> set[Path]:
    """Returns the folders whose lease is held.

    Leases of other hosts are observed until their heartbeat changes, and for up to EXPIRY_S if it does not.
    """
    running: set[Path] = set()
    observed = {folder: Observation() for folder in folders}
    while observed:
        for folder in [*observed]:
            number, content = read_current(lease_folder(folder, root))
            before = observed[folder].seen
            expired = observed[folder].is_expired(number, content)
            changed = before is not None and observed[folder].seen != before
            ended = not number or has_ended(content)
            if ended or expired or changed or is_local(content):
                del observed[folder]
                running |= set() if ended or expired else {folder}
        if observed:
            time.sleep(min(MAX_POLL_S, HEARTBEAT_S / 4))
    return running


def lease_folder(folder: Path, root: Path) -> Path:
    return root / ".locks" / f"{folder.parent.name}-{folder.name}"


def current_number(leases: Path) -> int:
    """Returns the number of the current lease; 0 if there was none."""
    number = max((int(file.name) for file in list_folder(leases) if file.name.isdigit()), default=0)
    while not is_current(leases, number):  # a host may see a cached, old list of names
        number += 1
    return number


def is_current(leases: Path, number: int) -> bool:
    return not (leases / str(number + 1)).exists()


def list_folder(folder: Path) -> list[Path]:
    try:
        return [*folder.iterdir()]
    except FileNotFoundError:
        return []


def read_current(leases: Path) -> tuple[int, bytes]:
    number = current_number(leases)
    try:
        return number, (leases / str(number)).read_bytes() if number else b""
    except FileNotFoundError:  # the lease of a command that has ended
        return 0, b""


def has_ended(content: bytes) -> bool:
    """Returns whether a lease is released or its holder, on this host, has ended."""
    values = decode_lease(content)
    if not values:
        return False  # being written
    return bool(values["released"]) or (is_local(content) and not is_running_here(values))


def is_held(leases: Path) -> bool:
    """Returns whether the current lease is held, or was held by a process of another host that may have died."""
    number, content = read_current(leases)
    return bool(number) and not has_ended(content)


def is_held_here(leases: Path) -> bool:
    """Returns whether a running process of this host holds the current lease."""
    number, content = read_current(leases)
    return bool(number) and is_local(content) and not has_ended(content)


def is_local(content: bytes) -> bool:
    return decode_lease(content).get("host") == host()


def encode_lease(beats: int, released: bool) -> bytes:
    values = {**describe_process(), "thread": threading.get_ident(), "beats": beats, "released": released}
    return json.dumps(values).encode().ljust(LEASE_BYTES)


def decode_lease(content: bytes) -> Mapping[str, Any]:
    """Returns the values of a lease; empty if it was read while it was written."""
    try:
        values: Mapping[str, Any] = json.loads(content)
    except ValueError:
        return {}
    return values


def describe_process() -> dict[str, Any]:
    """Returns an identifier of this process that is unique across hosts."""
    return {"host": host(), "pid": os.getpid(), "started": process_start(os.getpid())}


def is_running_here(process: Mapping[str, Any]) -> bool:
    """Returns whether a process that described itself is running on this host."""
    return process["host"] == host() and is_running(process["pid"], process["started"])


@cache
def host() -> str:
    """Identifies what shares the process ids of this process: the running kernel and, in a container, its namespace."""
    parts = [platform.node()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def is_running(pid: int, started: str) -> bool:
    """Returns whether a process of this host is alive and not a later one with the same id."""
    if started:
        return process_start(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def process_start(pid: int) -> str:
    """Returns when a process started, in clock ticks since boot; empty if it has ended or this is not Linux."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
