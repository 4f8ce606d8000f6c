"""Questions about a corpus that has none: documents → questions.jsonl, review.jsonl, rejected.jsonl.

rejected.jsonl contains the rejected drafts, with reasons. review.jsonl contains the questions in the format of
`corpus.questions`, with their evidence, so that humans can read, edit and use them (questions=file questions.path=...).
No synthesis prompt contains them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from entigraph.errors import DataError
from entigraph.llm.base import LLM
from entigraph.questions.drafting import (
    Draft,
    QuestionPassage,
    drafting_request,
    normalize,
    parse_drafts,
    split_passages,
)
from entigraph.questions.passage_pairs import Names, names_request, pair_passages, pairs_per_document, parse_names
from entigraph.questions.question_sources import GeneratedQuestions, QuestionForm
from entigraph.questions.verification import is_refusal, raise_if_unanswered, verify_drafts
from entigraph.runtime.progress import SILENT, Progress
from entigraph.storage.artifact import artifact_folder
from entigraph.storage.data_losses import DataLoss, count_of
from entigraph.storage.jsonl import Record, json_line, read_jsonl, write_jsonl
from entigraph.storage.question_files import (
    REPEATED,
    drop_repeated,
    list_unstated,
    read_questions,
    unstated_data_loss,
    unstated_lines,
)
from entigraph.storage.schemas import Document, DuplicateDocument, SkippedFile
from entigraph.text.normalization import normalize_line
from entigraph.text.refusals import REFUSAL_AS_TEXT

UNUSABLE: Mapping[QuestionForm, str] = {
    QuestionForm.multiple_choice: "not a question with four distinct options",
    QuestionForm.short_answer: "not a question and its answer",
}
ASKED_BEFORE, NO_NAMES = "duplicate question", "no list of names"


def copy_questions(corpus: Path, out: Path, file: Path) -> dict[str, Any]:
    """Uses the questions in a file as they are. Questions about skipped documents and repeated ones are excluded and
    counted.

    Raises DataError with the first bad lines.
    """
    known = {document.id for document in read_jsonl(corpus / "documents.jsonl", Document)}
    skipped = {file.file for file in read_if_exists(corpus / "skipped.jsonl", SkippedFile)}
    originals = {item.id: item.original_id for item in read_if_exists(corpus / "duplicates.jsonl", DuplicateDocument)}
    questions = read_questions(file, known | skipped, lambda name: originals.get(normalize_line(name)))
    kept = [question for question in questions if question.document_id not in skipped]
    if not kept:
        raise DataError(f"{file}: all {len(questions):,} questions are about documents that were skipped")
    about_skipped = len(questions) - len(kept)
    kept, repeated = drop_repeated(kept)
    write_jsonl(out / "questions.jsonl", kept)
    return {
        **list_unstated(kept, corpus / "documents.jsonl", out, file),
        "questions": len(kept),
        "documents_without_questions": len(known - {question.document_id for question in kept}),
        **({"questions_about_skipped_files": about_skipped} if about_skipped else {}),
        **({"duplicate_questions": repeated} if repeated else {}),
    }


def read_if_exists(file: Path, kind: type[Record]) -> list[Record]:
    return list(read_jsonl(file, kind)) if file.exists() else []


def generate(
    corpus: Path, out: Path, *, settings: GeneratedQuestions, llm: LLM, progress: Progress = SILENT
) -> dict[str, Any]:
    """Drafts and verifies questions. Raises DataError if none passes; rejected.jsonl contains the reasons even then."""
    documents = list(read_jsonl(corpus / "documents.jsonl", Document))
    rejected: list[dict[str, Any]] = []
    passages = [passage for document in documents for passage in split_passages(document, settings)]
    if settings.across_documents:
        if len({passage.document.id for passage in passages}) < 2:
            raise DataError(no_pairs_message(documents, rejected))
        passages = pair_passages(passages, [*list_names(passages, llm, rejected, progress)], settings)
        if not passages:
            write_lines(out / "rejected.jsonl", rejected)
            raise DataError(no_pairs_message(documents, rejected))
    drafts = list(drop_duplicates(draft_questions(passages, llm, settings, rejected, progress), rejected))
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
        listed = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.items())
        raise DataError(
            f"questions=generated: no question passed the checks ({listed or 'none was drafted'}); "
            f"read {out / 'rejected.jsonl'}"
        )
    write_jsonl(out / "questions.jsonl", [draft.question for draft in kept])
    write_lines(out / "review.jsonl", (review_line(draft) for draft in kept))
    documents_with_questions = {single.document.id for draft in kept for single in draft.passage.single_passages}
    return {
        "questions": len(kept),
        "rejected": reasons,
        "documents_without_questions": sum(document.id not in documents_with_questions for document in documents),
        "writer": llm.name,
    }


def estimate_requests(documents: Sequence[Document], settings: GeneratedQuestions) -> tuple[int, int, float]:
    """Returns estimates of the drafting requests, the questions, and the prompt characters including all checks.

    Across documents, these are upper bounds: which documents mention the same names is not known yet.
    """
    passages = [passage for document in documents for passage in split_passages(document, settings)]
    prompts = [drafting_request(passage, settings) for passage in passages]
    characters = sum(len(request.system + request.user) for request in prompts) / max(1, len(prompts))
    num_documents = len({passage.document.id for passage in passages})
    questions = settings.per_document * num_documents
    if not settings.across_documents:
        return len(passages), questions, characters * (len(passages) + questions)
    pairs = pairs_per_document(settings) * num_documents
    shown = len(passages) + 2 * pairs + 4 * questions  # names, drafts, and checks with both passages and with each
    return len(passages) + pairs, questions, characters * shown


def no_pairs_message(documents: Sequence[Document], rejected: Sequence[Mapping[str, Any]]) -> str:
    lost = (
        f" ({len(rejected):,} answers could not be parsed as lists of names; read rejected.jsonl)" if rejected else ""
    )
    return (
        f"questions.documents_per_question=2: no two of the {len(documents):,} documents mention the same "
        f"name{lost}; ask about single documents (questions.documents_per_question=1), or add related documents"
    )


def list_names(
    passages: Sequence[QuestionPassage], llm: LLM, rejected: list[dict[str, Any]], progress: Progress
) -> Iterator[Names]:
    """Yields the names in each passage, and adds completions without a list of names to `rejected`."""
    with progress.bar("names", len(passages), "passages") as advance:
        for passage, completion in zip(passages, llm.complete(map(names_request, passages)), strict=True):
            raise_if_unanswered(completion)
            names = parse_names(passage, completion.text)
            if names is None:
                completion.discard()
                reason = REFUSAL_AS_TEXT if is_refusal(completion) else NO_NAMES
                rejected.append({"document": passage.document.id, "answer": completion.text, "reason": reason})
            yield names or {}
            advance(1)


def draft_questions(
    passages: Sequence[QuestionPassage],
    llm: LLM,
    settings: GeneratedQuestions,
    rejected: list[dict[str, Any]],
    progress: Progress,
) -> Iterator[Draft]:
    """Yields the drafts, and adds entries that are not questions to `rejected`."""
    with progress.bar("questions", len(passages), "passages") as advance:
        answers = llm.complete(drafting_request(passage, settings) for passage in passages)
        for passage, completion in zip(passages, answers, strict=True):
            raise_if_unanswered(completion)
            usable, unusable = parse_drafts(passage, completion, settings)
            if unusable and not usable:
                completion.discard()
            reason = REFUSAL_AS_TEXT if is_refusal(completion) else UNUSABLE[settings.form]
            rejected += [{"document": passage.document.id, "answer": item, "reason": reason} for item in unusable]
            yield from usable
            advance(1)


def drop_duplicates(drafts: Iterable[Draft], rejected: list[dict[str, Any]]) -> Iterator[Draft]:
    """Drops drafts with the same words as an earlier draft about the same document, and adds them to `rejected`."""
    seen: set[tuple[str, Sequence[str]]] = set()
    for draft in drafts:
        key = (draft.question.document_id, normalize(draft.question.text))
        if key in seen:
            rejected.append({**review_line(draft), "reason": ASKED_BEFORE})
            continue
        seen.add(key)
        yield draft


def review_line(draft: Draft) -> dict[str, Any]:
    """Returns a draft as a line of a question file. `other_document` is only for human readers."""
    question, other = draft.question, draft.passage.other
    multiple_choice = {"choices": list(question.choices), "answer": question.answer}
    return {
        "document": question.document_id,
        **({"other_document": other.document.id} if other else {}),
        "question": question.text,
        **(multiple_choice if question.choices else {"answers": list(question.accepted)}),
        "group": question.group,
        "evidence": list(question.evidence),
    }


def write_lines(file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    file.write_bytes(b"".join(map(json_line, lines)))


def data_losses(counts: Mapping[str, Any], documents: int) -> list[DataLoss]:
    """Returns what the questions do not cover in a corpus of `documents` documents."""
    return [
        DataLoss("documents have no question", counts["documents_without_questions"], documents),
        DataLoss("questions are left out with a skipped file", counts.get("questions_about_skipped_files", 0)),
        unstated_data_loss(counts),
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
    if "duplicate_questions" in counts:
        lines.append(f"  left out {count_of(counts['duplicate_questions'], 'question')}: {REPEATED}")
    return [*lines, *unstated_lines(counts)]
