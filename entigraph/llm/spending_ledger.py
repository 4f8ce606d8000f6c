"""The dollars that the processes of a command, on any hosts, may spend of its limit."""

import json
import threading
from pathlib import Path
from uuid import uuid4

from entigraph.storage.durable_files import create_exclusively

CLAIMS_PER_LIMIT = 100  # dollars are claimed in hundredths of the limit, so that few requests write a file


class SpendingLedger:
    """Numbered files, each with the total that was claimed up to it.

    A process claims dollars by creating the next file, which the file server allows only one process. It spends what it
    has claimed, and returns the rest when it closes. The limit therefore holds exactly, even if hosts see each
    other's files late; a process may only be refused while others hold unspent parts.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder, self.limit = folder, limit
        self.lock = threading.Lock()
        self.claimed = self.spent = self.reserved = 0.0
        self.latest = 0

    def reserve(self, dollars: float) -> bool:
        """Reserves dollars for a request. Returns False if the limit could be exceeded."""
        with self.lock:
            missing = self.spent + self.reserved + dollars - self.claimed
            if missing > 0 and not self.claim(missing, max(missing, self.limit / CLAIMS_PER_LIMIT)):
                return False
            self.reserved += dollars
            return True

    def record(self, reserved: float, dollars: float) -> None:
        """Replaces a reservation with the actual cost, which may be higher."""
        with self.lock:
            self.reserved = max(0.0, self.reserved - reserved)
            self.spent += dollars
            if (missing := self.spent - self.claimed) > 0:
                self.add(missing)

    def close(self) -> None:
        """Returns what was claimed and not spent."""
        with self.lock:
            if (unspent := self.claimed - self.spent) > 0:
                self.add(-unspent)

    def claim(self, required: float, wanted: float) -> bool:
        """Claims dollars: as many as wanted, or only the required ones, if that is within the limit."""
        while True:
            total = self.total()
            amount = wanted if total + wanted <= self.limit else required
            if total + amount > self.limit * (1 + 1e-9):
                return False
            if self.write_next(total + amount):
                self.claimed += amount
                return True

    def add(self, amount: float) -> None:
        while not self.write_next(self.total() + amount):
            pass
        self.claimed += amount

    def total(self) -> float:
        """Returns the total in the latest file."""
        while (self.folder / str(self.latest + 1)).exists():
            self.latest += 1
        return float(json.loads((self.folder / str(self.latest)).read_bytes())["total"]) if self.latest else 0.0

    def write_next(self, total: float) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"total": total, "claim": uuid4().hex}
        return create_exclusively(self.folder / str(self.latest + 1), json.dumps(content).encode())
