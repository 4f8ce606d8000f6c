"""Synthetic corpora as the stages leave them on disk, with texts that a test chooses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from entigraph.analysis.written_corpus import WrittenCorpus
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, SyntheticText
from entigraph.storage.texts import write_texts


def texts_about(
    texts: Sequence[tuple[str, str, str]], about: Sequence[str] = ("a", "b"), augmenter: str = "entigraph"
) -> list[SyntheticText]:
    """Returns one text for each document, kind and text."""
    return [
        SyntheticText(
            id=f"t{number}", document_id=document, augmenter=augmenter, kind=kind, about=about, sample=0, text=text,
            writer="w", prompt_hash="", tokens=len(text),
        )
        for number, (document, kind, text) in enumerate(texts)
    ]  # fmt: skip


def make_corpus(
    folder: Path, documents: Mapping[str, str], texts: Sequence[SyntheticText], tokenizer: Path
) -> WrittenCorpus:
    folder.mkdir(parents=True)
    write_jsonl(
        folder / "documents.jsonl", [Document(id=name, title=name, text=text) for name, text in documents.items()]
    )
    write_texts(folder, texts)
    return WrittenCorpus(folder, texts[0].augmenter, folder, tokenizer, None)
