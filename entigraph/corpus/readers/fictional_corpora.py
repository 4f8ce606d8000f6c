"""Generates fictional corpora: target documents that no model has read, and the background that a small base model is
pretrained on.
"""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import ClassVar

from entigraph.config.fields import check_minimums, check_shares
from entigraph.corpus.base import CorpusContent
from entigraph.errors import ConfigError
from entigraph.fictional.quiz import Item, questions, render_item
from entigraph.fictional.reading import Reading, comprehend, evidence
from entigraph.fictional.world import NamePool, World, exchange_objects, unseen_worlds, worlds
from entigraph.fictional.writing import paraphrase, relate, source_document
from entigraph.retrieval.passages import split_documents
from entigraph.storage.schemas import Document, Question

ITEMS_PER_TEXT = 3
SENTENCES = (". ", " ", "")


class GeneratedCorpus:
    """A corpus without source files."""

    fictional: ClassVar[bool] = True
    has_questions: ClassVar[bool] = True

    def sources(self) -> list[Path]:
        return []


@dataclass(frozen=True, kw_only=True)
class FictionalCorpus(GeneratedCorpus):
    """Generates `documents` documents, each about a separate world and with 105 questions.

    In the first `changed` documents, two facts differ from what the corpus with 0 states: their objects are exchanged.
    """

    name: str = "fictional"
    documents: int = 8
    changed: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_minimums(self, "corpus.", documents=1)
        if not 0 <= self.changed <= self.documents:
            raise ConfigError(
                f"corpus.changed must be between 0 and corpus.documents={self.documents}, got {self.changed}"
            )

    def read(self) -> CorpusContent:
        documents, all_questions = [], []
        for index, world in enumerate(worlds(self.documents, NamePool.target, self.seed)):
            if index < self.changed:
                world = exchange_objects(world, random.Random(f"changes/{self.seed}/{index}"))
            rng = random.Random(f"target/{self.seed}/{index}")
            text = source_document(world, rng)
            meta = {"people": join_names(world.people)}
            document = Document(id=f"chronicle-{index:03}", title=f"Chronicle {index}", text=text, meta=meta)
            documents.append(document)
            all_questions += [
                build_question(document.id, number, item, evidence=evidence(text, item.facts))
                for number, item in enumerate(questions(world, rng))
            ]
        return CorpusContent(documents, all_questions)


@dataclass(frozen=True, kw_only=True)
class FictionalBackground(GeneratedCorpus):
    """Generates the pretraining corpus of the base model: prose in every style, and most questions with their answers.

    A base model that has seen EntiGraph's style more often than others learns more from EntiGraph's texts later; the
    counts are balanced for that reason. `held_out` is the share of questions that no text answers.

    `reading_worlds` further worlds teach answering from passages before a question, with `reading_items` texts each: up
    to `reading_passages` passages of `reading_characters`, among them the one with the answer; or, for the share
    `reading_plain`, a text about the two entities in question, from which a model of this size learns first.
    """

    name: str = "fictional_background"
    worlds: int = 14
    source_copies: int = 20
    paraphrases: int = 20
    pairs: int = 45
    triples: int = 10
    question_copies: int = 2
    held_out: float = 0.2
    reading_worlds: int = 0
    reading_items: int = 20
    reading_characters: int = 256
    reading_passages: int = 2
    reading_plain: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        reading = {"reading_worlds": 0, "reading_items": 0, "reading_passages": 1, "reading_characters": 1}
        check_minimums(self, "corpus.", worlds=1, **reading)
        check_shares(self, "corpus.", "reading_plain")
        check_shares(self, "corpus.", "held_out", ends=False)

    def read(self) -> CorpusContent:
        documents, all_questions = [], []
        known = list(worlds(self.worlds, NamePool.background, self.seed))
        documents += self.reading(unseen_worlds(self.reading_worlds, known, NamePool.background, self.seed))
        for index, world in enumerate(known):
            rng = random.Random(f"background/{self.seed}/{index}")
            items = list(questions(world, rng))
            rng.shuffle(items)
            unseen = round(len(items) * self.held_out)
            texts = [*self.prose(world, rng), *quizzes(items[unseen:], self.question_copies, rng)]
            world_id = f"world-{index:03}"
            documents += [
                Document(id=f"{world_id}-{number:03}", title=f"{world_id} {number}", text=text)
                for number, text in enumerate(texts)
            ]
            all_questions += [
                build_question(world_id, number, item, split="held_out" if number < unseen else "seen")
                for number, item in enumerate(items)
            ]
        return CorpusContent(documents, all_questions)

    def reading(self, known: Iterable[World]) -> list[Document]:
        """Returns questions after the passages with their answers, in the format of an open-book evaluation."""
        documents = []
        for index, world in enumerate(known):
            rng = random.Random(f"reading/{self.seed}/{index}")
            source = Document(id=f"reading-{index:03}", title=f"Chronicle {index}", text=source_document(world, rng))
            texts = list(self.reading_texts(source, world, rng))
            documents += [
                Document(id=f"{source.id}-{number:03}", title=f"{source.title} {number}", text=text)
                for number, text in enumerate(rng.sample(texts, min(self.reading_items, len(texts))))
            ]
        return documents

    def reading_texts(self, source: Document, world: World, rng: random.Random) -> Iterator[str]:
        """Yields one text for each question that a single passage answers."""
        passages = list(split_documents([source], self.reading_characters, SENTENCES))
        for item in questions(world, rng):
            if len(item.facts) == 1 and rng.random() < self.reading_plain:
                (fact,) = item.facts
                yield relate(world.facts, rng.sample([fact.subject, fact.object], 2), rng) + "\n\n" + render_item(item)
                continue
            parts = evidence(source.text, item.facts)
            right = [passage for passage in passages if all(part in passage.text for part in parts)]
            if right:
                others = [passage for passage in passages if passage is not right[0]]
                selected = [right[0], *rng.sample(others, min(rng.randrange(self.reading_passages), len(others)))]
                rng.shuffle(selected)
                yield "".join(f"{passage.text}\n\n" for passage in selected) + render_item(item)

    def prose(self, world: World, rng: random.Random) -> Iterator[str]:
        source = source_document(world, rng)
        reading = comprehend(source)
        assert reading is not None
        yield from [source] * self.source_copies
        for _ in range(self.paraphrases):
            yield paraphrase(reading, rng)
        pairs = list(combinations(world.entities, 2))
        yield from (
            relate_in_random_order(reading, pair, rng) for pair in rng.sample(pairs, min(self.pairs, len(pairs)))
        )
        for _ in range(self.triples):
            yield relate_in_random_order(reading, rng.sample(world.entities, 3), rng)


