"""Question files that users provide: JSON Lines with one question per line.

`answer` is the zero-based index of the correct choice. A list of indices, [0, 2] or [1], means that several choices may
be correct and all of them must be selected (as in Coursera's exams, paper App. A.3). A free-form question has a list of
accepted short `answers` in place of `choices` and `answer`.
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
    """Returns the questions. Raises DataError with the first invalid lines and their total number."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; a JSONL file of questions expected") from None
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
        raise DataError(f"{path}: no questions; {EXPECTED} on each line")
    return questions


def parse_question(identity: str, raw: Any, documents: Collection[str]) -> Question:
    """Returns the question on one parsed line. Raises DataError if a value is missing or invalid."""
    free_form = isinstance(raw, dict) and "answers" in raw
    keys = ("document", "question", *(("answers",) if free_form else ("choices", "answer")))
    missing = [key for key in keys if not isinstance(raw, dict) or key not in raw]
    if missing:
        raise DataError(f"missing {', '.join(missing)}")
    document, text = raw["document"], raw["question"]
    if not isinstance(document, str) or document not in documents:
        known = ", ".join(sorted(documents)[:3])
        raise DataError(f"document is {document!r}; a document of this corpus expected ({known}, ...)")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"question is {text!r}; a text expected")
    choices = [] if free_form else parse_choice_texts(raw["choices"])
    return Question(
        id=identity,
        document_id=document,
        text=text.strip(),
        choices=choices,
        answer=[] if free_form else parse_answer(choices, raw["answer"]),
        accepted=parse_accepted(raw["answers"]) if free_form else [],
        group=str(raw.get("group", "all")),
        evidence=parse_evidence(raw.get("evidence")),
    )


def parse_choice_texts(choices: Any) -> list[str]:
    if not isinstance(choices, list) or len(choices) < 2 or not all(str(choice).strip() for choice in choices):
        raise DataError(f"choices are {choices!r:.80}; two texts or more expected")
    texts = [str(choice).strip() for choice in choices]
    if len(set(texts)) < len(texts):
        raise DataError(f"choices are {texts!r:.80}; different texts expected")
    return texts


def parse_accepted(answers: Any) -> list[str]:
    """Returns the accepted answers of a free-form question: a text, or a list of texts."""
    texts = answers if isinstance(answers, list) else [answers]
    if not texts or not all(isinstance(text, str | int | float) and str(text).strip() for text in texts):
        raise DataError(f"answers are {answers!r:.80}; a text or a list of texts expected")
    return [str(text).strip() for text in texts]


def parse_answer(choices: Sequence[str], answer: Any) -> Choice:
    indices = answer if isinstance(answer, list) else [answer]
    known = range(len(choices))
    if not all(isinstance(index, int) and not isinstance(index, bool) and index in known for index in indices):
        raise DataError(f"answer is {answer!r:.80}; 0 to {len(choices) - 1} expected")
    if not isinstance(answer, list):
        return int(answer)
    if not indices or len(set(indices)) < len(indices):
        raise DataError(
            f"answer is {answer!r:.80}; the indices of all correct choices expected, at least one, once each"
        )
    return sorted(indices)


def parse_evidence(evidence: Any) -> list[str]:
    """Returns the passages of the document that answer the question; empty if the file has none."""
    parts = evidence if isinstance(evidence, list) else [evidence or ""]
    if not all(isinstance(part, str) for part in parts):
        raise DataError(f"evidence is {evidence!r:.80}; a text or a list of texts expected")
    return [part.strip() for part in parts if part.strip()]
