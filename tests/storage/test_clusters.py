"""Several hosts on one outputs folder: leases, private build folders, the response cache and spending limits.

Every test runs twice: with processes that regard each other as processes of other hosts, on a local folder; and, where
sshfs can be used, on two mounts of one folder. Two mounts have separate caches of names, sizes and contents, and file
locks of one are invisible in the other, as with NFS mounted without a lock service. Not simulated: servers that fail,
clients that lose the connection and return, clocks that differ (none are compared), NFS's own protocol.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from entigraph.errors import ArtifactError
from entigraph.llm.response_cache import ResponseCache, response_cache_path
from entigraph.storage import artifact, cleanup, locks
from tests.polling import wait_for
from tests.storage.two_hosts import ANSWERS, EXPIRY_S, built, key_of

Mounts = tuple[Path, Path]
Start = Callable[..., "Remote"]


class Remote:
    """A process of a simulated host."""

    def __init__(self, host: str, outputs: Path, action: str, argument: str) -> None:
        command = [sys.executable, "-m", "tests.storage.two_hosts", host, str(outputs), action, argument]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "ENTIGRAPH_COMMAND": "c"},
        )

    @property
    def stdout(self) -> IO[str]:
        assert self.process.stdout
        return self.process.stdout

    def next_line(self) -> str:
        return self.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(params=["one folder", pytest.param("two sshfs mounts", marks=pytest.mark.slow)])
def mounts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mounts]:
    """The outputs folder as two hosts see it."""
    if request.param == "one folder":
        (tmp_path / "outputs").mkdir()
        yield tmp_path / "outputs", tmp_path / "outputs"
        return
    if not can_mount():
        pytest.skip("needs sshfs, sshd and /dev/fuse, as root")
    yield from mount_twice(tmp_path)


def can_mount() -> bool:
    programs = all(shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") for program in ("sshfs", "sshd"))
    return programs and os.access("/dev/fuse", os.R_OK | os.W_OK) and os.geteuid() == 0


def mount_twice(folder: Path) -> Iterator[Mounts]:
    shared, keys, ends = folder / "shared", folder / "keys", (folder / "a", folder / "b")
    for path in (shared / "outputs", keys, *ends, Path("/run/sshd")):
        path.mkdir(parents=True, exist_ok=True)
    for name in ("user", "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": keys / "host",
        "AuthorizedKeysFile": keys / "user.pub",
        "PermitRootLogin": "yes",
        "StrictModes": "no",
        "Subsystem": "sftp internal-sftp",
        "PidFile": "none",
    }
    (folder / "sshd.conf").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", str(folder / "sshd.conf")])
    try:
        wait_for(lambda: is_listening(port), process=server)
        login = f"port={port},IdentityFile={keys}/user,StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null"
        for end in ends:
            subprocess.run(["sshfs", "-o", login, f"root@127.0.0.1:{shared}", str(end)], check=True)
        yield ends[0] / "outputs", ends[1] / "outputs"
    finally:
        for end in ends:
            subprocess.run(["fusermount", "-uz", str(end)], check=False)
        server.terminate()
        server.wait()


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Remote] = []

    def run(*arguments: object) -> Remote:
        host, outputs, action, argument = arguments
        started.append(Remote(str(host), Path(str(outputs)), str(action), str(argument)))
        return started[-1]

    yield run
    for remote in started:
        remote.kill()


def test_every_answer_of_two_hosts_survives(mounts: Mounts, start: Start) -> None:
    hosts = [start("a", mounts[0], "put", 0), start("b", mounts[1], "put", ANSWERS)]
    assert [host.next_line() for host in hosts] == ["stored", "stored"]
    hosts[0].kill()
    hosts[1].go_on()
    assert hosts[1].process.wait(600) == 0
    for outputs in mounts:  # sshfs caches names and sizes for 20 s
        wait_for(lambda: ResponseCache(response_cache_path(outputs)).totals().answers == 2 * ANSWERS)  # noqa: B023
        cache = ResponseCache(response_cache_path(outputs))
        assert all(f"answer {number} " in cache.get(key_of(number)).text for number in range(2 * ANSWERS))  # type: ignore[union-attr]


def test_lock_is_held_by_one_host_and_passed_on(mounts: Mounts, start: Start) -> None:
    first = start("a", mounts[0], "hold", "x")
    assert first.next_line() == "locked"
    second = start("b", mounts[1], "hold", "x")
    assert second.next_line() == "waiting"
    time.sleep(1.5 * EXPIRY_S)  # heartbeats keep the lease
    first.go_on()
    assert first.next_line() == "released" and second.next_line() == "locked"


def test_hosts_that_compete_for_a_lock_hold_it_in_turn(mounts: Mounts, start: Start) -> None:
    hosts = [start("ab"[number % 2], mounts[number % 2], "take", "x") for number in range(4)]
    assert [host.next_line() for host in hosts] == ["done"] * 4


def test_host_of_a_dead_process_takes_over_at_once_and_others_after_the_heartbeat_stops(
    mounts: Mounts, start: Start
) -> None:
    for host in ("a", "b"):
        dead = start("a", mounts[0], "hold", host)
        assert dead.next_line() == "locked"
        dead.kill()
    started = time.monotonic()
    heir, other = start("a", mounts[0], "hold", "a"), start("b", mounts[1], "hold", "b")
    assert heir.next_line() == "locked" and other.next_line() == "waiting"
    assert other.next_line() == "locked" and time.monotonic() - started > EXPIRY_S


def test_interrupted_build_is_continued_by_another_host(mounts: Mounts, start: Start) -> None:
    dead = start("a", mounts[0], "build", "first")
    assert dead.next_line() == "wrote"
    dead.kill()
    heir = start("b", mounts[1], "build", "second")
    assert [heir.next_line(), heir.next_line()] == ["waiting", "wrote"]
    heir.go_on()
    heir.go_on()
    heir.go_on()
    assert [heir.next_line(), heir.next_line()] == ["wrote", "built"]
    for outputs in mounts:
        folder = built(outputs).folder
        assert (folder / "lines.txt").read_text() == "first\nsecond\nsecond\n"
        artifact.verify(folder)
        assert list(folder.parent.iterdir()) == [folder]


def test_suspended_process_cannot_change_what_its_successor_builds(mounts: Mounts, start: Start) -> None:
    suspended = start("a", mounts[0], "build", "first")
    assert suspended.next_line() == "wrote"
    suspended.send(signal.SIGSTOP)
    heir = start("b", mounts[1], "build", "second")
    assert [heir.next_line(), heir.next_line()] == ["waiting", "wrote"]
    suspended.send(signal.SIGCONT)
    for _ in range(3):
        suspended.go_on()
    assert "another process has taken over the build" in "".join(suspended.next_line() for _ in range(4))
    for _ in range(3):
        heir.go_on()
    assert [heir.next_line(), heir.next_line()] == ["wrote", "built"]
    assert (built(mounts[1]).folder / "lines.txt").read_text() == "first\nsecond\nsecond\n"


def test_suspended_process_keeps_its_lease_on_its_own_host(tmp_path: Path, start: Start) -> None:
    """There it is known to run, though its heartbeat stands still, as it does in a long computation."""
    suspended = start("a", tmp_path, "hold", "x")
    assert suspended.next_line() == "locked"
    suspended.send(signal.SIGSTOP)
    other = start("a", tmp_path, "hold", "x")
    assert other.next_line() == "waiting"
    time.sleep(1.5 * EXPIRY_S)
    assert locks.current_number(locks.lease_folder(tmp_path / "corpus" / "x", tmp_path)) == 1
    suspended.send(signal.SIGCONT)
    suspended.go_on()
    assert suspended.next_line() == "released" and other.next_line() == "locked"


def test_first_finished_build_wins(tmp_path: Path) -> None:
    """Also if a process did not notice that it had lost its lease."""
    letters = built(tmp_path)
    private = artifact.build_folder(letters.folder, "1")
    private.mkdir(parents=True)
    (private / "lines.txt").write_text("late")
    artifact.finalize(private, {"key": letters.key, "cache_key": {}, "inputs": {}})
    letters.folder.mkdir()
    (letters.folder / "lines.txt").write_text("first")
    artifact.finalize(letters.folder, {"key": letters.key, "cache_key": {}, "inputs": {}})
    artifact.publish(private, letters.folder)
    assert (letters.folder / "lines.txt").read_text() == "first" and not private.exists()


def test_spending_limit_holds_across_hosts(mounts: Mounts, start: Start) -> None:
    hosts = [start("ab"[number % 2], mounts[number % 2], "spend", 0.02) for number in range(3)]
    spent = [float(host.next_line()) for host in hosts]
    assert sum(spent) <= 5.0 + 1e-6 and sum(spent) >= 5.0 - 3 * 0.05 and min(spent) >= 0


def test_lease_of_another_host_counts_as_held_while_its_heartbeat_changes(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "EXPIRY_S", EXPIRY_S)
    holder = start("a", tmp_path, "hold", "x")
    assert holder.next_line() == "locked"
    folder = tmp_path / "corpus" / "x"
    assert locks.held([folder, tmp_path / "corpus" / "y"], tmp_path) == {folder}
    holder.kill()
    assert locks.held([folder], tmp_path) == set()


def test_only_removal_waits_for_heartbeats_of_other_hosts(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = start("a", tmp_path, "build", "first")
    assert dead.next_line() == "wrote"
    dead.kill()
    started = time.monotonic()
    assert "letters" in (listing := "\n".join(cleanup.render_inventory(cleanup.take_inventory(tmp_path))))
    assert "1 being built by another host, or interrupted there" in listing
    with pytest.raises(ArtifactError, match="another host, or interrupted there.*clean=true finds out within 60 s"):
        list(cleanup.clean(tmp_path, remove=False))
    assert time.monotonic() - started < locks.EXPIRY_S / 2
    monkeypatch.setattr(locks, "EXPIRY_S", EXPIRY_S)
    assert "removed 1 artifact under" in "\n".join(cleanup.clean(tmp_path, remove=True))


def test_files_are_on_disk_before_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of the system calls, which determines what a power failure can leave."""
    calls: list[str] = []

    def note(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def noted(*arguments: object) -> object:
            target = arguments[-1]
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
            calls.append(f"{name} {Path(path).name.split('.unfinished')[0]}")
            return function(*arguments)

        return noted

    letters = built(tmp_path)
    for name in ("fsync", "replace", "rename"):
        monkeypatch.setattr(os, name, note(name, getattr(os, name)))

    def write(out: Path) -> dict[str, int]:
        (out / "letters.txt").write_text("abc")
        calls.clear()
        return {}

    artifact.build_artifact(letters, write)
    private = f"{letters.folder.name}.building-1"
    assert [call if not call.startswith("fsync .manifest") else "fsync .manifest.json" for call in calls] == [
        "fsync letters.txt",
        f"fsync {private}",
        "fsync .manifest.json",
        "replace manifest.json",
        f"fsync {private}",
        f"rename {letters.folder.name}",
        "fsync corpus",
    ]
    assert json.loads((letters.folder / "manifest.json").read_text())["files"]["letters.txt"]["bytes"] == 3