def join_names(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


@dataclass(frozen=True, kw_only=True)
class FictionalConversations(GeneratedCorpus):
    """Generates conversations in which a user asks about the worlds of the background and an assistant answers.

    They contain no question that the background holds out and nothing about a target document, so a model tuned on them
    learns the format only. Two-step questions are left out: an answer in a conversation has no separate thought.
    """

    name: str = "fictional_conversations"
    worlds: int = 14
    held_out: float = 0.2
    seed: int = 0
    has_questions: ClassVar[bool] = False
    conversations: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.worlds < 1 or not 0 <= self.held_out < 1:
            raise ConfigError("corpus: worlds must be at least 1 and held_out a share below 1")

    def read(self) -> CorpusContent:
        documents = []
        for index, world in enumerate(worlds(self.worlds, NamePool.background, self.seed)):
            rng = random.Random(f"background/{self.seed}/{index}")
            items = list(questions(world, rng))
            rng.shuffle(items)
            seen = items[round(len(items) * self.held_out) :]
            for number, item in enumerate(item for item in seen if item.via is None):
                document_id = f"conversation-{index:03}-{number:03}"
                documents.append(Document(id=document_id, title=document_id, text=conversation(item)))
        return CorpusContent(documents)


def conversation(item: Item) -> str:
    answer = f"{item.choices[item.answer]}."
    return json.dumps([{"role": "user", "content": item.text}, {"role": "assistant", "content": answer}])


def relate_in_random_order(reading: Reading, entities: Sequence[str], rng: random.Random) -> str:
    return relate(reading.facts, rng.sample(entities, len(entities)), rng)


def quizzes(items: Sequence[Item], copies: int, rng: random.Random) -> Iterator[str]:
    for _ in range(copies):
        shuffled = rng.sample(items, len(items))
        for start in range(0, len(shuffled), ITEMS_PER_TEXT):
            yield " ".join(map(render_item, shuffled[start : start + ITEMS_PER_TEXT]))


def build_question(
    document_id: str, number: int, item: Item, split: str = "test", evidence: Sequence[str] = ()
) -> Question:
    return Question(
        id=f"{document_id}-q{number:03}",
        document_id=document_id,
        text=item.text,
        choices=item.choices,
        answer=item.answer,
        group=item.group,
        split=split,
        thought=item.via is not None,
        evidence=evidence,
    )
