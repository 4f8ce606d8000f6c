"""Open book: passages of a run's documents, retrieved by BM25."""

from collections.abc import Sequence
from pathlib import Path

from entigraph.retrieval.base import top_indices
from entigraph.retrieval.bm25 import BM25, tokenize
from entigraph.retrieval.passages import split_documents
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document


class PassageSearch:
    """Searches the documents of a corpus artifact. The index is built once."""

    def __init__(self, corpus: Path) -> None:
        import bm25s

        retriever = BM25()
        documents = read_jsonl(corpus / "documents.jsonl", Document)
        self.texts = [passage.text for passage in split_documents(documents, retriever.characters)]
        self.index = bm25s.BM25(k1=retriever.k1, b=retriever.b)
        terms = tokenize(self.texts)
        self.is_empty = not any(terms)  # which the library rejects
        if not self.is_empty:
            self.index.index(terms, show_progress=False)

    def search(self, question: str, count: int) -> Sequence[str]:
        """Returns up to `count` passages that share a word with the question, best first."""
        terms = [] if self.is_empty else [term for term in tokenize([question])[0] if term in self.index.vocab_dict]
        if not terms:
            return []
        scores = self.index.get_scores(terms)
        return [self.texts[index] for index in top_indices(scores, count) if scores[index] > 0]
