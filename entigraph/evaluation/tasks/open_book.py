"""Multiple choice with passages before the question (paper §5, App. F), and a dial that makes retrieval worse."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.base import Retrieved
from entigraph.evaluation.scoring import accuracy, share
from entigraph.evaluation.tasks.closed_book import ClosedBook
from entigraph.evaluation.tasks.closed_book_cot import ClosedBookCoT
from entigraph.retrieval.gold_passages import article_among, evidence_among
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer, Passage, Question, Ranking


class Order(StrEnum):
    """Where the best passage stands; `best_last`: next to the question."""

    best_first = "best_first"
    best_last = "best_last"


@dataclass(frozen=True, kw_only=True)
class Showing:
    """The first `k` passages of a question's ranking, in an `order`.

    The dial: with the probability `drop_gold` a question's right passages (its evidence's where that is known, else
    its article's) are passed over, so that recall is expected to fall to 1 - `drop_gold` of what it was; and
    `distractors` more passages, the best of other articles, stand among them. `drop_seed` and the question decide,
    and a question that loses its passages loses them at every higher `drop_gold` too.
    """

    k: int = 8
    order: Order = Order.best_last
    drop_gold: float = 0.0
    distractors: int = 0
    drop_seed: int = 0
    needs_retrieval: ClassVar[bool] = True

    def check_showing(self) -> None:
        if self.k < 1 or self.distractors < 0:
            raise ConfigError("evaluation: k must be at least 1 and distractors at least 0")
        if not 0 <= self.drop_gold <= 1:
            raise ConfigError(f"evaluation drop_gold: {self.drop_gold} found, a probability from 0 to 1 expected")

    def shown(self, ranking: Ranking) -> list[int]:
        """Numbers of passages in the order in which they stand in the prompt."""
        rng = random.Random(f"{self.drop_seed}/{ranking.question_id}")
        gold = right_passages(ranking)
        ranked = list(ranking.passages)
        if rng.random() < self.drop_gold:
            ranked = [number for number in ranked if number not in gold]
        found = ranked[: self.k]
        own = {*(ranking.article or ()), *gold}
        others = [number for number in ranked[self.k :] if number not in own][: self.distractors]
        for number in others:
            found.insert(rng.randint(0, len(found)), number)
        return found if self.order is Order.best_first else found[::-1]


def right_passages(ranking: Ranking) -> set[int]:
    if ranking.evidence is not None:
        return {number for part in ranking.evidence for number in part}
    return set(ranking.article or ())


class Library:
    """A retrieval's passages and rankings. What a question is shown depends on nothing else that is asked."""

    def __init__(self, folder: Path, showing: Showing) -> None:
        self.folder, self.showing = folder, showing
        self.passages = list(read_jsonl(folder / "passages.jsonl", Passage))
        self.rankings = {ranking.question_id: ranking for ranking in read_jsonl(folder / "rankings.jsonl", Ranking)}

    def __call__(self, question: Question) -> Retrieved:
        """Raises DataError for a question that was not looked up."""
        ranking = self.rankings.get(question.id)
        if ranking is None:
            raise DataError(f"{self.folder / 'rankings.jsonl'} does not know {question.id}; remove that folder")
        shown = self.showing.shown(ranking)
        return Retrieved(
            [self.passages[number].text for number in shown],
            article_among(shown, ranking),
            evidence_among(shown, ranking),
        )


@dataclass(frozen=True, kw_only=True)
class OpenBook(Showing, ClosedBook):
    """By likelihood. `context` holds {passage}; each passage stands so before the prompt."""

    context: str = "{passage}\n\n"
    needs_retrieval: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_showing()
        if "{passage}" not in self.context:
            raise ConfigError(f"evaluation context: {self.context!r} lacks {{passage}}")

    def opening(self, passages: Sequence[str]) -> str:
        return "".join(self.context.replace("{passage}", passage) for passage in passages)

    def scored(self, answers: Iterable[Answer]) -> dict[str, Any]:
        found = list(answers)
        return {**super().scored(found), "retrieval": scored_retrieval(found)}


@dataclass(frozen=True, kw_only=True)
class OpenBookCoT(Showing, ClosedBookCoT):
    """By sampled chains of thought, behind five examples that carry passages too: 1, 2, 3, 3 and 5 (as the paper's)."""

    examples: str = "five_books_open"
    needs_retrieval: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_showing()

    def scored(self, answers: Iterable[Answer]) -> dict[str, Any]:
        found = list(answers)
        return {**super().scored(found), "retrieval": scored_retrieval(found)}


def scored_retrieval(answers: Sequence[Answer]) -> dict[str, Any]:
    """Recall of what was shown, and accuracy with and without it: by article, and by passage where it is known."""
    found: dict[str, Any] = {"nothing_retrieved": sum(not answer.retrieved for answer in answers)}
    for name in ("article", "evidence"):
        known = [answer for answer in answers if getattr(answer, f"{name}_shown") is not None]
        shown = [answer for answer in known if was_shown(name, answer)]
        hidden = [answer for answer in known if not was_shown(name, answer)]
        found[name] = {
            **(share("recall", known, partial(was_shown, name)) if known else {"recall": None, "questions": 0}),
            "accuracy_shown": accuracy(shown) if shown else None,
            "accuracy_not_shown": accuracy(hidden) if hidden else None,
        }
    return found


def was_shown(name: str, answer: Answer) -> bool:
    return bool(getattr(answer, f"{name}_shown"))
