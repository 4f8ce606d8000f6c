"""Question files that users provide: JSON Lines with one question per line.

`answer` is the zero-based index of the correct choice. A list of indices, [0, 2] or [1], means that several choices may
be correct and all of them must be selected (as in Coursera's exams, paper App. A.3). A free-form question has a list of
accepted short `answers` instead of `choices` and `answer`.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from entigraph.errors import DataError
from entigraph.storage.data_losses import DataLoss, count_of
from entigraph.storage.jsonl import (
    json_error,
    list_problems,
    numbered_lines,
    parse_strict_json,
    read_jsonl,
    write_jsonl,
)
from entigraph.storage.schemas import UNGROUPED, Choice, Document, Question
from entigraph.text.answer_matching import contains_answer, normalize_answer
from entigraph.text.normalization import fold_whitespace, is_blank, normalize_line, normalize_text

EXPECTED = 'expected {"document": "a.txt", "question": "...", "choices": ["...", "..."], "answer": 0} or [0, 1]'

REPEATED = "asked twice"
UNSTATED = "unstated_answers.jsonl"
SEVERAL_ANSWERS = 5  # fewer unstated answers may be calculated or paraphrased
WITHOUT_WORDING = frozenset({"yes", "no", "true", "false"})  # answers that a document implies without stating them


def read_questions(
    path: Path, documents: Collection[str], other_name: Callable[[str], str | None] = lambda name: None
) -> list[Question]:
    """Returns the questions, normalized. `other_name` returns the id of a document that has another name, else None.

    Raises DataError with the first invalid lines and their total number.
    """

    def find_document(name: Any) -> str:
        if isinstance(name, str):
            normalized = normalize_line(name)
            document_id = normalized if normalized in documents else other_name(name)
            if document_id:
                return document_id
        known = ", ".join(sorted(documents)[:3])
        raise DataError(f"document must be a document of this corpus ({known}, ...), got {name!r:.80}")

    questions: list[Question] = []
    lines: dict[str, int] = {}
    problems: list[str] = []
    for number, line in numbered_lines(path):
        try:
            question_id = normalize_line(f"{path.stem}-{number:05}")
            lines[question_id] = number
            questions.append(parse_question(question_id, parse_strict_json(line), find_document))
        except DataError as error:
            problems.append(f"line {number}: {error}")
        except ValueError as error:
            problems.append(f"line {number}: not JSON ({json_error(error)})")
    if problems:
        total = len(problems) + len(questions)
        raise list_problems(f"{path}: {len(problems):,} bad of {total:,} questions; {EXPECTED}", problems)
    if not questions:
        raise DataError(f"{path}: no questions; {EXPECTED} on each line")
    if contradictions := [pair for pair in repeated_questions(questions) if not same_answer(*pair)]:
        raise list_problems(
            f"{path}: {len(contradictions):,} of {len(questions):,} questions are asked before with another answer; "
            "remove one of the two, or list all correct answers on one line",
            [f"lines {lines[a.id]} and {lines[b.id]}: {b.text!r:.80}" for a, b in contradictions],
        )
    return questions


def drop_repeated(questions: Iterable[Question]) -> tuple[list[Question], int]:
    """Returns the distinct questions, and the number of the others."""
    questions = list(questions)
    repeated = {question.id for _, question in repeated_questions(questions)}
    return [question for question in questions if question.id not in repeated], len(repeated)


def repeated_questions(questions: Iterable[Question]) -> Iterator[tuple[Question, Question]]:
    """Yields the first and the repeated question for each one that repeats an earlier question about the same
    document with the same choices in any order.
    """
    first: dict[Any, Question] = {}
    for question in questions:
        asked = (
            question.document_id,
            fold_whitespace(question.text),
            frozenset(map(fold_whitespace, question.choices)),
        )
        if first.setdefault(asked, question) is not question:
            yield first[asked], question


def same_answer(first: Question, second: Question) -> bool:
    return first.multiple_answers == second.multiple_answers and correct_texts(first) == correct_texts(second)


def correct_texts(question: Question) -> set[str]:
    indices = question.answer if isinstance(question.answer, Sequence) else [question.answer]
    texts = [question.choices[index] for index in indices] if question.choices else question.accepted
    return set(map(fold_whitespace, texts))


def list_unstated(
    questions: Iterable[Question], documents: Path, out: Path, file: Path | str | None = None
) -> dict[str, int]:
    """Writes the questions whose short answers are in no document, and returns their count for the manifest; empty if
    there are none.

    Multiple choice is not checked, because its options often paraphrase the document, nor are answers such as "yes".
    Raises DataError if a `file` of the user has only short answers, or several, and none of them is in a document.
    """
    questions = list(questions)
    checked = [question for question in questions if question.accepted and not is_implied(question)]
    unstated = find_unstated(checked, documents)
    if not unstated:
        return {}
    if file and len(unstated) == len(checked) and len(checked) >= min(len(questions), SEVERAL_ANSWERS):
        example = unstated[0]
        raise DataError(
            f"{file}: none of its {len(checked):,} short answers is in a document, such as {example.accepted[0]!r:.80} "
            f"to {example.text!r:.80}; give questions about these documents, whose answers are in their words"
        )
    write_jsonl(out / UNSTATED, unstated)
    return {"unstated_answers": len(unstated)}


def unstated_lines(counts: Mapping[str, Any]) -> list[str]:
    """Returns the line to print about short answers that are in no document; empty if there are none."""
    count = counts.get("unstated_answers", 0)
    if not count:
        return []
    return [f"  {count_of(count, 'short answer')} in no document ({UNSTATED}); multiple choice is not checked"]


def unstated_data_loss(counts: Mapping[str, Any]) -> DataLoss:
    count = counts.get("unstated_answers", 0)
    return DataLoss(
        "questions have a short answer that is in no document (asked all the same)", count, counts["questions"]
    )


def is_implied(question: Question) -> bool:
    return any(normalize_answer(answer) in WITHOUT_WORDING for answer in question.accepted)


def find_unstated(questions: Iterable[Question], documents: Path) -> list[Question]:
    """Returns the questions of which no document contains an accepted answer, in its text, title or metadata."""
    by_document: defaultdict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_document[question.document_id].append(question)
    stated: set[str] = set()
    for document in read_jsonl(documents, Document):  # most answers are in their own document
        stated |= {question.id for question in by_document.get(document.id, ()) if states_answer(document, question)}
    remaining = [question for group in by_document.values() for question in group if question.id not in stated]
    for document in read_jsonl(documents, Document) if remaining else ():
        remaining = [question for question in remaining if not states_answer(document, question)]
    return remaining


def states_answer(document: Document, question: Question) -> bool:
    text = "\n".join([document.title, *document.meta.values(), document.text])
    return any(contains_answer(text, answer) for answer in question.accepted)


def parse_question(question_id: str, raw: Any, find_document: Callable[[Any], str]) -> Question:
    """Returns the question on one parsed line. Raises DataError with every missing or invalid value."""
    free_form = isinstance(raw, dict) and "answers" in raw
    keys = ("document", "question", *(("answers",) if free_form else ("choices", "answer")))
    missing = [key for key in keys if not isinstance(raw, dict) or key not in raw]
    if missing:
        raise DataError(f"missing {', '.join(missing)}")
    if free_form and raw.get("choices"):
        raise DataError("choices and answers exclude each other; give one of them")
    choices = raw.get("choices")
    can_choose = not free_form and isinstance(choices, list) and len(choices) > 1
    fields: Mapping[str, Callable[[], Any]] = {
        "document_id": lambda: find_document(raw["document"]),
        "text": lambda: parse_question_text(raw["question"]),
        "choices": lambda: [] if free_form else parse_choices(choices),
        "answer": lambda: parse_answer(choices, raw["answer"]) if can_choose else [],
        "accepted": lambda: parse_accepted(raw["answers"]) if free_form else [],
        "group": lambda: parse_group(raw.get("group")),
        "evidence": lambda: parse_evidence(raw.get("evidence")),
    }
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field, parse in fields.items():
        try:
            values[field] = parse()
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("; ".join(problems))
    return Question(id=question_id, **values)


def parse_question_text(raw: Any) -> str:
    text = parse_text(raw)
    if not text:
        raise DataError(f"question must be a non-empty string, got {raw!r:.80}")
    return text


def parse_text(value: Any) -> str:
    """Returns a normalized text; "" for what is no text, or one without a visible character."""
    text = normalize_text(value).strip() if isinstance(value, str) else ""
    return "" if is_blank(text) else text


def parse_choices(raw: Any) -> list[str]:
    choices = [parse_text_or_number(item) for item in raw] if isinstance(raw, list) else []
    if len(choices) < 2 or not all(choices):
        raise DataError(f"choices must be at least two non-empty strings or numbers, got {raw!r:.80}")
    if len(set(map(fold_whitespace, choices))) < len(choices):
        raise DataError(f"choices must differ after normalization, got {raw!r:.80}")
    return choices


def parse_accepted(answers: Any) -> list[str]:
    """Returns the accepted answers of a free-form question: a text, or a list of texts."""
    texts = [parse_text_or_number(item) for item in (answers if isinstance(answers, list) else [answers])]
    if not texts or not all(texts):
        raise DataError(f"answers must be a string or a list of strings, got {answers!r:.80}")
    return texts


def parse_text_or_number(value: Any) -> str:
    """Returns a text as `parse_text` does; numbers are texts here."""
    return parse_text(str(value) if is_number(value) else value)


def is_number(value: Any) -> bool:
    """Returns whether a value is an integer or a finite float."""
    return isinstance(value, int) and not isinstance(value, bool) or isinstance(value, float) and isfinite(value)


def parse_answer(choices: Sequence[str], answer: Any) -> Choice:
    indices = answer if isinstance(answer, list) else [answer]
    known = range(len(choices))
    if not all(isinstance(index, int) and not isinstance(index, bool) and index in known for index in indices):
        raise DataError(f"answer must be between 0 and {len(choices) - 1}, got {answer!r:.80}")
    if not isinstance(answer, list):
        return int(answer)
    if not indices or len(set(indices)) < len(indices):
        raise DataError(f"answer must list the index of each correct choice once, got {answer!r:.80}")
    return sorted(indices)


def parse_group(group: Any) -> str:
    """Returns the group of a question; UNGROUPED if the file states none."""
    if group is None:
        return UNGROUPED
    if not isinstance(group, str) and not is_number(group):
        raise DataError(f"group must be a string, got {group!r:.80}")
    return normalize_line(str(group)).strip() or UNGROUPED


def parse_evidence(evidence: Any) -> list[str]:
    """Returns the passages of the document that answer the question; empty if the file has none."""
    parts = evidence if isinstance(evidence, list) else [evidence or ""]
    if not all(isinstance(part, str) for part in parts):
        raise DataError(f"evidence must be a string or a list of strings, got {evidence!r:.80}")
    return list(filter(None, map(parse_text, parts)))
