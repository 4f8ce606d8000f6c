"""Open book: retrieves passages of a run's documents with BM25."""

from collections.abc import Sequence
from pathlib import Path

from entigraph.retrieval.bm25 import BM25, TermIndex, tokenize
from entigraph.retrieval.passages import split_documents
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document


class PassageSearch:
    """Searches the documents of a corpus artifact. The index is built once."""

    def __init__(self, corpus: Path) -> None:
        retriever = BM25()
        documents = read_jsonl(corpus / "documents.jsonl", Document)
        self.texts = [passage.text for passage in split_documents(documents, retriever.characters)]
        self.index = TermIndex(self.texts, retriever.k1, retriever.b)

    def search(self, question: str, count: int) -> Sequence[str]:
        """Returns up to `count` passages that share a word with the question, best first."""
        return [self.texts[index] for index, _ in self.index.rank(tokenize([question])[0], count)]
