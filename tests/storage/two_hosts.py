"""A process of a simulated cluster: python -m tests.storage.two_hosts HOST OUTPUTS ACTION [ARGUMENT]

Processes with different HOST names judge each other as processes of other hosts do: their process ids mean nothing to
each other, and file locks are not used. OUTPUTS may be a different mount of the same folder for each.
"""

import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from entigraph.errors import ArtifactError, LLMError
from entigraph.llm.base import Completion
from entigraph.llm.cost import Price, SpendingLimit
from entigraph.llm.response_cache import ResponseCache, response_cache_path
from entigraph.storage import artifact, locks
from entigraph.storage.artifact import Artifact

EXPIRY_S, HEARTBEAT_S = 3.0, 0.3
ANSWERS = 200


def built(outputs: Path) -> Artifact:
    return Artifact(outputs, "corpus", "letters", {"seed": 0}, {})


def key_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def put(outputs: Path, first: str) -> None:
    """Stores answers as a running process does, which also reads those of others."""
    cache = ResponseCache(response_cache_path(outputs))
    for number in range(int(first), int(first) + ANSWERS):
        cache.put(key_of(number), Completion(text=f"answer {number} " * 50, model="m"))
        cache.get(key_of(number + 10_000))
    cache.sync()
    print("stored", flush=True)
    sys.stdin.readline()
    cache.close()


def hold(outputs: Path, name: str) -> None:
    """Holds a lock until standard input ends; prints when."""
    with locks.lock(outputs / "corpus" / name, outputs, waiting=lambda: print("waiting", flush=True)):
        print("locked", flush=True)
        sys.stdin.readline()
    print("released", flush=True)


def take(outputs: Path, name: str) -> None:
    """Acquires a lock many times, and checks that no other process holds it."""
    marker = outputs / f"{name}-holder"
    for _ in range(10):
        with locks.lock(outputs / "corpus" / name, outputs):
            marker.touch(exist_ok=False)  # fails if another process holds the lock
            time.sleep(0.01)
            marker.unlink()
    print("done", flush=True)


def build(outputs: Path, text: str) -> None:
    """Builds an artifact that continues after an interruption: three lines, each written by one process."""

    def write(out: Path) -> dict[str, int]:
        lines = out / "lines.txt"
        for _ in range(3):
            done = lines.read_text() if lines.exists() else ""
            if done.count("\n") == 3:
                break
            lines.write_text(f"{done}{text}\n")
            print("wrote", flush=True)
            sys.stdin.readline()
        return {"lines": 3}

    try:
        artifact.build_artifact(built(outputs), write, resumable=True, waiting=lambda: print("waiting", flush=True))
        print("built", flush=True)
    except ArtifactError as error:
        print(error, flush=True)


def spend(outputs: Path, dollars: str) -> None:
    """Spends until the limit of five dollars is reached; prints the sum."""
    with closing(ResponseCache(response_cache_path(outputs))) as cache:
        limit = SpendingLimit(cache, 5.0, Price(1.0, 1.0, 1.0))
        spent = 0.0
        try:
            while True:
                limit.reserve(float(dollars))
                limit.record(float(dollars), float(dollars))
                spent += float(dollars)
        except LLMError:
            print(spent, flush=True)


ACTIONS: dict[str, Callable[[Path, str], None]] = {
    "put": put,
    "hold": hold,
    "take": take,
    "build": build,
    "spend": spend,
}


def main() -> None:
    host, outputs, action, *argument = sys.argv[1:]
    locks.host = lambda: host  # type: ignore[assignment]
    locks.EXPIRY_S, locks.HEARTBEAT_S = EXPIRY_S, HEARTBEAT_S
    ACTIONS[action](Path(outputs), argument[0])


if __name__ == "__main__":
    main()
