"""What an analysis is, and how one is run.

An analysis reads finished artifacts and writes figures and their numbers into one folder,
`outputs/analysis/NAME-STUDY-KEY/`, which is written once and reused until one of its inputs or options changes:

    @dataclass(frozen=True)
    class TokensPerRun:                           # conf/analysis/tokens_per_run.yaml: _target_: mypackage.TokensPerRun
        name: ClassVar[str] = "tokens_per_run"

        def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
            return run_folders(context.required_runs, "tokens")

        def run(self, context: AnalysisContext, out: Path) -> list[str]:
            counts = {run.name: run.synthetic_tokens for run in context.runs}
            write_json(out / "tokens_per_run.json", counts)
            return [f"{name}: {tokens:,}" for name, tokens in counts.items()]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from entigraph.analysis.study_runs import StudyRun, finished_runs
from entigraph.errors import DataError
from entigraph.runtime.progress import SILENT, Progress
from entigraph.storage.artifact import MANIFEST, Artifact, build_artifact, is_complete, read_manifest
from entigraph.storage.fingerprints import digest
from entigraph.tracking.base import Tracker

SUMMARY = "summary.txt"


@dataclass(eq=False)
class AnalysisContext:
    """What an analysis may read: a study's runs, and the artifacts of the configuration that was typed."""

    root: Path
    study: Path
    configured_run: StudyRun  # its artifacts may not be finished
    response_cache: Path
    progress: Progress = SILENT
    tracker: Tracker = Tracker()

    @cached_property
    def finished(self) -> tuple[list[StudyRun], list[str]]:
        return finished_runs(self.study, self.root)

    @property
    def runs(self) -> list[StudyRun]:
        """The study's finished runs, sorted by name; empty if there is none."""
        return self.finished[0]

    @property
    def required_runs(self) -> list[StudyRun]:
        """The same, for an analysis that needs one. Raises DataError if there is none."""
        if not self.runs:
            raise DataError(f"{self.study} has no finished run; run the study first (entigraph run)")
        return self.runs

    @property
    def excluded_runs(self) -> list[str]:
        """One line for each run that is left out, with the reason."""
        return self.finished[1]

    @property
    def study_name(self) -> str:
        """The name of the study without the digest of its settings."""
        return self.study.name.rpartition("-")[0]


class Analysis(Protocol):
    """What `analysis._target_` names. `name` starts the folder's name and is the stem of the main files.

    Optional members: `cache_key`, a mapping of extra fields of the cache key (such as a file digest); `check()`,
    which is called before the folder is made and raises EntigraphError if the analysis could not run; `main_files`,
    patterns of the files to print, in order; `needs_runs = False`, if it reads neither runs nor a corpus.
    """

    @property
    def name(self) -> str: ...

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        """Returns the finished artifacts that the analysis reads. Raises DataError or ConfigError if one is missing."""

    def run(self, context: AnalysisContext, out: Path) -> Sequence[str]:
        """Writes figures (PNG and SVG) and their numbers (JSON) to `out`; returns the summary lines to print."""


@dataclass(frozen=True)
class StudyOutput(Artifact):
    """The output of an analysis that writes to the study's own folder, which also holds the list of its runs.

    The folder's name does not contain the key, so a finished output can be out of date.
    """

    study: Path

    @property
    def folder(self) -> Path:
        return self.study

    @property
    def complete(self) -> bool:
        if not is_complete(self.study):
            return False
        manifest = read_manifest(self.study)
        return manifest["key"] == self.key and all((self.study / name).exists() for name in manifest["files"])


def analysis_output(analysis: Analysis, context: AnalysisContext, options: Mapping[str, Any]) -> Artifact:
    """Returns the artifact that the analysis makes. `options` are those that affect its content."""
    inputs = dict(analysis.inputs(context))
    cache_key = {"analysis": analysis.name, **options, **getattr(analysis, "cache_key", {})}
    if getattr(analysis, "writes_to_study", False):
        cache_key |= {
            "runs": [run.entry for run in context.runs],
            "excluded_runs": context.excluded_runs,
            "contents": {name: digest(read_manifest(folder)["files"]) for name, folder in inputs.items()},
        }
        return StudyOutput(context.root, "analysis", analysis.name, cache_key, {}, context.study)
    name = f"{analysis.name}-{context.study_name}" if inputs else analysis.name
    return Artifact(context.root, "analysis", name, cache_key, inputs)


def run_analysis(analysis: Analysis, output: Artifact, context: AnalysisContext) -> list[str]:
    """Runs the analysis unless its output is complete; returns its summary and the paths of its main files."""

    def work(out: Path) -> dict[str, Any]:
        (out / MANIFEST).unlink(missing_ok=True)
        with context.progress.bar("analysis"):
            lines = analysis.run(context, out)
        (out / SUMMARY).write_text("\n".join(lines) + "\n", encoding="utf-8")
        if (figure := out / f"{analysis.name}.png").exists():
            context.tracker.log_image(analysis.name, figure)
        return {}

    if not output.complete:
        if hasattr(analysis, "check"):
            analysis.check()
        build_artifact(output, work, in_place=isinstance(output, StudyOutput))
        context.tracker.log_lineage(output.folder, analysis.inputs(context).values())
    summary = (output.folder / SUMMARY).read_text(encoding="utf-8").splitlines()
    patterns = getattr(analysis, "main_files", (f"{analysis.name}.*",))
    return [*summary, "", *(str(file) for pattern in patterns for file in sorted(output.folder.glob(pattern)))]
