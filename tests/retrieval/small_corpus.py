"""A small corpus with known gold passages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, Question, Ranking

TOPICS = ("lighthouse", "orchard", "telescope", "glacier", "violin", "harbour", "volcano", "library")
RankCorpus = Callable[..., tuple[dict[str, Any], list[Ranking]]]


def write_corpus(folder: Path, topics: tuple[str, ...] = TOPICS) -> list[Question]:
    """Writes one document and two questions per topic; the evidence is the document's second paragraph."""
    documents, questions = [], []
    for topic in topics:
        first = f"The {topic} has stood in this country for a hundred years, and many people came to see it. " * 3
        second = f"In spring the keeper of the {topic} painted the door of the {topic} green."
        text = f"{first}\n\n{second}\n\n" + "Nothing else was ever written about those years. " * 6
        meta = {"author": "Vale, Miriam", "year": "1951"}
        documents.append(Document(id=topic, title=f"On the {topic}", text=text, meta=meta))
        for number in range(2):
            questions.append(
                Question(
                    id=f"{topic}-{number}",
                    document_id=topic,
                    text=f"Which color had the {topic} door that its keeper painted?",
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
