"""A small library whose right passages are known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, Question, Ranking

SUBJECTS = ("lighthouse", "orchard", "telescope", "glacier", "violin", "harbour", "volcano", "library")
RankCorpus = Callable[..., tuple[dict[str, Any], list[Ranking]]]


def write_corpus(folder: Path, subjects: tuple[str, ...] = SUBJECTS) -> list[Question]:
    """A document about each subject, and two questions, of which the evidence stands in its second paragraph."""
    documents, questions = [], []
    for subject in subjects:
        first = f"The {subject} has stood in this country for a hundred years, and many people came to see it. " * 3
        second = f"In spring the keeper of the {subject} painted the door of the {subject} green."
        text = f"{first}\n\n{second}\n\n" + "Nothing else was ever written about those years. " * 6
        meta = {"author": "Vale, Miriam", "year": "1951"}
        documents.append(Document(id=subject, title=f"On the {subject}", text=text, meta=meta))
        for number in range(2):
            questions.append(
                Question(
                    id=f"{subject}-{number}",
                    document_id=subject,
                    text=f"Which color had the {subject} door that its keeper painted?",
                    choices=["green", "blue", "white", "red"],
                    answer=0,
                    group="all",
                    evidence=[second],
                )
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "documents.jsonl", documents)
    write_jsonl(folder / "questions.jsonl", questions)
    return questions
