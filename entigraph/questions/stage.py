"""Questions about a corpus that has none: documents → questions.jsonl, review.jsonl, rejected.jsonl.

review.jsonl holds the same questions in the format of `corpus.questions`, with the evidence for each, so that a person
can read, edit and use them (questions=file questions.path=...). No prompt of a synthesis contains them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from entigraph.errors import DataError
from entigraph.llm.base import LLM
from entigraph.questions.drafting import Draft, drafting_requests, normalize, parse_drafts
from entigraph.questions.question_sources import GeneratedQuestions
from entigraph.questions.verification import raise_if_unanswered, verify_drafts
from entigraph.runtime.progress import Progress
from entigraph.storage.data_losses import Loss
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.question_files import read_questions
from entigraph.storage.schemas import Document


def copy_questions(corpus: Path, out: Path, file: Path) -> dict[str, Any]:
    """Uses the questions in a file as they are. Raises DataError naming the first bad lines."""
    known = {document.id for document in read_jsonl(corpus / "documents.jsonl", Document)}
    questions = read_questions(file, known)
    write_jsonl(out / "questions.jsonl", questions)
    return {"questions": len(questions), "documents_without_questions": len(known - {q.document_id for q in questions})}


def generate(corpus: Path, out: Path, *, settings: GeneratedQuestions, llm: LLM, progress: Progress) -> dict[str, Any]:
    """Drafts and verifies questions. Raises DataError if none passes."""
    documents = list(read_jsonl(corpus / "documents.jsonl", Document))
    reasons: Counter[str] = Counter()
    drafts = list(drop_duplicates(draft_questions(documents, llm, settings, reasons, progress), reasons))
    kept: list[Draft] = []
    rejected: list[tuple[Draft, str]] = []
    with progress.bar("checks", len(drafts), "questions") as advance:
        for draft, reason in verify_drafts(drafts, llm, settings, lambda: advance(1)):
            if reason is None:
                kept.append(draft)
            else:
                rejected.append((draft, reason))
    reasons.update(reason for _, reason in rejected)
    if not kept:
        raise DataError(f"questions=generated: no question passed the checks ({dict(reasons) or 'none was drafted'})")
    write_jsonl(out / "questions.jsonl", [draft.question for draft in kept])
    write_lines(out / "review.jsonl", (review_line(draft) for draft in kept))
    write_lines(out / "rejected.jsonl", ({**review_line(draft), "reason": reason} for draft, reason in rejected))
    documents_with_questions = {draft.question.document_id for draft in kept}
    return {
        "questions": len(kept),
        "rejected": dict(reasons),
        "documents_without_questions": sum(document.id not in documents_with_questions for document in documents),
        "writer": llm.name,
    }


def draft_questions(
    documents: Sequence[Document], llm: LLM, settings: GeneratedQuestions, reasons: Counter[str], progress: Progress
) -> Iterator[Draft]:
    requests = [pair for document in documents for pair in drafting_requests(document, settings)]
    with progress.bar("questions", len(requests), "passages") as advance:
        answers = llm.complete(request for _, request in requests)
        for (passage, _), completion in zip(requests, answers, strict=True):
            raise_if_unanswered(completion)
            usable, unusable = parse_drafts(passage, completion.text, settings)
            reasons["not four different options and a question"] += unusable
            yield from usable
            advance(1)


def drop_duplicates(drafts: Iterable[Draft], reasons: Counter[str]) -> Iterator[Draft]:
    """Drops drafts with the same words as an earlier one about the same document."""
    seen: set[tuple[str, Sequence[str]]] = set()
    for draft in drafts:
        key = (draft.question.document_id, normalize(draft.question.text))
        if key in seen:
            reasons["asked before"] += 1
            continue
        seen.add(key)
        yield draft
    for reason in [reason for reason, count in reasons.items() if not count]:
        del reasons[reason]


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
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def data_losses(counts: Mapping[str, Any], documents: int) -> list[Loss]:
    """Returns what the questions do not cover of a corpus of that many documents."""
    return [Loss("documents have no question", counts["documents_without_questions"], documents)]


def summary_lines(counts: Mapping[str, Any], out: Path) -> list[str]:
    """Returns the lines to print after the stage."""
    lines = []
    if "writer" in counts:
        lines.append(f"  {counts['questions']:,} questions by {counts['writer']}; read them: {out / 'review.jsonl'}")
        lines += [f"    {count:,} left out: {reason}" for reason, count in counts["rejected"].items()]
        if counts["writer"] == "offline":
            lines.append("  simulated: the offline writer wrote and checked them, which says nothing about an LLM")
    if counts["documents_without_questions"]:
        lines.append(f"  {counts['documents_without_questions']:,} documents have no question")
    return lines
