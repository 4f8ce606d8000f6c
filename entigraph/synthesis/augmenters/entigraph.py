"""EntiGraph (paper §2.2): list the entities of a document, then write about their pairs and triples."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import ceil, comb
from pathlib import Path
from typing import ClassVar

from entigraph.config.fields import check_minimums, runtime_field
from entigraph.errors import ConfigError
from entigraph.storage.schemas import Document
from entigraph.synthesis.augmenters.entity_lists import EntityAugmenter
from entigraph.synthesis.augmenters.relation_order import (
    Relation,
    Selection,
    cover_first,
    sample_by_importance,
    shuffle,
)
from entigraph.synthesis.augmenters.student_feedback import (
    DEFAULT_ROUNDS,
    StudentFeedback,
    read_feedback,
    worst_known_next,
)
from entigraph.synthesis.base import Graphs, Steps, WritingTask, round_robin
from entigraph.text.writing_systems import HANGUL, UNSPACED

# Writers decorate the heading "=== 1", translate "group" in "=== Group 1", and repeat the entities after it.
GROUP_HEADING = re.compile(
    rf"^[^\w\n=|]*(?P<bars>={{3,}})(?P<word>[^\d\n=|]{{0,30}})(?P<number>\d{{1,4}})[{UNSPACED}{HANGUL}]{{0,4}}"
    r"(?:[^\w\n][^\n]{0,100})?$",
    re.MULTILINE,
)
MARKDOWN_HEADING = re.compile(
    r"^[ *]*(?P<bars>#{1,6})[ *]*(?P<word>(?:group|text)?)[ *]*(?P<number>\d{1,4})[ *:.]*$",
    re.MULTILINE | re.IGNORECASE,
)
COMMON_WORDS = ("", "group", "text", "section", "part")


@dataclass(frozen=True, kw_only=True)
class EntiGraph(EntityAugmenter):
    """Writes about every pair of a document's entities, then about a seeded sample of its triples.

    `selection` is the order of the pairs and of the triples of each document (relation_order.py), and so determines
    which of them a token budget reaches. The paper's is uniform; others are part of the name: "entigraph-coverage".
    `adaptive` writes in `rounds`, each with an equal part of the budget, the first of them uniform, and trains a
    student after each but the last; relations whose loss is at most `target_loss` nats per byte are not written about.
    The pipeline sets `student`, the evaluation of the student, and `earlier_texts`, those that it was trained on.
    `triples_per_document` null: all triples, as far as the token budget goes. The paper used "a subset" and gives no
    number (App. C). `requests_in_a_row` about one document keep its text in a server's prefix cache.
    `relations_per_request` asks for several texts at once, so that the document is sent once for all of them; the paper
    asks for one.
    """

    name: str = "entigraph"
    selection: Selection = Selection.uniform
    triples_per_document: int | None = None
    requests_in_a_row: int = 8
    relations_per_request: int = 1
    min_entities: ClassVar[int] = 2  # a pair
    rounds: int = runtime_field(DEFAULT_ROUNDS)  # the student and the budget determine what is written
    target_loss: float | None = None
    student: str | None = runtime_field(None)  # both enter the cache key as sources
    earlier_texts: str | None = runtime_field(None)

    def __post_init__(self) -> None:
        minimums = {"triples_per_document": 0, "requests_in_a_row": 1, "relations_per_request": 1, "rounds": 2}
        check_minimums(self, "augmenter.", **minimums)
        if self.target_loss is not None and self.selection != Selection.adaptive:
            raise ConfigError(
                f"augmenter.target_loss needs augmenter.selection=adaptive, which measures losses, got {self.selection}"
            )
        if self.selection != Selection.uniform and self.name == "entigraph":
            object.__setattr__(self, "name", f"entigraph-{self.selection}")
        super().__post_init__()

    @property
    def prompt_names(self) -> Sequence[str]:
        return ["entities", self.relation_prompt("pair"), self.relation_prompt("triple")]

    def sources(self) -> Sequence[str]:
        return [source for source in (self.student, self.earlier_texts) if source]

    def relation_prompt(self, kind: str) -> str:
        return kind if self.relations_per_request == 1 else f"{kind}s"

    def tasks(self, documents: Iterable[Document], graphs: Graphs, seed: int) -> Iterator[WritingTask]:
        known = [(document, graphs[document.id].entities) for document in documents if document.id in graphs]
        feedback = self.read_feedback()
        pairs = [
            self.group(document, "pair", self.order(document, names, 2, seed, feedback)) for document, names in known
        ]
        triples = [
            self.group(
                document, "triple", islice(self.order(document, names, 3, seed, feedback), self.triples_per_document)
            )
            for document, names in known
        ]
        return chain(round_robin(pairs, self.requests_in_a_row), round_robin(triples, self.requests_in_a_row))

    def order(
        self, document: Document, entities: Sequence[str], size: int, seed: int, feedback: StudentFeedback | None = None
    ) -> Iterator[Relation]:
        """Yields the pairs (`size` 2) or triples (3) of the entities in the order of writing."""
        if feedback:
            return worst_known_next(document, entities, size, seed, feedback, self.target_loss)
        match self.selection:
            case Selection.importance:
                return sample_by_importance(document, entities, size, seed)
            case Selection.coverage:
                return cover_first(document, entities, size, seed)
            case _:
                return shuffle(document.id, entities, size, seed)

    def read_feedback(self) -> StudentFeedback | None:
        """Returns None where no student is needed, and in a plan before there is one."""
        if self.student is None or self.earlier_texts is None or not Path(self.student).is_dir():
            return None
        return read_feedback(Path(self.student), Path(self.earlier_texts))

    def group(self, document: Document, kind: str, relations: Iterator[Sequence[str]]) -> Iterator[WritingTask]:
        while about := list(islice(relations, self.relations_per_request)):
            yield WritingTask(document=document, kind=kind, about=about)

    def write(self, task: WritingTask) -> Steps[Sequence[str | None]]:
        details = f"### Entities\n{self.render_groups(task.about)}"
        answer = yield self.build_request(task.document, self.relation_prompt(task.kind), details)
        if self.relations_per_request == 1:
            return [answer]
        texts: dict[int, str] = {}
        group = 0
        sections = list(split_groups(answer))
        counted_from_zero = bool(sections) and sections[0][0] == 0
        for number, text in sections:
            number += counted_from_zero
            group = number if 0 < number <= len(task.about) else group  # other numbers are headings within a text
            texts[group] = f"{texts.get(group, '')}\n\n{text.strip()}".strip()
        return [texts.get(number) or None for number in range(1, len(task.about) + 1)]

    def render_groups(self, about: Sequence[Sequence[str]]) -> str:
        groups = ["\n".join(f"- {entity}" for entity in group) for group in about]
        if self.relations_per_request == 1:
            return groups[0]
        return "\n".join(f"=== {number}\n{group}" for number, group in enumerate(groups, 1))

    def count_tasks(self, entities: int) -> Mapping[str, int]:
        kept = min(entities, self.max_entities or entities)
        triples = comb(kept, 3)
        if self.triples_per_document is not None:
            triples = min(triples, self.triples_per_document)
        relations = {"pair": comb(kept, 2), "triple": triples}
        return {kind: ceil(count / self.relations_per_request) for kind, count in relations.items()}


def split_groups(answer: str) -> Iterator[tuple[int, str]]:
    """Yields the number and the text under each heading. A heading within a text has other bars or another word."""
    headings = list(GROUP_HEADING.finditer(answer.replace("＝", "="))) or list(MARKDOWN_HEADING.finditer(answer))
    words = Counter(map(heading_word, headings))
    word = "" if words[""] else max(words, key=words.__getitem__, default="")
    headings = [heading for heading in headings if heading_word(heading) == word]
    headings = [heading for heading in headings if heading["bars"] == headings[0]["bars"]]
    ends = [*(heading.start() for heading in headings[1:]), len(answer)]
    for heading, end in zip(headings, ends, strict=False):
        yield int(heading["number"]), answer[heading.end() : end]


def heading_word(heading: re.Match[str]) -> str:
    """Returns the word before the number; empty for the common ones."""
    word = heading["word"].strip(" \t\u3000#*_-–—:.([").casefold()
    return "" if word in COMMON_WORDS else word
