"""Every answer that was ever paid for, in one SQLite file: whatever was answered once is free from then on.

Keyed by a hash of the whole request as it is sent (model, prompts, sampling, sample number), never by a list of chosen
fields. It outlives changes of budget, order, filters and augmenter settings. Several processes may share it.
"""

import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from entigraph.errors import ArtefactError
from entigraph.llm.base import Completion, Usage

VERSION = 1
SECONDS_TO_WAIT_FOR_OTHERS = 60.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB PRIMARY KEY,
    model TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    text BLOB NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    dollars REAL NOT NULL,
    attempts INTEGER NOT NULL,
    time REAL NOT NULL
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Totals:
    answers: int
    dollars: float


class Journal:
    """Raises ArtefactError for a file that is damaged, newer than this program, or cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self.explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            # One thread puts and another gets; SQLite itself serialises them.
            self.database = sqlite3.connect(
                path, timeout=SECONDS_TO_WAIT_FOR_OTHERS, isolation_level=None, check_same_thread=False
            )
            self.database.execute("PRAGMA journal_mode=WAL")
            # A killed process loses nothing that was written; a power cut may lose the last answers.
            self.database.execute("PRAGMA synchronous=NORMAL")
            (version,) = self.database.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise ArtefactError(
                    f"{path} was written by a newer entigraph (format {version}, this one knows {VERSION}); upgrade"
                )
            self.database.execute(SCHEMA)
            self.database.execute(f"PRAGMA user_version={VERSION}")

    def get(self, key: bytes) -> Completion | None:
        with self.explained():
            row = self.database.execute(
                "SELECT text, model, finish_reason, prompt_tokens, cached_tokens, completion_tokens, dollars "
                "FROM answers WHERE key = ?",
                (key,),
            ).fetchone()
        if row is None:
            return None
        text, model, finish_reason, *usage = row
        return Completion(
            text=zlib.decompress(text).decode("utf-8"), model=model, finish_reason=finish_reason, usage=Usage(*usage)
        )

    def put(self, key: bytes, completion: Completion, attempts: int) -> None:
        """Committed when this returns."""
        usage = completion.usage
        with self.explained():
            self.database.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    key,
                    completion.model,
                    completion.finish_reason,
                    zlib.compress(completion.text.encode("utf-8")),
                    usage.prompt_tokens,
                    usage.cached_tokens,
                    usage.completion_tokens,
                    usage.dollars,
                    attempts,
                    time.time(),
                ),
            )

    def totals(self) -> Totals:
        with self.explained():
            answers, dollars = self.database.execute("SELECT COUNT(*), TOTAL(dollars) FROM answers").fetchone()
        return Totals(answers, dollars)

    def close(self) -> None:
        self.database.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise ArtefactError(
                f"the journal {self.path} cannot be used: {error}. Check disk space and permissions of its folder, "
                "and run the same command: what it holds is not asked again"
            ) from None
        except (sqlite3.DatabaseError, zlib.error) as error:
            raise ArtefactError(
                f"the journal {self.path} is damaged: {error}. Restore it from a copy, or move it away: "
                "then its answers are asked, and paid, again"
            ) from None
        except OSError as error:
            raise ArtefactError(f"the journal {self.path} cannot be written: {error.strerror}") from None
