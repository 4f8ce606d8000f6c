"""Counts the training texts that mention the answer of a question, with excerpts.

The answer names are the entities of the document's graph that the correct choice contains; the question names are the
entities that the question contains. Without a graph, or if the choice contains no entity, a short choice is itself a
name. The texts are read once for all questions, and each is searched only for the names of its source document.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from entigraph.storage.schemas import Answer, EntityGraph, SyntheticText, source_document_id
from entigraph.text.writing_systems import UNSPACED_CHARACTERS, count_words, find_names_in, name_pattern

MAX_EXCERPTS = 3
MAX_NAME_WORDS = 5  # longer choices are not used as names
MIN_NAME_CHARACTERS = 2
EXCERPT_CHARACTERS = 420
ARTICLE = re.compile(r"^(the|an?) ", re.IGNORECASE)


class QuestionKey(NamedTuple):
    """Identifies a question that several tasks may ask."""

    document_id: str
    question: str
    correct_choice: str

    @classmethod
    def from_answer(cls, answer: Answer) -> "QuestionKey":
        return cls(answer.document_id, answer.question, answer.correct_text)


@dataclass(frozen=True)
class TrainingTexts:
    """The texts that a model was trained on. `texts` returns a new iterator at every call. `graphs` may refer to the
    parts of long documents; without graphs, only short choices are names.
    """

    texts: Callable[[], Iterator[SyntheticText]]
    graphs: Sequence[EntityGraph] = ()


@dataclass(frozen=True)
class TextExcerpt:
    kind: str
    about: Sequence[str]
    text: str


@dataclass
class AnswerMentions:
    """Counts of texts: `texts` are about the document, `answer_mentions` of them contain one of `answer_names`, and
    `joint_mentions` of those also contain one of `question_names`.
    """

    answer_names: Sequence[str]
    question_names: Sequence[str] = ()
    texts: int = 0
    answer_mentions: int = 0
    joint_mentions: int = 0
    answer_excerpts: list[TextExcerpt] = field(default_factory=list)
    joint_excerpts: list[TextExcerpt] = field(default_factory=list)

    def add(self, text: SyntheticText, names: frozenset[str]) -> None:
        """Counts a text that contains these names."""
        self.texts += 1
        if names.isdisjoint(self.answer_names):
            return
        joint = not names.isdisjoint(self.question_names)
        self.answer_mentions += 1
        self.joint_mentions += joint
        excerpts = self.joint_excerpts if joint else self.answer_excerpts
        if len(excerpts) < MAX_EXCERPTS:
            excerpt = cut_excerpt(text.text, self.answer_names, self.question_names)
            excerpts.append(TextExcerpt(text.kind, text.about, excerpt))

    @property
    def excerpts(self) -> Sequence[TextExcerpt]:
        return [*self.joint_excerpts, *self.answer_excerpts][:MAX_EXCERPTS]


def count_mentions(keys: Collection[QuestionKey], training: TrainingTexts) -> dict[QuestionKey, AnswerMentions]:
    """Returns the mentions for each question with an answer name. Memory does not grow with the number of texts."""
    by_document: dict[str, dict[QuestionKey, AnswerMentions]] = {}
    entities = group_entities(training.graphs, {key.document_id for key in keys})
    for key in keys:
        if mentions := find_names(key, entities.get(key.document_id, ())):
            by_document.setdefault(key.document_id, {})[key] = mentions
    names = {
        document: frozenset(
            name for mentions in questions.values() for name in (*mentions.answer_names, *mentions.question_names)
        )
        for document, questions in by_document.items()
    }
    for text in training.texts() if names else ():
        if text.document_id in by_document:
            contained = frozenset(find_names_in(names[text.document_id], text.text))
            for mentions in by_document[text.document_id].values():
                mentions.add(text, contained)
    return {key: mentions for questions in by_document.values() for key, mentions in questions.items()}


def find_names(key: QuestionKey, entities: Sequence[str]) -> AnswerMentions | None:
    """Returns the names to search for, with zero counts; None if the correct choice has no name."""
    answer_names = keep_longest(find_names_in(entities, key.correct_choice))
    choice = ARTICLE.sub("", key.correct_choice.strip().rstrip(".。"))
    if not answer_names and is_long_enough(choice) and count_words(choice) <= MAX_NAME_WORDS:
        answer_names = [choice]
    question_names = [
        name
        for name in keep_longest(find_names_in(entities, key.question))
        if not any(overlaps(name, answer_name) for answer_name in answer_names)
    ]
    return AnswerMentions(answer_names, question_names) if answer_names else None


def group_entities(graphs: Iterable[EntityGraph], documents: set[str]) -> Mapping[str, Sequence[str]]:
    """Returns entities by document, merging the parts "id#1", "id#2", ... of a long document."""
    entities: dict[str, dict[str, str]] = {}
    for graph in graphs:
        names = entities.setdefault(source_document_id(graph.document_id, documents), {})
        names.update({entity.lower(): entity for entity in graph.entities})
    return {document: [name for name in names.values() if is_long_enough(name)] for document, names in entities.items()}


def is_long_enough(name: str) -> bool:
    """Returns whether a name is longer than a letter; in scripts without spaces, one character may be a word."""
    return len(name) >= MIN_NAME_CHARACTERS or UNSPACED_CHARACTERS.fullmatch(name) is not None


def keep_longest(names: Sequence[str]) -> list[str]:
    """Drops names that are part of a longer name: "Vale" if "Miriam Vale" is present."""
    return [name for name in names if not any(len(other) > len(name) and overlaps(name, other) for other in names)]


def overlaps(name: str, other: str) -> bool:
    """Returns whether one name contains the other: a text with one would count for both."""
    return bool(name_pattern(name).search(other) or name_pattern(other).search(name))


def cut_excerpt(text: str, answer_names: Sequence[str], question_names: Sequence[str]) -> str:
    """Returns an excerpt around the answer name that is closest to a question name."""
    positions = [match.start() for name in answer_names for match in name_pattern(name).finditer(text)]
    question_positions = [match.start() for name in question_names for match in name_pattern(name).finditer(text)]
    center = min(
        positions, key=lambda position: min((abs(position - other) for other in question_positions), default=position)
    )
    if question_positions:
        center = (center + min(question_positions, key=lambda other: abs(center - other))) // 2
    start = max(0, min(center - EXCERPT_CHARACTERS // 2, len(text) - EXCERPT_CHARACTERS))
    end = start + EXCERPT_CHARACTERS
    if start and (space := text.find(" ", start, start + 20)) >= 0:
        start = space + 1
    end = len(text) if end >= len(text) else max(text.rfind(" ", end - 20, end), end - 20)
    return f"{'…' * (start > 0)}{text[start:end].strip()}{'…' * (end < len(text))}"
