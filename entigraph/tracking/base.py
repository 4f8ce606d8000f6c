"""The interface through which stages log to an experiment tracker."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class RunInfo:
    """The identity of a tracked run. `id` stays the same when a job is resumed."""

    id: str
    name: str
    group: str
    job_type: str
    tags: Sequence[str]
    config: Mapping[str, Any]


class Tracker:
    """Discards what is logged; trackers of a service override the methods. `log_texts`: texts may be uploaded."""

    log_texts = False

    def log(self, values: Mapping[str, Any], prefix: str = "") -> None:
        pass

    def summarize(self, values: Mapping[str, Any]) -> None:
        pass

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        pass

    def log_line_plot(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Logs a line plot of the second column against the first, with one line per value of the third."""

    def log_image(self, name: str, path: Path) -> None:
        pass

    def log_lineage(self, output: Path, inputs: Iterable[Path]) -> None:
        """Logs the artifacts that a complete artifact was built from."""


class TrackerSettings(Protocol):
    """The options of an experiment tracker (conf/logger)."""

    def run(self, info: RunInfo, root: Path) -> AbstractContextManager[Tracker]:
        """Starts or resumes a tracked run, which ends with the context."""

    def publish(self, study: str, results: str) -> str | None:
        """Publishes a study's results, which are Markdown. Returns a line for the user, or None."""


@dataclass(frozen=True, kw_only=True)
class NoLogger:
    """Disables tracking. metrics.jsonl and scores.json are written regardless."""

    @contextmanager
    def run(self, info: RunInfo, root: Path) -> Iterator[Tracker]:
        yield Tracker()

    def publish(self, study: str, results: str) -> str | None:
        return None
