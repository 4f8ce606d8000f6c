"""Synthetic corpora that a writer wrote: those of a study's runs, and that of the current configuration."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.study_runs import corpus_disclaimer, run_folders
from entigraph.errors import DataError
from entigraph.storage.artifact import read_manifest
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, SyntheticText
from entigraph.storage.texts import read_texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OFFLINE = "simulated: a grammar or rearranged sentences instead of an LLM"


@dataclass(frozen=True)
class WrittenCorpus:
    """The texts in `folder` about the documents of `source`. `disclaimer` states what is simulated."""

    folder: Path
    augmenter: str
    source: Path
    tokenizer: Path
    disclaimer: str | None

    @property
    def name(self) -> str:
        return self.folder.name

    def documents(self) -> Iterator[Document]:
        return read_jsonl(self.source / "documents.jsonl", Document)

    def texts(self) -> Iterator[SyntheticText]:
        return read_texts(self.folder)

    def load_tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self.tokenizer / "tokenizer.json"))


def open_corpus(folder: Path, root: Path) -> WrittenCorpus | None:
    """Returns None for texts that no writer wrote (augmenter=raw)."""
    manifest = read_manifest(folder)
    if "llm" not in manifest["cache_key"]:
        return None
    inputs = {name: entry["folder"] for name, entry in manifest["inputs"].items()}
    source = root / "corpus" / inputs["corpus"]
    offline = OFFLINE if manifest["cache_key"]["llm"].get("name") == "offline" else None
    disclaimer = ", ".join(filter(None, (corpus_disclaimer(source), offline))) or None
    augmenter = augmenter_name(manifest["cache_key"]["augmenter"])
    return WrittenCorpus(folder, augmenter, source, root / "tokenizer" / inputs["tokenizer"], disclaimer)


def augmenter_name(key: Mapping[str, Any]) -> str:
    """Returns the name in an augmenter's cache key, or that of its class if its name is not an option."""
    return str(key.get("name") or key["_target_"].rpartition(".")[2])


def open_corpora(folders: Iterable[Path], root: Path) -> list[WrittenCorpus]:
    """Returns the corpora in these finished folders, by name, without those that no writer wrote."""
    return [corpus for folder in sorted(set(folders)) if (corpus := open_corpus(folder, root))]


def load_corpora(context: AnalysisContext) -> list[WrittenCorpus]:
    """Returns the finished corpora of the study and the configuration, by name. Raises DataError if there is none."""
    runs = [*context.runs, context.configured_run]
    corpora = open_corpora(run_folders(runs, "synthesis").values(), context.root)
    if not corpora:
        raise DataError(
            f"no synthetic corpus to analyze: {context.configured_run.folder('synthesis')} is not finished, and the "
            "study has no run with one; write one first (entigraph run, or stage=corpus and then stage=synthesis)"
        )
    return corpora


def corpus_folders(context: AnalysisContext) -> Mapping[str, Path]:
    """Returns the folders of `load_corpora` and of their documents, named for `Analysis.inputs`."""
    corpora = load_corpora(context)
    return {f"synthesis/{corpus.name}": corpus.folder for corpus in corpora} | {
        f"corpus/{corpus.source.name}": corpus.source for corpus in corpora
    }


def first_disclaimer(corpora: Sequence[WrittenCorpus]) -> str | None:
    return next((corpus.disclaimer for corpus in corpora if corpus.disclaimer), None)
