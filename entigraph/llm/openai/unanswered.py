"""Requests that an endpoint refused or rejected, so that one command does not send them twice and the next one does."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from entigraph.llm.base import Completion, Usage
from entigraph.llm.cost import COMMAND_VARIABLE
from entigraph.llm.openai.capabilities import FOLDER

DAYS_KEPT = 7.0


class UnansweredRequests:
    """The refused and rejected requests of the current command, in a file per process that its other processes read.

    Without a command (in a notebook), they are remembered for one connection.
    """

    def __init__(self, response_cache: Path, address: str) -> None:
        self.address, self.folder = address, response_cache.parent / FOLDER
        self.command = os.environ.get(COMMAND_VARIABLE)
        self.completions: dict[bytes, Completion] = dict(self.read()) if self.command else {}

    def get(self, key: bytes) -> Completion | None:
        return self.completions.get(key)

    def add(self, key: bytes, completion: Completion) -> None:
        self.completions[key] = completion
        if not self.command:
            return
        self.remove_old_files()
        record = {"key": key.hex(), "address": self.address, **asdict(completion)}
        del record["discard"]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"unanswered-{self.command}-{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def read(self) -> Iterator[tuple[bytes, Completion]]:
        """Yields what the processes of this command have recorded for this endpoint."""
        for path in self.folder.glob(f"unanswered-{self.command}-*.jsonl"):
            for line in path.read_bytes().split(b"\n"):
                try:
                    record = json.loads(line)
                except ValueError:  # a line that is being written
                    continue
                key, usage, notes = bytes.fromhex(record.pop("key")), record.pop("usage"), record.pop("notes")
                if record.pop("address") == self.address:
                    yield key, Completion(**record, usage=Usage(**usage), notes=tuple(notes))

    def remove_old_files(self) -> None:
        if len(self.completions) == 1:
            for path in self.folder.glob("unanswered-*.jsonl"):
                if time.time() - path.stat().st_mtime > DAYS_KEPT * 86_400:
                    path.unlink(missing_ok=True)
