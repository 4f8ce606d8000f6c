"""Questions about a corpus that has none: documents → questions.jsonl, review.jsonl, rejected.jsonl.

review.jsonl holds the same questions in the form of `corpus.questions`, with the words that decide each: for a person
to read, amend and give back (questions=file questions.path=...). No prompt that texts are written from holds them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from entigraph.errors import DataError
from entigraph.llm.base import LLM
from entigraph.questions.drafting import Draft, drafts, normalized, writing
from entigraph.questions.question_sources import Generated
from entigraph.questions.verification import checked, refuse_if_given_up
from entigraph.runtime.progress import Progress
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.question_files import read_questions
from entigraph.storage.schemas import Document


def take(corpus: Path, out: Path, file: Path) -> dict[str, Any]:
    """A person's questions, as they are. Raises DataError that tells the first bad lines."""
    known = {document.id for document in read_jsonl(corpus / "documents.jsonl", Document)}
    questions = read_questions(file, known)
    write_jsonl(out / "questions.jsonl", questions)
    return {"questions": len(questions), "documents_without_questions": len(known - {q.document_id for q in questions})}


def generate(corpus: Path, out: Path, *, settings: Generated, llm: LLM, progress: Progress) -> dict[str, Any]:
    """Raises DataError where no question stands its checks."""
    documents = list(read_jsonl(corpus / "documents.jsonl", Document))
    reasons: Counter[str] = Counter()
    found = list(unlike(written(documents, llm, settings, reasons, progress), reasons))
    kept: list[Draft] = []
    rejected: list[tuple[Draft, str]] = []
    with progress.bar("checks", len(found), "questions") as advance:
        for draft, why in checked(found, llm, settings, lambda: advance(1)):
            if why is None:
                kept.append(draft)
            else:
                rejected.append((draft, why))
    reasons.update(why for _, why in rejected)
    if not kept:
        raise DataError(f"questions=generated: no question stood its checks ({dict(reasons) or 'none was written'})")
    write_jsonl(out / "questions.jsonl", [draft.question for draft in kept])
    write_lines(out / "review.jsonl", (line(draft) for draft in kept))
    write_lines(out / "rejected.jsonl", ({**line(draft), "reason": why} for draft, why in rejected))
    asked = {draft.question.document_id for draft in kept}
    return {
        "questions": len(kept),
        "rejected": dict(reasons),
        "documents_without_questions": sum(document.id not in asked for document in documents),
        "writer": llm.name,
    }


def written(
    documents: Sequence[Document], llm: LLM, settings: Generated, reasons: Counter[str], progress: Progress
) -> Iterator[Draft]:
    asked = [pair for document in documents for pair in writing(document, settings)]
    with progress.bar("questions", len(asked), "passages") as advance:
        answers = llm.complete(request for _, request in asked)
        for (passage, _), completion in zip(asked, answers, strict=True):
            refuse_if_given_up(completion)
            usable, others = drafts(passage, completion.text, settings)
            reasons["not four different options and a question"] += others
            yield from usable
            advance(1)


def unlike(found: Iterable[Draft], reasons: Counter[str]) -> Iterator[Draft]:
    """Without those that ask in the same words as an earlier one of the same document."""
    seen: set[tuple[str, Sequence[str]]] = set()
    for draft in found:
        key = (draft.question.document_id, normalized(draft.question.text))
        if key in seen:
            reasons["asked before"] += 1
            continue
        seen.add(key)
        yield draft
    for reason in [reason for reason, count in reasons.items() if not count]:
        del reasons[reason]


def line(draft: Draft) -> dict[str, Any]:
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
    file.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in lines), encoding="utf-8")


def summary(counts: Mapping[str, Any], out: Path) -> list[str]:
    """What a reader should know at once."""
    lines = []
    if "writer" in counts:
        lines.append(f"  {counts['questions']:,} questions by {counts['writer']}; read them: {out / 'review.jsonl'}")
        lines += [f"    {count:,} left out: {reason}" for reason, count in counts["rejected"].items()]
        if counts["writer"] == "offline":
            lines.append("  simulated: the offline writer made and checked them, which says nothing about an LLM's")
    if counts["documents_without_questions"]:
        lines.append(f"  {counts['documents_without_questions']:,} documents have no question")
    return lines
