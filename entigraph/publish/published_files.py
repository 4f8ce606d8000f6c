"""What `entigraph publish` uploads: exactly these files. Nothing that is not listed here leaves the machine.

Source documents leave it only on request (`with_texts`). Files that quote them are skipped otherwise: reports, failed
answers, the questions of a study, and texts that consist of sentences of the documents.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from entigraph.chat.model_selection import select_model
from entigraph.config.suggestions import did_you_mean
from entigraph.errors import ArtifactError, ConfigError
from entigraph.publish.results_card import render_results_card
from entigraph.storage.artifact import BUILDING, artifact_folder, is_complete, read_json, read_manifest
from entigraph.storage.private_marks import private_study

FIGURES = ("curve", "forecast", "losses", "recall")
CARD = "README.md"
QUOTING_KINDS = {"raw", "summary_extractive"}  # texts that are the documents, or verbatim parts of them
FICTIONAL_READERS = "entigraph.corpus.readers.fictional_corpora."
TEXT_SUFFIXES = (".md", ".json", ".jsonl", ".jinja")


class PublicationKind(StrEnum):
    """What is published: synthetic texts, a trained model, its adapter without the base model, or a study's results."""

    corpus = "corpus"
    model = "model"
    adapter = "adapter"
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

    kind: PublicationKind
    name: str
    files: Sequence[PublishedFile]
    artifacts: Sequence[Path]
    excluded: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def repo_type(self) -> str:
        return "model" if self.kind in (PublicationKind.model, PublicationKind.adapter) else "dataset"


def collect_files(kind: PublicationKind, name: str, root: Path, with_texts: bool) -> Publication:
    """Returns what is published. Raises ConfigError for an unknown name or a private study, ArtifactError for an
    unfinished artifact.
    """
    collect = {
        PublicationKind.corpus: collect_corpus,
        PublicationKind.model: collect_model,
        PublicationKind.adapter: collect_adapter,
        PublicationKind.results: collect_results,
    }
    publication = collect[kind](name, root, with_texts)
    check_not_private(publication)
    paths = list(find_local_paths(publication.files, root))
    warnings = [f"{file} contains the path {path}" for file, path in paths]
    return Publication(kind, publication.name, publication.files, publication.artifacts, publication.excluded, warnings)


def collect_corpus(name: str, root: Path, with_texts: bool) -> Publication:
    folder = find_folder(name, root / "synthesis")
    manifest = read_manifest(folder)
    corpus = root / "corpus" / str(manifest["inputs"].get("corpus", {}).get("folder"))
    if not with_texts and (quoting := find_quoting_texts(manifest, corpus)):
        raise ConfigError(
            f"{folder.name} contains sentences of the source documents ({quoting}); add --with-texts to publish them"
        )
    files = [PublishedFile(file.name, file) for file in sorted(folder.glob("texts-*.parquet"))]
    files += existing_files(folder, CARD, "graphs.jsonl", "near_duplicates.jsonl")
    excluded = [file for file in ("report.html", "failures.jsonl") if (folder / file).exists()]
    if with_texts:
        files += existing_files(corpus, "documents.jsonl")
    else:
        excluded.append("documents.jsonl (the source documents; --with-texts adds them)")
    return Publication(PublicationKind.corpus, folder.name, files, [folder], excluded)


def find_quoting_texts(manifest: Mapping[str, Any], corpus: Path) -> str:
    """Returns which of the texts quote their documents; empty if none does. The offline writer rearranges sentences of
    the documents, which are private unless they are fictional.
    """
    if kinds := QUOTING_KINDS & manifest["counts"].get("kinds", {}).keys():
        return ", ".join(sorted(kinds))
    offline = manifest["cache_key"].get("llm", {}).get("name") == "offline"
    reader = read_manifest(corpus)["cache_key"].get("_target_", "") if is_complete(corpus) else ""
    return "llm=offline" if offline and not reader.startswith(FICTIONAL_READERS) else ""


def collect_model(name: str, root: Path, with_texts: bool) -> Publication:
    model = select_model(name, root)
    folder = Path(model.path)
    if not folder.is_dir():
        raise ConfigError(f"{name} is a Hub model already; expected a run or a local model folder")
    # Of a hidden folder, only its name is listed.
    skipped = [
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if not is_part_of(file, folder) and is_part_of(file.parent, folder)
    ]
    excluded = [f"{file} (hidden, or a link to a file elsewhere)" for file in sorted(skipped)]
    artifacts = [part for part in (model.training, model.synthesis) if part]
    return Publication(PublicationKind.model, model.name, list_folder(folder, root), artifacts, excluded)


def collect_adapter(name: str, root: Path, with_texts: bool) -> Publication:
    model = select_model(name, root)
    folder = (model.training or Path(model.path)) / "adapter"
    if not (folder / "adapter_config.json").exists():
        raise ConfigError(f"{name} has no adapter; expected a run with model/adapter=lora or qlora")
    files = [*list_folder(folder, root)]
    if not any(file.name == CARD for file in files):
        files += [file for file in list_folder(Path(model.path), root) if file.name == CARD]
    artifacts = [part for part in (model.training, model.synthesis) if part]
    return Publication(PublicationKind.adapter, model.name, files, artifacts)


def list_folder(folder: Path, root: Path) -> list[PublishedFile]:
    """Returns the files of a model folder. In its card, folders of the root are replaced with their names."""
    artifact = re.compile(rf"{re.escape(str(root))}/\w+/([^/\s|]+)(/model)?")
    files = []
    for file in sorted(folder.rglob("*")):
        if file.is_file() and is_part_of(file, folder):
            name = str(file.relative_to(folder))
            content = artifact.sub(r"\1", file.read_text("utf-8")) if name == CARD else None
            files.append(PublishedFile(name, content=content.encode()) if content else PublishedFile(name, file))
    return files


def is_part_of(file: Path, folder: Path) -> bool:
    """Returns false for hidden files, files of hidden folders, and links that leave the folder, except for those of the
    Hub cache, in which each file of a snapshot is a link to a blob.
    """
    target = file.resolve()
    in_hub_cache = folder.parent.name == "snapshots" and target.parent == (folder.parents[1] / "blobs").resolve()
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and (in_hub_cache or target.is_relative_to(folder.resolve()))


def collect_results(name: str, root: Path, with_texts: bool) -> Publication:
    folder = find_folder(name, root / "studies")
    if not (folder / "curve.json").exists():
        raise ConfigError(f"{folder.name} has no results yet; run entigraph analyze first")
    curve = read_json(folder / "curve.json")
    card = PublishedFile(CARD, content=render_results_card(folder.name, curve).encode())
    figures = [f"{figure}.{suffix}" for figure in FIGURES for suffix in ("png", "svg", "pdf")]
    quoting = ["paired.json", "report.html"]  # questions with their answers, and documents
    files = [card, *existing_files(folder, "curve.json", "recall.json", *figures, *(quoting if with_texts else ()))]
    excluded = [] if with_texts else [f"{file} (quotes documents; --with-texts adds it)" for file in quoting]
    return Publication(PublicationKind.results, folder.name, files, [folder], excluded)


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
