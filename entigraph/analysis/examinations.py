"""Analyses of texts: of synthetic corpora (a study's, and one that nothing was trained on yet), and of summaries."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from entigraph.analysis.drawings import shown
from entigraph.analysis.settings import Examination
from entigraph.analysis.study_runs import finished, label_of_documents
from entigraph.errors import DataError
from entigraph.llm.base import Say
from entigraph.storage.artifact import Artifact, is_complete, read_manifest
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, SyntheticText
from entigraph.storage.texts import read_texts
from entigraph.tracking.base import Tracker

OFFLINE = "simulated: a grammar or a rearranging of sentences in place of an LLM"


class Examined(Protocol):
    """What an examination is about: a corpus that was written, or the summaries of a model."""

    @property
    def inputs(self) -> Mapping[str, Path]:
        """The artifacts that it is read from; the first names the examination's."""
        ...


@dataclass(frozen=True)
class SyntheticCorpus:
    """What a writer wrote (`folder`) about the documents of `source`. `label`: what of it is simulated."""

    folder: Path
    augmenter: str
    source: Path
    tokenizer: Path
    label: str | None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def inputs(self) -> Mapping[str, Path]:
        return {f"synthesis/{self.name}": self.folder, f"corpus/{self.source.name}": self.source}

    def documents(self) -> Iterator[Document]:
        return read_jsonl(self.source / "documents.jsonl", Document)

    def texts(self) -> Iterator[SyntheticText]:
        return read_texts(self.folder)


def opened(folder: Path, root: Path) -> SyntheticCorpus | None:
    """None for one that nobody wrote: documents as they are (augmenter=raw)."""
    manifest = read_manifest(folder)
    if "llm" not in manifest["cache_key"]:
        return None
    made_from = {name: given["folder"] for name, given in manifest["inputs"].items()}
    source = root / "corpus" / made_from["corpus"]
    fictional = label_of_documents(source)
    offline = OFFLINE if manifest["cache_key"]["llm"].get("name") == "offline" else ""
    augmenter = manifest["cache_key"]["augmenter"]["name"]
    label = ", ".join(filter(None, (fictional, offline))) or None
    return SyntheticCorpus(folder, augmenter, source, root / "tokenizer" / made_from["tokenizer"], label)


def corpora_of(study: Path, root: Path, own: Path) -> list[SyntheticCorpus]:
    """Each once, by name. Raises DataError where nothing was written yet."""
    folders = {run.folder("synthesis") for run in finished(study, root)[0] if "synthesis" in run.member}
    folders |= {own} if is_complete(own) else set()
    found = [corpus for folder in sorted(folders) if (corpus := opened(folder, root))]
    if not found:
        raise DataError(
            f"no synthetic corpus to examine: {own} is not finished, and the study has no run with one; "
            "write one first (entigraph run, or stage=corpus and then stage=synthesis)"
        )
    return found


def artifact_of(settings: Examination, given: Sequence[Examined], root: Path, volatile: Container[str]) -> Artifact:
    inputs = {name: folder for each in given for name, folder in each.inputs.items()}
    cache_key = {"examination": settings.name, **settings.cache_key(volatile)}
    first = next(iter(inputs.values())).name.rsplit("-", 1)[0]
    return Artifact(root, "analysis", f"{settings.name}-{first}", cache_key, inputs)


def run(
    settings: Examination,
    found: Artifact,
    given: Sequence[Examined],
    response_cache: Path,
    tracker: Tracker,
    say: Say,
) -> list[str]:
    """Examine them unless that was done; returns what it tells, and where it is."""
    if not found.complete:
        settings.check()
    return shown(settings.name, found, lambda out: settings.examine(given, out, response_cache, say), tracker)
