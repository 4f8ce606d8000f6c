"""Questions about a corpus that has none: documents → questions.jsonl, review.jsonl, rejected.jsonl.

rejected.jsonl holds the drafts that are left out, with reasons. review.jsonl holds the questions in the format of
`corpus.questions`, with the evidence for each, so that a person can read, edit and use them (questions=file
questions.path=...). No prompt of a synthesis contains them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from entigraph.errors import DataError
from entigraph.llm.base import LLM
from entigraph.questions.drafting import Draft, drafting_requests, normalize, parse_drafts
from entigraph.questions.question_sources import GeneratedQuestions
from entigraph.questions.verification import is_refusal, raise_if_unanswered, verify_drafts
from entigraph.runtime.progress import Progress
from entigraph.storage.artifact import artifact_folder
from entigraph.storage.data_losses import Loss, count_of
from entigraph.storage.jsonl import Record, json_line, read_jsonl, write_jsonl
from entigraph.storage.question_files import read_questions
from entigraph.storage.schemas import Document, DuplicateDocument, SkippedFile
from entigraph.text.normalization import normalize_line
from entigraph.text.refusals import REFUSAL_AS_TEXT

UNUSABLE, ASKED_BEFORE = "not four different options and a question", "asked before"


def copy_questions(corpus: Path, out: Path, file: Path) -> dict[str, Any]:
    """Uses the questions in a file as they are, except those about skipped documents, which are left out and counted.

    Raises DataError naming the first bad lines.
    """
    known = {document.id for document in read_jsonl(corpus / "documents.jsonl", Document)}
    skipped = {file.file for file in read_if_exists(corpus / "skipped.jsonl", SkippedFile)}
    originals = {item.id: item.original_id for item in read_if_exists(corpus / "duplicates.jsonl", DuplicateDocument)}
    questions = read_questions(file, known | skipped, lambda name: originals.get(normalize_line(name)))
    kept = [question for question in questions if question.document_id not in skipped]
    if not kept:
        raise DataError(f"{file}: all {len(questions):,} questions are about documents that were skipped")
    write_jsonl(out / "questions.jsonl", kept)
    return {
        "questions": len(kept),
        "documents_without_questions": len(known - {question.document_id for question in kept}),
        **({"questions_about_skipped_files": len(questions) - len(kept)} if len(kept) < len(questions) else {}),
    }


def read_if_exists(file: Path, kind: type[Record]) -> list[Record]:
    return list(read_jsonl(file, kind)) if file.exists() else []


def generate(corpus: Path, out: Path, *, settings: GeneratedQuestions, llm: LLM, progress: Progress) -> dict[str, Any]:
    """Drafts and verifies questions. Raises DataError if none passes; rejected.jsonl then has the reasons too."""
    documents = list(read_jsonl(corpus / "documents.jsonl", Document))
    rejected: list[dict[str, Any]] = []
    drafts = list(drop_duplicates(draft_questions(documents, llm, settings, rejected, progress), rejected))
    kept: list[Draft] = []
    with progress.bar("checks", len(drafts), "questions") as advance:
        for draft, reason in verify_drafts(drafts, llm, settings, lambda: advance(1)):
            if reason is None:
                kept.append(draft)
            else:
                rejected.append({**review_line(draft), "reason": reason})
    write_lines(out / "rejected.jsonl", rejected)
    reasons = dict(Counter(line["reason"] for line in rejected))
    if not kept:
        raise DataError(
            f"questions=generated: no question passed the checks ({reasons or 'none was drafted'}); "
            f"read {out / 'rejected.jsonl'}"
        )
    write_jsonl(out / "questions.jsonl", [draft.question for draft in kept])
    write_lines(out / "review.jsonl", (review_line(draft) for draft in kept))
    documents_with_questions = {draft.question.document_id for draft in kept}
    return {
        "questions": len(kept),
        "rejected": reasons,
        "documents_without_questions": sum(document.id not in documents_with_questions for document in documents),
        "writer": llm.name,
    }


def draft_questions(
    documents: Sequence[Document],
    llm: LLM,
    settings: GeneratedQuestions,
    rejected: list[dict[str, Any]],
    progress: Progress,
) -> Iterator[Draft]:
    """Yields the drafts; adds what is no question to `rejected`."""
    requests = [pair for document in documents for pair in drafting_requests(document, settings)]
    with progress.bar("questions", len(requests), "passages") as advance:
        answers = llm.complete(request for _, request in requests)
        for (passage, _), completion in zip(requests, answers, strict=True):
            raise_if_unanswered(completion)
            usable, unusable = parse_drafts(passage, completion.text, settings)
            reason = REFUSAL_AS_TEXT if is_refusal(completion) else UNUSABLE
            rejected += [{"document": passage.document.id, "answer": item, "reason": reason} for item in unusable]
            yield from usable
            advance(1)


def drop_duplicates(drafts: Iterable[Draft], rejected: list[dict[str, Any]]) -> Iterator[Draft]:
    """Drops drafts with the same words as an earlier one about the same document, and adds them to `rejected`."""
    seen: set[tuple[str, Sequence[str]]] = set()
    for draft in drafts:
        key = (draft.question.document_id, normalize(draft.question.text))
        if key in seen:
            rejected.append({**review_line(draft), "reason": ASKED_BEFORE})
            continue
        seen.add(key)
        yield draft


def review_line(draft: Draft) -> dict[str, Any]:
    question = draft.question
    return {
        "document": question.document_id,
        "question": question.text,
        "choices": list(question.choices),
        "answer": question.answer,
        "group": question.group,
        "evidence": draft.evidence,
    }


def write_lines(file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    file.write_bytes(b"".join(map(json_line, lines)))


def data_losses(counts: Mapping[str, Any], documents: int) -> list[Loss]:
    """Returns what the questions do not cover of a corpus of that many documents."""
    return [
        Loss("documents have no question", counts["documents_without_questions"], documents),
        Loss("questions are left out with a skipped file", counts.get("questions_about_skipped_files", 0)),
    ]


def summary_lines(counts: Mapping[str, Any], out: Path) -> list[str]:
    """Returns the lines to print after the stage."""
    lines = []
    if "writer" in counts:
        review = artifact_folder(out) / "review.jsonl"
        lines.append(f"  {count_of(counts['questions'], 'question')} by {counts['writer']}; read them: {review}")
        lines += [f"    {count:,} left out: {reason}" for reason, count in counts["rejected"].items()]
        if counts["writer"] == "offline":
            lines.append("  simulated: the offline writer wrote and checked them, which says nothing about an LLM")
    if counts["documents_without_questions"]:
        lines.append(f"  {count_of(counts['documents_without_questions'], 'document')} without a question")
    if "questions_about_skipped_files" in counts:
        lines.append(f"  left out {count_of(counts['questions_about_skipped_files'], 'question')} about skipped files")
    return lines
