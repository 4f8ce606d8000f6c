"""Where an answer may come from: the source sentences and the training texts that mention the names in it.

This shows what the model has read about these names, not that the answer follows from a text.
"""

import heapq
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from entigraph.chat.model_selection import SelectedModel
from entigraph.errors import ConfigError
from entigraph.evaluation.entity_mentions import cut_excerpt, is_long_enough, keep_longest, overlaps
from entigraph.runtime.progress import Progress, SilentProgress
from entigraph.storage.artifact import read_manifest
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, EntityGraph
from entigraph.storage.texts import RowGroup, row_groups
from entigraph.text.writing_systems import SENTENCE_START, find_names_in

MAX_SHOWN = 5
PROGRESS_INTERVAL = 1_000  # texts
CAPITALIZED = re.compile(r"[^\W\d_a-z][\w'’-]+(?: [^\W\d_a-z][\w'’-]+)*")


@dataclass(frozen=True)
class SourceSentence:
    document_id: str
    title: str
    text: str


@dataclass(frozen=True)
class TextMention:
    """A training text that mentions a name of the answer."""

    id: str
    document_id: str
    title: str
    kind: str
    about: Sequence[str]
    excerpt: str
    text: str = field(repr=False)


@dataclass(frozen=True)
class Evidence:
    """The sentences and training texts that mention the names in an answer. Texts that also mention a name in the
    question come first.

    `sentence_count` and `text_count` are totals; only the first few are listed. `joint_texts` counts the texts that
    also mention a name in the question.
    """

    answer_names: Sequence[str]
    question_names: Sequence[str]
    sentences: Sequence[SourceSentence] = ()
    texts: Sequence[TextMention] = ()
    sentence_count: int = 0
    text_count: int = 0
    joint_texts: int = 0
    searched_texts: int = 0


class Lineage:
    """The documents and training texts of a run, found through the inputs of its training artifact."""

    def __init__(self, model: SelectedModel) -> None:
        corpus, synthesis, tokens = model.corpus, model.synthesis, model.tokens
        if not (corpus and synthesis and tokens):
            reason = (
                "it was not trained by a run in an outputs folder" if model.training is None else "they were removed"
            )
            raise ConfigError(f"{model.name}: its documents and training texts are unavailable: {reason}")
        self.corpus, self.synthesis, self.tokens = corpus, synthesis, tokens

    @cached_property
    def documents(self) -> dict[str, Document]:
        return {document.id: document for document in read_jsonl(self.corpus / "documents.jsonl", Document)}

    @cached_property
    def entities(self) -> Sequence[str]:
        """The entities of all documents, without duplicates; empty for augmenters without entity graphs."""
        file = self.synthesis / "graphs.jsonl"
        graphs = read_jsonl(file, EntityGraph) if file.exists() else ()
        names = {entity.lower(): entity for graph in graphs for entity in graph.entities}
        return [name for name in names.values() if is_long_enough(name)]

    def names_in(self, text: str) -> list[str]:
        """Returns the entities in a text; without graphs, its capitalized words that the documents contain."""
        if self.entities:
            return keep_longest(find_names_in(self.entities, text))
        names = (self.longest_suffix_in_documents(phrase) for phrase in CAPITALIZED.findall(text))
        return keep_longest(list(dict.fromkeys(name for name in names if name)))

    def longest_suffix_in_documents(self, phrase: str) -> str:
        """Returns the longest suffix (in words) of a phrase that occurs in a document; empty if there is none."""
        words = phrase.split(" ")
        suffixes = (" ".join(words[start:]) for start in range(len(words)))
        texts = [document.text for document in self.documents.values()]
        return next((suffix for suffix in suffixes if any(suffix in text for text in texts)), "")

    def find_evidence(self, question: str, answer: str, progress: Progress | None = None) -> Evidence:
        """Returns the evidence for an answer; empty if neither question nor answer contains a name."""
        answer_names, question_names = self.names_in(answer), self.names_in(question)
        answer_names = [name for name in answer_names if name not in question_names] or answer_names
        question_names = [name for name in question_names if not any(overlaps(name, other) for other in answer_names)]
        if not answer_names and not question_names:
            return Evidence([], [])
        # An answer without a name ("yes", a year) is explained by the names in its question.
        required, optional = (answer_names, question_names) if answer_names else (question_names, [])
        sentences = [
            (rank(text, required, optional), SourceSentence(document.id, document.title, text.strip()))
            for document in self.documents.values()
            for text in re.split(SENTENCE_START, document.text)
            if mentions(text, required)
        ]
        best = heapq.nlargest(MAX_SHOWN, enumerate(sentences), key=lambda item: (item[1][0], -item[0]))
        texts, counts = self.search_texts(required, optional, progress or SilentProgress())
        return Evidence(
            answer_names=answer_names,
            question_names=question_names,
            sentences=[sentence for _, (_, sentence) in best],
            texts=texts,
            sentence_count=len(sentences),
            text_count=counts["texts"],
            joint_texts=counts["joint"],
            searched_texts=counts["searched"],
        )

    def search_texts(
        self, required: Sequence[str], optional: Sequence[str], progress: Progress
    ) -> tuple[list[TextMention], Counter[str]]:
        """Returns the best texts, and counts: `searched`, `texts` with required names, `joint` with optional too."""
        counts: Counter[str] = Counter()

        def matches() -> Iterator[tuple[tuple[int, int], int, RowGroup, int, str]]:
            for index, group, row, text in self.training_texts():
                counts["searched"] += 1
                if counts["searched"] % PROGRESS_INTERVAL == 0:
                    advance(PROGRESS_INTERVAL)
                if mentions(text, required):
                    ranking = rank(text, required, optional)
                    counts["texts"] += 1
                    counts["joint"] += bool(ranking[0])
                    yield ranking, -index, group, row, text

        with progress.bar("searching", int(self.selected_texts.sum()), "texts") as advance:
            best = heapq.nlargest(MAX_SHOWN, matches(), key=lambda match: match[:2])
        return [self.describe(group, row, text, required, optional) for *_, group, row, text in best], counts

    def training_texts(self) -> Iterator[tuple[int, RowGroup, int, str]]:
        """Yields (index, row group, row, text) of each text that the model was trained on."""
        selected = self.selected_texts
        for group in row_groups(self.synthesis):
            rows = [row for row in range(group.count) if selected[group.first + row]]
            if rows:
                for row, text in zip(rows, group.column("text", rows), strict=True):
                    yield group.first + row, group, row, text

    @cached_property
    def selected_texts(self) -> Any:
        """A mask of the texts within the run's token budget."""
        from entigraph.tokenization.text_selection import TextSelection

        return TextSelection.from_manifest(read_manifest(self.tokens)).select(self.synthesis)

    def describe(
        self, group: RowGroup, row: int, text: str, required: Sequence[str], optional: Sequence[str]
    ) -> TextMention:
        text_id, document_id, kind, about = (
            group.column(name, [row])[0] for name in ("id", "document_id", "kind", "about")
        )
        title = self.documents[document_id].title if document_id in self.documents else document_id
        return TextMention(
            id=text_id,
            document_id=document_id,
            title=title,
            kind=kind,
            about=about,
            excerpt=cut_excerpt(text, required, optional),
            text=text,
        )


def mentions(text: str, names: Sequence[str]) -> bool:
    return bool(find_names_in(names, text))


def rank(text: str, required: Sequence[str], optional: Sequence[str]) -> tuple[int, int]:
    """Returns a sort key: the number of optional names in the text, then the number of required names."""
    return len(find_names_in(optional, text)), len(find_names_in(required, text))
