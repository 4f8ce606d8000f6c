"""Stage 1: a source → documents.jsonl, questions.jsonl."""

from collections import Counter
from pathlib import Path
from typing import Any

from entigraph.corpus.base import Corpus
from entigraph.errors import DataError
from entigraph.records import write_jsonl


def run(corpus: Corpus, out: Path) -> dict[str, Any]:
    content = corpus.read()
    twice = [
        identity for identity, count in Counter(document.id for document in content.documents).items() if count > 1
    ]
    if twice:
        raise DataError(f"{corpus.name}: two documents are called {twice[0]!r}; ids must be unique")
    write_jsonl(out / "documents.jsonl", content.documents)
    write_jsonl(out / "questions.jsonl", content.questions)
    return {
        "documents": len(content.documents),
        "characters": sum(len(document.text) for document in content.documents),
        "questions": len(content.questions),
        **content.counts,
    }
