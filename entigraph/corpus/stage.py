"""Stage 1: a source → documents.jsonl, questions.jsonl."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from entigraph.corpus.base import Corpus
from entigraph.errors import DataError
from entigraph.records import Document, write_jsonl


def run(corpus: Corpus, out: Path) -> dict[str, Any]:
    """Raises DataError for two documents of one id, or no document at all."""
    content = corpus.read()
    counts = {"documents": 0, "characters": 0}
    write_jsonl(out / "documents.jsonl", counted(content.documents, counts))
    if not counts["documents"]:
        raise DataError(f"{corpus.name}: no documents in {', '.join(map(str, corpus.sources()))}")
    write_jsonl(out / "questions.jsonl", content.questions)
    return {**counts, "questions": len(content.questions), **content.counts}


def counted(documents: Iterable[Document], counts: dict[str, int]) -> Iterator[Document]:
    known: set[str] = set()
    for document in documents:
        if document.id in known:
            raise DataError(f"two documents are called {document.id!r}; ids must be unique")
        known.add(document.id)
        counts["documents"] += 1
        counts["characters"] += len(document.text)
        yield document
