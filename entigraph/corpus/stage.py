"""Stage 1: a source → documents.jsonl, questions.jsonl, and skipped.jsonl where files gave no document."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from entigraph.corpus.base import Corpus
from entigraph.errors import DataError
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, SkippedFile

SHOWN = 5


def run(corpus: Corpus, out: Path) -> dict[str, Any]:
    """Raises DataError for two documents of one id, or no document at all."""
    content = corpus.read()
    counts = {"documents": 0, "characters": 0}
    write_jsonl(out / "documents.jsonl", counted(content.documents, counts))
    if not counts["documents"]:
        if content.skipped:
            raise DataError(
                f"{corpus.name}: none of {len(content.skipped):,} files gave a text" + shown(content.skipped)
            )
        raise DataError(f"{corpus.name}: no documents in {', '.join(map(str, corpus.sources()))}")
    write_jsonl(out / "questions.jsonl", content.questions)
    passed_over: dict[str, Any] = dict(content.counts)
    if content.skipped:
        write_jsonl(out / "skipped.jsonl", content.skipped)
        passed_over["skipped"] = dict(Counter(file.reason for file in content.skipped))
    return {**counts, "questions": len(content.questions), **passed_over}


def shown(skipped: list[SkippedFile]) -> str:
    lines = [f"{file.file}: {file.reason}" + (f" ({file.detail})" if file.detail else "") for file in skipped[:SHOWN]]
    return "".join(f"\n  - {line}" for line in [*lines, "..."][: len(skipped)])


def summary(counts: Mapping[str, Any]) -> list[str]:
    """What a reader should know of the corpus at once; empty where all was read."""
    skipped: Mapping[str, int] = counts.get("skipped", {})
    if not skipped:
        return []
    files = sum(skipped.values())
    lines = [f"  skipped {files:,} of {files + counts['documents']:,} files (skipped.jsonl):"]
    lines += [f"    {count:,} {reason}" for reason, count in skipped.items()]
    if counts["questions_about_skipped_files"]:
        lines.append(f"  left out {counts['questions_about_skipped_files']:,} questions about them")
    return lines


def counted(documents: Iterable[Document], counts: dict[str, int]) -> Iterator[Document]:
    known: set[str] = set()
    for document in documents:
        if document.id in known:
            raise DataError(f"two documents are called {document.id!r}; ids must be unique")
        known.add(document.id)
        counts["documents"] += 1
        counts["characters"] += len(document.text)
        yield document
