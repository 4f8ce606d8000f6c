"""What a tracker offers to the stages, and the tracker that keeps nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class RunInfo:
    """What a run is called: `id` stays the same for a job however often it is resumed."""

    id: str
    name: str
    group: str
    job_type: str
    tags: Sequence[str]
    config: Mapping[str, Any]


class Tracker(Protocol):
    log_texts: bool

    def log(self, values: Mapping[str, Any], prefix: str = "") -> None: ...

    def summarize(self, values: Mapping[str, Any]) -> None: ...

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...

    def lines(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A chart of the second column over the first, a line for each value of the third."""

    def image(self, name: str, path: Path) -> None: ...

    def lineage(self, made: Path, made_from: Iterable[Path]) -> None:
        """That one complete artifact was made from others."""


class NoTracker:
    log_texts = False

    def log(self, values: Mapping[str, Any], prefix: str = "") -> None:
        pass

    def summarize(self, values: Mapping[str, Any]) -> None:
        pass

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        pass

    def lines(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        pass

    def image(self, name: str, path: Path) -> None:
        pass

    def lineage(self, made: Path, made_from: Iterable[Path]) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class NoLogger:
    """Tracks nothing; metrics are in metrics.jsonl and scores.json all the same."""

    @contextmanager
    def run(self, info: RunInfo, root: Path) -> Iterator[Tracker]:
        yield NoTracker()

    def publish(self, study: str, curve: Mapping[str, Any]) -> str | None:
        return None
