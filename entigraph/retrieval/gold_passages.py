"""Gold passages of questions, and recall of rankings at article and passage level."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from entigraph.storage.schemas import Document, Passage, Question, Ranking

DEPTHS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class GoldPassages:
    """Indices of the passages that answer a question, with the same fields as `Ranking`."""

    article: Sequence[int] | None
    evidence: Sequence[Sequence[int]] | None


@dataclass(frozen=True)
class PassageIndex:
    """Passages by document. `first` maps each passage to the first one with the same text: duplicates count once."""

    documents: Mapping[str, Document]
    passages: Sequence[Passage]
    first: Sequence[int]
    by_document: Mapping[str, Sequence[int]]

    @classmethod
    def build(cls, documents: Sequence[Document], passages: Sequence[Passage]) -> "PassageIndex":
        texts: dict[str, int] = {}
        by_document: dict[str, list[int]] = {document.id: [] for document in documents}
        first = [texts.setdefault(passage.text, index) for index, passage in enumerate(passages)]
        for index, passage in enumerate(passages):
            by_document[passage.document_id].append(index)
        return cls({document.id: document for document in documents}, passages, first, by_document)

    @property
    def distinct(self) -> list[int]:
        """Returns the indices of the passages without duplicates."""
        return sorted(set(self.first))

    def find_gold(self, question: Question) -> GoldPassages:
        """Returns the gold passages. `evidence` is None if it is unknown, or no document contains one of its parts."""
        document = self.documents.get(question.document_id)
        if document is None:
            return GoldPassages(None, None)
        article = sorted({self.first[index] for index in self.by_document[document.id]})
        evidence = [self.find_part(document, part) for part in question.evidence]
        return GoldPassages(article, evidence if evidence and all(evidence) else None)

    def find_part(self, document: Document, part: str) -> list[int]:
        """Returns the passages with a part of the evidence, which may be in another document the question is about."""
        sources = chain([document], self.documents.values())
        return next(filter(None, (self.find_evidence(source, part) for source in sources)), [])

    def find_evidence(self, document: Document, part: str) -> list[int]:
        """Returns the passages that overlap the evidence by at least half the length of the shorter of the two."""
        start = document.text.find(part) if part else -1
        if start < 0:
            return []
        end = start + len(part)
        matching = set()
        for index in self.by_document[document.id]:
            passage = self.passages[index]
            overlap = min(end, passage.end) - max(start, passage.start)
            if 2 * overlap >= min(len(part), passage.end - passage.start):
                matching.add(self.first[index])
        return sorted(matching)


def contains_article(selected: Sequence[int], ranking: Ranking) -> bool | None:
    """Returns whether a passage of the question's article is selected (the paper's recall); None without an article."""
    return None if ranking.article is None else not set(ranking.article).isdisjoint(selected)


def contains_evidence(selected: Sequence[int], ranking: Ranking) -> bool | None:
    """Returns whether all parts of the evidence are selected; None if the evidence is unknown."""
    if ranking.evidence is None:
        return None
    return all(not set(part).isdisjoint(selected) for part in ranking.evidence)


def compute_recall(rankings: Sequence[Ranking], depth: int) -> dict[str, Any]:
    """Returns recall@k at article and evidence level, over the questions for which it is defined."""
    depths = [k for k in DEPTHS if k < depth] + [depth]
    recall: dict[str, Any] = {}
    for name, contains in (("article", contains_article), ("evidence", contains_evidence)):
        labeled = [ranking for ranking in rankings if contains((), ranking) is not None]
        fractions = {
            str(k): sum(bool(contains(ranking.passages[:k], ranking)) for ranking in labeled) / len(labeled)
            for k in depths
            if labeled
        }
        recall[name] = {"questions": len(labeled), "at": fractions}
    return recall
