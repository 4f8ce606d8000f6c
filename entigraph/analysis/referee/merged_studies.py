"""Joins a study with its counterparts in other output folders, such as other labs', if their protocols agree."""

from functools import lru_cache
from pathlib import Path

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.scaling.scaling_curve import load_study_settings
from entigraph.analysis.study_runs import StudyRun, finished_runs
from entigraph.errors import DataError
from entigraph.storage.fingerprints import differing_values

SETTINGS = "settings.json"


@lru_cache(maxsize=1)  # the inputs of an analysis and its results are about the same runs
def join_studies(context: AnalysisContext, folders: tuple[str, ...]) -> tuple[list[StudyRun], list[str]]:
    """Returns the finished runs of the study, here and in other output folders, and why others are left out.

    A method, budget and seed that several folders have counts once. Raises DataError if a folder has no study with the
    same settings.
    """
    if not folders or not (context.study / SETTINGS).exists():  # then there is no run to compare with
        return context.finished
    others = [find_counterpart(Path(folder).expanduser().resolve(), context.study) for folder in folders]
    return finished_runs(context.study, context.root, *((study, study.parent.parent) for study in others))


def find_counterpart(folder: Path, study: Path) -> Path:
    """Returns the study in an output folder, or in its own folder, that has the settings of `study`.

    Raises DataError with the fields in which the most similar one differs, or if there is none.
    """
    candidates = [folder] if (folder / SETTINGS).is_file() else [
        file.parent for file in sorted((folder / "studies").glob(f"*/{SETTINGS}"))
    ]  # fmt: skip
    if not candidates:
        raise DataError(
            f"analysis.merge: {folder} contains no study; give the output folder of another lab (its paths.root), in "
            "which the same study has finished runs"
        )
    settings = load_study_settings(study)
    differences = {candidate: differing_values(settings, load_study_settings(candidate)) for candidate in candidates}
    nearest = min(candidates, key=lambda candidate: len(differences[candidate]))
    if differences[nearest]:
        lines = "\n".join(
            f"  - {name}: {ours} here, {theirs} there" for name, (ours, theirs) in differences[nearest].items()
        )
        raise DataError(
            f"analysis.merge: the protocol of {nearest} differs from that of {study}, so their results are not "
            f"comparable:\n{lines}\nrun one of them with the settings of the other"
        )
    return nearest
