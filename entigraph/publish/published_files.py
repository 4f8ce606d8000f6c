"""What `entigraph publish` uploads: exactly these files. Nothing that is not listed here leaves the machine.

Source documents leave it only on request (`with_texts`). Files that quote them are left out otherwise: reports, failed
answers, the questions of a study, and texts of the augmenter `raw`, which are the documents.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from entigraph.chat.model_selection import select_model
from entigraph.config.suggestions import did_you_mean
from entigraph.errors import ArtifactError, ConfigError
from entigraph.publish.results_card import render_results_card
from entigraph.storage.artifact import BUILDING, artifact_folder, read_json, read_manifest
from entigraph.storage.private_marks import private_study

FIGURES = ("curve", "forecast", "losses", "recall")
CARD = "README.md"
TEXT_SUFFIXES = (".md", ".json", ".jsonl", ".jinja")


class Kind(StrEnum):
    """What is published: synthetic texts, a trained model, or the results of a study."""

    corpus = "corpus"
    model = "model"
    results = "results"


@dataclass(frozen=True)
class PublishedFile:
    """A file of the repository. `content`: of files generated for the upload."""

    name: str
    source: Path | None = None
    content: bytes = b""

    @property
    def bytes(self) -> int:
        return self.source.stat().st_size if self.source else len(self.content)


@dataclass(frozen=True)
class Publication:
    """`artifacts` are the folders under the root that the files come from; `warnings` are shown before the upload."""

    kind: Kind
    name: str
    files: Sequence[PublishedFile]
    artifacts: Sequence[Path]
    left_out: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def repo_type(self) -> str:
        return "model" if self.kind is Kind.model else "dataset"


def collect_files(kind: Kind, name: str, root: Path, with_texts: bool) -> Publication:
    """Returns what is published. Raises ConfigError for an unknown name or a private study, ArtifactError for an
    unfinished artifact.
    """
    collect = {Kind.corpus: collect_corpus, Kind.model: collect_model, Kind.results: collect_results}[kind]
    publication = collect(name, root, with_texts)
    check_not_private(publication)
    paths = list(find_local_paths(publication.files, root))
    warnings = [f"{file} contains the path {path}" for file, path in paths]
    return Publication(kind, publication.name, publication.files, publication.artifacts, publication.left_out, warnings)


def collect_corpus(name: str, root: Path, with_texts: bool) -> Publication:
    folder = find_folder(name, root / "synthesis")
    manifest = read_manifest(folder)
    corpus = root / "corpus" / str(manifest["inputs"].get("corpus", {}).get("folder"))
    if "raw" in manifest["counts"].get("kinds", {}) and not with_texts:
        raise ConfigError(f"{folder.name} contains the documents themselves; add --with-texts to publish them")
    files = [PublishedFile(file.name, file) for file in sorted(folder.glob("texts-*.parquet"))]
    files += existing_files(folder, CARD, "graphs.jsonl", "near_duplicates.jsonl")
    left_out = [file for file in ("report.html", "failures.jsonl") if (folder / file).exists()]
    if with_texts:
        files += existing_files(corpus, "documents.jsonl")
    else:
        left_out.append("documents.jsonl (the source documents; --with-texts adds them)")
    return Publication(Kind.corpus, folder.name, files, [folder], left_out)


def collect_model(name: str, root: Path, with_texts: bool) -> Publication:
    model = select_model(name, root)
    folder = Path(model.path)
    if not folder.is_dir():
        raise ConfigError(f"{name} is a Hub model already; expected a run or a local model folder")
    files = [PublishedFile(str(file.relative_to(folder)), file) for file in sorted(folder.rglob("*")) if file.is_file()]
    artifacts = [part for part in (model.training, model.synthesis) if part]
    return Publication(Kind.model, model.name, files, artifacts)


def collect_results(name: str, root: Path, with_texts: bool) -> Publication:
    folder = find_folder(name, root / "studies")
    if not (folder / "curve.json").exists():
        raise ConfigError(f"{folder.name} has no results yet; run entigraph analyze first")
    curve = read_json(folder / "curve.json")
    card = PublishedFile(CARD, content=render_results_card(folder.name, curve).encode())
    figures = [f"{figure}.{suffix}" for figure in FIGURES for suffix in ("png", "svg", "pdf")]
    quoting = ["paired.json", "report.html"]  # questions with their answers, and documents
    files = [card, *existing_files(folder, "curve.json", "recall.json", *figures, *(quoting if with_texts else ()))]
    left_out = [] if with_texts else [f"{file} (quotes documents; --with-texts adds it)" for file in quoting]
    return Publication(Kind.results, folder.name, files, [folder], left_out)


def existing_files(folder: Path, *names: str) -> list[PublishedFile]:
    return [PublishedFile(name, folder / name) for name in names if (folder / name).exists()]


def find_folder(name: str, parent: Path) -> Path:
    """Returns a folder by its name, with or without the digest, or by its path. Raises ConfigError for an unknown name,
    ArtifactError for an unfinished artifact.
    """
    if Path(name).is_dir() and Path(name).resolve().parent == parent.resolve():
        return Path(name).resolve()
    folders = sorted(folder for folder in parent.glob("*-????????") if folder.is_dir())
    matching = [folder for folder in folders if name in accepted_names(folder)]
    unfinished = [artifact_folder(build) for build in parent.glob(f"*{BUILDING}*")]
    if not matching and (named := [folder for folder in unfinished if name in accepted_names(folder)]):
        raise ArtifactError(f"{named[0]} is not finished; run the same command to continue it")
    if len(matching) > 1:
        names = ", ".join(folder.name for folder in matching)
        raise ConfigError(f"{name}: {len(matching)} folders have this name; add the digest: {names}")
    if not matching:
        if not folders:
            raise ConfigError(f"{name}: {parent} has no artifacts; set --root to your output folder")
        raise ConfigError(f"{name}: not found in {parent}; {did_you_mean(name, [folder.name for folder in folders])}")
    return matching[0]


def accepted_names(folder: Path) -> tuple[str, str]:
    return folder.name, folder.name[: -len("-00000000")]


def check_not_private(publication: Publication) -> None:
    """Raises ConfigError if a run with study.private=true made one of the artifacts."""
    for study in filter(None, map(private_study, publication.artifacts)):
        raise ConfigError(
            f"{publication.name} belongs to the private study {study} (study.private); nothing is published"
        )


def find_local_paths(files: Sequence[PublishedFile], root: Path) -> Iterator[tuple[str, Path]]:
    """Yields the text files that contain a path of this machine."""
    paths = [path for path in (root.resolve(), Path.home()) if len(path.parts) > 1]
    for file in files:
        if file.name.endswith(TEXT_SUFFIXES):
            content = file.source.read_bytes() if file.source else file.content
            yield from ((file.name, path) for path in paths if str(path).encode() in content)
