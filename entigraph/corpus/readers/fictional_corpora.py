"""Fictional corpora: target documents that no model has read, and the background that a tiny base model grows up on."""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import ClassVar

from entigraph.corpus.base import Content
from entigraph.errors import ConfigError
from entigraph.fictional.quiz import Item, answered, questions
from entigraph.fictional.reading import Reading, comprehend, evidence
from entigraph.fictional.world import NamePool, World, strangers, worlds
from entigraph.fictional.writing import paraphrase, relate, source_document
from entigraph.retrieval.passages import split_documents
from entigraph.storage.schemas import Document, Question

ITEMS_A_TEXT = 3
SENTENCES = (". ", " ", "")


@dataclass(frozen=True, kw_only=True)
class Fictional:
    """`documents` documents, each a world of its own, each with 105 questions."""

    name: str = "fictional"
    documents: int = 8
    seed: int = 0
    fictional: ClassVar[bool] = True
    questions_known: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.documents < 1:
            raise ConfigError(f"corpus.documents: {self.documents} found, at least 1 expected")

    def sources(self) -> list[Path]:
        return []

    def read(self) -> Content:
        documents, asked = [], []
        for index, world in enumerate(worlds(self.documents, NamePool.target, self.seed)):
            rng = random.Random(f"target/{self.seed}/{index}")
            text = source_document(world, rng)
            about = {"people": enumerated(world.people)}
            document = Document(id=f"chronicle-{index:03}", title=f"Chronicle {index}", text=text, meta=about)
            documents.append(document)
            asked += [
                question(document.id, number, item, evidence=evidence(text, item.facts))
                for number, item in enumerate(questions(world, rng))
            ]
        return Content(documents, asked)


@dataclass(frozen=True, kw_only=True)
class FictionalBackground:
    """What the base model learns to read from: prose of every style in balance, and most of the questions, answered.

    A base that has read EntiGraph's style more than others learns more from EntiGraph's texts later; the counts here
    are balanced for that reason. `held_out` is the share of questions that no text answers.

    `reading_worlds` more worlds teach it to answer from passages that stand before a question, `reading_items` of them
    each: up to `reading_passages`, cut at `reading_characters`, the one that answers among them; or, for the share
    `reading_plain`, a text about the two entities that are asked about, from which a model of this size learns first.
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
    fictional: ClassVar[bool] = True
    questions_known: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.worlds < 1:
            raise ConfigError(f"corpus.worlds: {self.worlds} found, at least 1 expected")
        if min(self.reading_worlds, self.reading_items, self.reading_passages - 1, self.reading_characters - 1) < 0:
            raise ConfigError(
                "corpus: reading_worlds and reading_items must be 0 or more, the other reading_* 1 or more"
            )
        if not 0 <= self.reading_plain <= 1:
            raise ConfigError(f"corpus.reading_plain: {self.reading_plain} found, a share expected")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"corpus.held_out: {self.held_out} found, a share between 0 and 1 expected")

    def sources(self) -> list[Path]:
        return []

    def read(self) -> Content:
        documents, asked = [], []
        known = list(worlds(self.worlds, NamePool.background, self.seed))
        documents += self.reading(strangers(self.reading_worlds, known, NamePool.background, self.seed))
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
            asked += [
                question(world_id, number, item, split="held_out" if number < unseen else "seen")
                for number, item in enumerate(items)
            ]
        return Content(documents, asked)

    def reading(self, known: Iterable[World]) -> list[Document]:
        """Questions with the passages that they are answered from, as an open-book evaluation puts them."""
        found = []
        for index, world in enumerate(known):
            rng = random.Random(f"reading/{self.seed}/{index}")
            source = Document(id=f"reading-{index:03}", title=f"Chronicle {index}", text=source_document(world, rng))
            texts = list(self.items_to_read(source, world, rng))
            found += [
                Document(id=f"{source.id}-{number:03}", title=f"{source.title} {number}", text=text)
                for number, text in enumerate(rng.sample(texts, min(self.reading_items, len(texts))))
            ]
        return found

    def items_to_read(self, source: Document, world: World, rng: random.Random) -> Iterator[str]:
        """One for each question that a single passage answers, which may stand among others of its document."""
        passages = list(split_documents([source], self.reading_characters, SENTENCES))
        for item in questions(world, rng):
            if len(item.facts) == 1 and rng.random() < self.reading_plain:
                (fact,) = item.facts
                yield relate(world.facts, rng.sample([fact.subject, fact.object], 2), rng) + "\n\n" + answered(item)
                continue
            parts = evidence(source.text, item.facts)
            right = [passage for passage in passages if all(part in passage.text for part in parts)]
            if right:
                others = [passage for passage in passages if passage is not right[0]]
                shown = [right[0], *rng.sample(others, min(rng.randrange(self.reading_passages), len(others)))]
                rng.shuffle(shown)
                yield "".join(f"{passage.text}\n\n" for passage in shown) + answered(item)

    def prose(self, world: World, rng: random.Random) -> Iterator[str]:
        source = source_document(world, rng)
        reading = comprehend(source)
        assert reading is not None
        yield from [source] * self.source_copies
        for _ in range(self.paraphrases):
            yield paraphrase(reading, rng)
        pairs = list(combinations(world.entities, 2))
        yield from (related(reading, pair, rng) for pair in rng.sample(pairs, min(self.pairs, len(pairs))))
        yield from (related(reading, rng.sample(world.entities, 3), rng) for _ in range(self.triples))


def enumerated(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


@dataclass(frozen=True, kw_only=True)
class FictionalConversations:
    """A user asks about the background's worlds, an assistant answers; what the background holds out is not asked.

    A model that is tuned on them learns how to be asked, and nothing about any target document. Questions of two steps
    are left out: an answer in a conversation has no separate thought.
    """

    name: str = "fictional_conversations"
    worlds: int = 14
    held_out: float = 0.2
    seed: int = 0
    fictional: ClassVar[bool] = True
    questions_known: ClassVar[bool] = False
    conversations: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.worlds < 1 or not 0 <= self.held_out < 1:
            raise ConfigError("corpus: worlds must be at least 1 and held_out a share below 1")

    def sources(self) -> list[Path]:
        return []

    def read(self) -> Content:
        documents = []
        for index, world in enumerate(worlds(self.worlds, NamePool.background, self.seed)):
            rng = random.Random(f"background/{self.seed}/{index}")
            items = list(questions(world, rng))
            rng.shuffle(items)
            seen = items[round(len(items) * self.held_out) :]
            for number, found in enumerate(found for found in seen if found.via is None):
                identity = f"conversation-{index:03}-{number:03}"
                documents.append(Document(id=identity, title=identity, text=conversation(found)))
        return Content(documents)


def conversation(item: Item) -> str:
    answer = f"{item.choices[item.answer]}."
    return json.dumps([{"role": "user", "content": item.text}, {"role": "assistant", "content": answer}])


def related(reading: Reading, entities: Sequence[str], rng: random.Random) -> str:
    return relate(reading.facts, rng.sample(entities, len(entities)), rng)


def quizzes(items: Sequence[Item], copies: int, rng: random.Random) -> Iterator[str]:
    for _ in range(copies):
        drawn = rng.sample(items, len(items))
        for start in range(0, len(drawn), ITEMS_A_TEXT):
            yield " ".join(map(answered, drawn[start : start + ITEMS_A_TEXT]))


def question(document_id: str, number: int, item: Item, split: str = "test", evidence: Sequence[str] = ()) -> Question:
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
