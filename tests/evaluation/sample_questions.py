"""Sample questions and the input files of a task."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from entigraph.evaluation import stage
from entigraph.evaluation.base import TaskInputs
from entigraph.evaluation.tasks.base import EvaluationTask
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, Question


def in_order(scores: Iterable[tuple[int, Any]]) -> list[Any]:
    """Returns (index, value) pairs in any order as a list of values."""
    return [value for _, value in sorted(scores, key=lambda item: item[0])]


def make_question(number: int, **changes: object) -> Question:
    values = {
        "id": f"q{number}",
        "document_id": f"d{number % 3}",
        "text": "Where is the document?",
        "choices": ["here", "in the document", "the answer", "nowhere at all"],
        "answer": number % 4,
        "group": "even" if number % 2 == 0 else "odd",
    }
    return Question(**{**values, **changes})  # type: ignore[arg-type]


def write_inputs(folder: Path, questions: Sequence[Question]) -> TaskInputs:
    """Writes questions and their documents, whose titles are their ids."""
    documents = sorted({question.document_id for question in questions})
    write_jsonl(folder / "questions.jsonl", questions)
    write_jsonl(folder / "documents.jsonl", [Document(id=item, title=item, text="Some text.") for item in documents])
    return TaskInputs(folder / "questions.jsonl", folder / "documents.jsonl")


def evaluate_tasks(model: Any, out: Path, source: TaskInputs, **tasks: EvaluationTask) -> dict[str, Any]:
    """Runs tasks on the same inputs, and returns the content of scores.json."""
    stage.run(model, out, tasks=tasks, inputs=dict.fromkeys(tasks, source))
    scores: dict[str, Any] = json.loads((out / "scores.json").read_text())
    return scores
