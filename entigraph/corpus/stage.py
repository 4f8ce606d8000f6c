"""Stage 1: a source → documents.jsonl, questions.jsonl, and skipped.jsonl if files have no document."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from entigraph.corpus.base import CorpusReader
from entigraph.errors import DataError
from entigraph.storage.data_losses import Loss
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, SkippedFile

MAX_SKIPPED_SHOWN = 5


def run(corpus: CorpusReader, out: Path) -> dict[str, Any]:
    """Returns the counts for the manifest. Raises DataError for duplicate ids, or if there is no document."""
    content = corpus.read()
    counts = {"documents": 0, "characters": 0}
    write_jsonl(out / "documents.jsonl", count_documents(content.documents, counts))
    if not counts["documents"]:
        if content.skipped:
            raise DataError(
                f"{corpus.name}: none of {len(content.skipped):,} files has a text" + render_skipped(content.skipped)
            )
        raise DataError(f"{corpus.name}: no documents in {', '.join(map(str, corpus.sources()))}")
    write_jsonl(out / "questions.jsonl", content.questions)
    reader_counts: dict[str, Any] = dict(content.counts)
    if content.skipped:
        write_jsonl(out / "skipped.jsonl", content.skipped)
        reader_counts["skipped"] = dict(Counter(file.reason for file in content.skipped))
    return {**counts, "questions": len(content.questions), **reader_counts}


def render_skipped(skipped: list[SkippedFile]) -> str:
    lines = [
        f"{file.file}: {file.reason}" + (f" ({file.detail})" if file.detail else "")
        for file in skipped[:MAX_SKIPPED_SHOWN]
    ]
    return "".join(f"\n  - {line}" for line in [*lines, "..."][: len(skipped)])


def summary_lines(counts: Mapping[str, Any]) -> list[str]:
    """Returns the lines to print after the stage; none if every file was read."""
    skipped: Mapping[str, int] = counts.get("skipped", {})
    if not skipped:
        return []
    files = sum(skipped.values())
    lines = [f"  skipped {files:,} of {files + counts['documents']:,} files (skipped.jsonl):"]
    lines += [f"    {count:,} {reason}" for reason, count in skipped.items()]
    if counts["questions_about_skipped_files"]:
        lines.append(f"  left out {counts['questions_about_skipped_files']:,} questions about them")
    return lines


def data_losses(counts: Mapping[str, Any]) -> list[Loss]:
    """Returns what the corpus does not contain of its source."""
    skipped = sum(counts.get("skipped", {}).values())
    return [
        Loss("files have no document", skipped, skipped + counts["documents"]),
        Loss("questions are left out with their file", counts.get("questions_about_skipped_files", 0)),
        *(
            Loss(f"questions are left out ({reason})", count, count + counts["questions"])
            for reason, count in counts.get("questions_left_out", {}).items()
        ),
    ]


def count_documents(documents: Iterable[Document], counts: dict[str, int]) -> Iterator[Document]:
    """Yields the documents and adds them to `counts`."""
    known: set[str] = set()
    for document in documents:
        if document.id in known:
            raise DataError(f"two documents have the id {document.id!r}; ids must be unique")
        known.add(document.id)
        counts["documents"] += 1
        counts["characters"] += len(document.text)
        yield document
