"""What a question's passages should be, and how many questions get them: recall by article, and by passage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from entigraph.storage.schemas import Document, Passage, Question, Ranking

DEPTHS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Gold:
    """`article` and `evidence` as in a Ranking."""

    article: Sequence[int] | None
    evidence: Sequence[Sequence[int]] | None


@dataclass(frozen=True)
class Shelf:
    """Passages by document. `first` has for every passage the first of the same text, which stands for all of them."""

    documents: Mapping[str, Document]
    passages: Sequence[Passage]
    first: Sequence[int]
    by_document: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, documents: Sequence[Document], passages: Sequence[Passage]) -> "Shelf":
        texts: dict[str, int] = {}
        by_document: dict[str, list[int]] = {document.id: [] for document in documents}
        first = [texts.setdefault(passage.text, number) for number, passage in enumerate(passages)]
        for number, passage in enumerate(passages):
            by_document[passage.document_id].append(number)
        return cls({document.id: document for document in documents}, passages, first, by_document)

    @property
    def distinct(self) -> list[int]:
        return sorted(set(self.first))

    def gold(self, question: Question) -> Gold:
        """Without evidence where it is not known, or a part of it does not stand in the document."""
        document = self.documents.get(question.document_id)
        if document is None:
            return Gold(None, None)
        own = self.by_document[document.id]
        article = sorted({self.first[number] for number in own})
        held = [self.holding(document, own, part) for part in question.evidence]
        return Gold(article, held if held and all(held) else None)

    def holding(self, document: Document, own: Sequence[int], part: str) -> list[int]:
        """The passages that share at least half of the shorter of both: of itself, or of this part of the document."""
        start = document.text.find(part) if part else -1
        if start < 0:
            return []
        end = start + len(part)
        found = set()
        for number in own:
            passage = self.passages[number]
            shared = min(end, passage.end) - max(start, passage.start)
            if 2 * shared >= min(len(part), passage.end - passage.start):
                found.add(self.first[number])
        return sorted(found)


def contains_article(shown: Sequence[int], ranking: Ranking) -> bool | None:
    """Whether a passage of the question's article is there (the paper's recall); None where the corpus lacks it."""
    return None if ranking.article is None else not set(ranking.article).isdisjoint(shown)


def contains_evidence(shown: Sequence[int], ranking: Ranking) -> bool | None:
    """Whether each part of the evidence is there; None where it is not known."""
    if ranking.evidence is None:
        return None
    return all(not set(part).isdisjoint(shown) for part in ranking.evidence)


def recall(rankings: Sequence[Ranking], depth: int) -> dict[str, Any]:
    """Shares of the questions whose article, and whose evidence, is known, at each k, with their numbers."""
    depths = [k for k in DEPTHS if k < depth] + [depth]
    found: dict[str, Any] = {}
    for name, among in (("article", contains_article), ("evidence", contains_evidence)):
        known = [ranking for ranking in rankings if among((), ranking) is not None]
        shares = {
            str(k): sum(bool(among(ranking.passages[:k], ranking)) for ranking in known) / len(known)
            for k in depths
            if known
        }
        found[name] = {"questions": len(known), "at": shares}
    return found
