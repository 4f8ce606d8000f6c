"""Anybody's questions about their documents: a JSONL file, one question a line.

`answer` is the number of the right choice, counted from 0. A list of numbers, [0, 2] or [1], says that several may be
right and all of them are asked for (Coursera's exams, paper App. A.3).
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from entigraph.errors import DataError
from entigraph.storage.schemas import Choice, Question

EXPECTED = 'expected {"document": "a.txt", "question": "...", "choices": ["...", "..."], "answer": 0} or [0, 1]'
MAX_PROBLEMS_SHOWN = 10


def read_questions(path: Path, documents: Collection[str]) -> list[Question]:
    """Raises DataError that tells the first bad lines, and how many there are."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a JSONL file of questions") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8 and run again") from None
    questions: list[Question] = []
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                questions.append(parse_question(f"{path.stem}-{number:05}", json.loads(line), documents))
            except json.JSONDecodeError as error:
                problems.append(f"line {number}: not JSON ({error.msg})")
            except DataError as error:
                problems.append(f"line {number}: {error}")
    if problems:
        more = [f"... and {len(problems) - MAX_PROBLEMS_SHOWN:,} more"] if len(problems) > MAX_PROBLEMS_SHOWN else []
        raise DataError(
            "\n      ".join(
                [f"{path}: {len(problems):,} bad of {len(problems) + len(questions):,} questions; {EXPECTED}"]
                + problems[:MAX_PROBLEMS_SHOWN]
                + more
            )
        )
    if not questions:
        raise DataError(f"{path}: no question in it; {EXPECTED} on each line")
    return questions


def parse_question(identity: str, raw: Any, documents: Collection[str]) -> Question:
    missing = [
        key for key in ("document", "question", "choices", "answer") if not isinstance(raw, dict) or key not in raw
    ]
    if missing:
        raise DataError(f"lacks {', '.join(missing)}")
    document, asked, choices, answer = raw["document"], raw["question"], raw["choices"], raw["answer"]
    if not isinstance(document, str) or document not in documents:
        known = ", ".join(sorted(documents)[:3])
        raise DataError(f"asks about {document!r}, no document of this corpus ({known}, ...)")
    if not isinstance(asked, str) or not asked.strip():
        raise DataError(f"question is {asked!r}; a text expected")
    if not isinstance(choices, list) or len(choices) < 2 or not all(str(choice).strip() for choice in choices):
        raise DataError(f"choices are {choices!r:.80}; two texts or more expected")
    choices = [str(choice).strip() for choice in choices]
    if len(set(choices)) < len(choices):
        raise DataError(f"choices are {choices!r:.80}; different texts expected")
    return Question(
        id=identity,
        document_id=document,
        text=asked.strip(),
        choices=choices,
        answer=parse_answer(choices, answer),
        group=str(raw.get("group", "all")),
        evidence=parse_evidence(raw.get("evidence")),
    )


def parse_answer(choices: Sequence[str], answer: Any) -> Choice:
    numbers = answer if isinstance(answer, list) else [answer]
    known = range(len(choices))
    if not all(isinstance(number, int) and not isinstance(number, bool) and number in known for number in numbers):
        raise DataError(f"answer is {answer!r:.80}; 0 to {len(choices) - 1} expected")
    if not isinstance(answer, list):
        return int(answer)
    if not numbers or len(set(numbers)) < len(numbers):
        raise DataError(f"answer is {answer!r:.80}; a list holds the number of each right choice, at least one, once")
    return sorted(numbers)


def parse_evidence(evidence: Any) -> list[str]:
    """One text of the document or several; none where none is stated."""
    parts = evidence if isinstance(evidence, list) else [evidence or ""]
    if not all(isinstance(part, str) for part in parts):
        raise DataError(f"evidence is {evidence!r:.80}; a text or a list of texts expected")
    return [part.strip() for part in parts if part.strip()]
