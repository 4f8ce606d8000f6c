"""Stage 1: a source → documents.jsonl, questions.jsonl, and the documents that are left out.

skipped.jsonl lists files and records without a document, duplicates.jsonl documents that are equal to another one,
not_converted.jsonl what the conversion of files to text left out, and unstated_answers.jsonl questions whose short
answer is in no document.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entigraph.corpus.base import CorpusContent, CorpusReader
from entigraph.corpus.cleaning import DUPLICATES, Cleaner
from entigraph.errors import DataError
from entigraph.storage.data_losses import DataLoss, count_of
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.question_files import list_unstated, unstated_lines
from entigraph.storage.schemas import SkippedFile
from entigraph.text.normalization import render_changes

DOCUMENTS, QUESTIONS = "documents.jsonl", "questions.jsonl"
MAX_SKIPPED_SHOWN = 5


def run(corpus: CorpusReader, out: Path) -> dict[str, Any]:
    """Returns the counts for the manifest. Raises DataError for equal ids, or if there is no document."""
    content = corpus.read()
    if corpus.fictional:  # generated text is clean
        return write_generated(content, out)
    cleaner = Cleaner(content)
    counts = cleaner.write_documents(out / DOCUMENTS)
    if not counts["documents"]:
        raise DataError(no_documents_message(corpus, content.skipped))
    questions = cleaner.questions()
    write_jsonl(out / QUESTIONS, questions)
    counts |= list_unstated(questions, out / DOCUMENTS, out, getattr(corpus, "questions", None))
    if without := counts["documents"] - len({question.document_id for question in questions}) if questions else 0:
        counts["documents_without_questions"] = without
    return {**counts, "questions": len(questions), **content.counts, **write_skipped_files(content, cleaner, out)}


def write_generated(content: CorpusContent, out: Path) -> dict[str, Any]:
    documents = list(content.documents)
    write_jsonl(out / DOCUMENTS, documents)
    write_jsonl(out / QUESTIONS, content.questions)
    characters = sum(len(document.text) for document in documents)
    return {
        "documents": len(documents),
        "characters": characters,
        "questions": len(content.questions),
        **content.counts,
    }


def write_skipped_files(content: CorpusContent, cleaner: Cleaner, out: Path) -> dict[str, Any]:
    """Writes the documents that are left out, and returns their counts and those of normalized characters."""
    counts: dict[str, Any] = {}
    if content.skipped:
        write_jsonl(out / "skipped.jsonl", content.skipped)
        counts["skipped"] = dict(Counter(file.reason for file in content.skipped))
        counts["questions_about_skipped_files"] = cleaner.questions_skipped
    if cleaner.duplicates:
        write_jsonl(out / DUPLICATES, cleaner.duplicates)
        counts["duplicates"] = len(cleaner.duplicates)
        counts["questions_merged"] = cleaner.questions_merged
    if content.not_converted:
        write_jsonl(out / "not_converted.jsonl", content.not_converted)
        counts["not_converted"] = dict(sum((Counter(file.lost) for file in content.not_converted), Counter()))
    if cleaner.changes:
        counts["normalized"] = dict(cleaner.changes)
    return counts


def no_documents_message(corpus: CorpusReader, skipped: list[SkippedFile]) -> str:
    if skipped:
        return f"{corpus.name}: none of the {len(skipped):,} files or records contains text" + render_skipped(skipped)
    return f"{corpus.name}: no documents in {', '.join(map(str, corpus.sources()))}"


def render_skipped(skipped: list[SkippedFile]) -> str:
    lines = [
        f"{file.file}: {file.reason}" + (f" ({file.detail})" if file.detail else "")
        for file in skipped[:MAX_SKIPPED_SHOWN]
    ]
    return "".join(f"\n  - {line}" for line in [*lines, "..."][: len(skipped)])


def summary_lines(counts: Mapping[str, Any]) -> list[str]:
    """Returns the lines to print after the stage: the number of documents, and what was skipped or changed."""
    skipped: Mapping[str, int] = counts.get("skipped", {})
    duplicates, number = counts.get("duplicates", 0), sum(skipped.values())
    total = number + duplicates + counts["documents"]
    source = f" from {total:,} files or records" if total > counts["documents"] else ""
    questions = f", {count_of(counts['questions'], 'question')}" if counts["questions"] else ""
    lines = [f"  {count_of(counts['documents'], 'document')}{source}{questions}"]
    left_out = counts.get("questions_left_out", {})
    lines += [f"  left out {count_of(count, 'question')}: {reason}" for reason, count in left_out.items()]
    if skipped:
        lines.append(f"  skipped {number:,} of {total:,} files or records (skipped.jsonl):")
        lines += [f"    {count:,} {reason}" for reason, count in skipped.items()]
        if counts["questions_about_skipped_files"]:
            lines.append(f"  left out {count_of(counts['questions_about_skipped_files'], 'question')} about them")
    if duplicates:
        lines.append(f"  merged {count_of(duplicates, 'duplicate document')} (duplicates.jsonl)")
        if counts["questions_merged"]:
            merged = count_of(counts["questions_merged"], "question")
            lines.append(f"  skipped {merged} already attached to the kept document")
    if "not_converted" in counts:
        lost = ", ".join(f"{kind} ({count:,})" for kind, count in counts["not_converted"].items())
        lines.append(f"  not converted to text: {lost}; see not_converted.jsonl")
    if "normalized" in counts:
        lines.append(f"  normalized {render_changes(counts['normalized'])}")
    return [*lines, *unstated_lines(counts)]


def data_losses(counts: Mapping[str, Any]) -> list[DataLoss]:
    """Returns which source records are not in the corpus."""
    skipped, duplicates = sum(counts.get("skipped", {}).values()), counts.get("duplicates", 0)
    total = skipped + duplicates + counts["documents"]
    return [
        DataLoss("files or records were skipped", skipped, total),
        DataLoss("documents were merged as duplicates", duplicates, total - skipped),
        *(DataLoss(f"{kind} are not converted", count) for kind, count in counts.get("not_converted", {}).items()),
        DataLoss("questions are left out with a skipped file", counts.get("questions_about_skipped_files", 0)),
        *(
            DataLoss(f"questions are left out ({reason})", count, count + counts["questions"])
            for reason, count in counts.get("questions_left_out", {}).items()
        ),
    ]
