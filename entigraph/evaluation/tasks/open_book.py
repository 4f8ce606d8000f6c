"""Questions with retrieved passages in the prompt (paper §5, App. F). Retrieval can be degraded deliberately."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import check_shares
from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.base import PassageLookup, RetrievedPassages, TaskInputs
from entigraph.evaluation.scoring import accuracy, mean_with_interval
from entigraph.evaluation.tasks.closed_book import ClosedBook
from entigraph.evaluation.tasks.closed_book_cot import ClosedBookCoT
from entigraph.evaluation.tasks.free_form import FreeForm
from entigraph.evaluation.tasks.question_task import QuestionTask
from entigraph.retrieval.gold_passages import contains_article, contains_evidence
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer, Passage, Question, Ranking


class PassageOrder(StrEnum):
    """The order of the passages, best first or best last, which is next to the question."""

    best_first = "best_first"
    best_last = "best_last"


@dataclass(frozen=True, kw_only=True)
class OpenBookTask(QuestionTask):
    """Adds the first `k` passages of a question's ranking to the prompt, in an `order`.

    Two settings degrade retrieval. With probability `drop_gold`, the gold passages of a question are dropped (the
    passages with its evidence if known, else those of its article), which multiplies the expected recall by
    1 - `drop_gold`. The `distractors` best passages of other articles are inserted in addition. Both depend only on
    `drop_seed` and the question: the questions affected at one `drop_gold` are also affected at every higher one.
    """

    k: int = 8
    order: PassageOrder = PassageOrder.best_last
    drop_gold: float = 0.0
    distractors: int = 0
    drop_seed: int = 0
    needs_retrieval: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_minimum(k=1, distractors=0)
        check_shares(self, "evaluation ", "drop_gold")

    def select_passages(self, ranking: Ranking) -> list[int]:
        """Returns the passage indices in the order of the prompt."""
        rng = random.Random(f"{self.drop_seed}/{ranking.question_id}")
        gold = gold_passages(ranking)
        ranked = list(ranking.passages)
        if rng.random() < self.drop_gold:
            ranked = [index for index in ranked if index not in gold]
        selected = ranked[: self.k]
        same_article = {*(ranking.article or ()), *gold}
        others = [index for index in ranked[self.k :] if index not in same_article][: self.distractors]
        for index in others:
            selected.insert(rng.randint(0, len(selected)), index)
        return selected if self.order is PassageOrder.best_first else selected[::-1]

    def passage_lookup(self, inputs: TaskInputs) -> PassageLookup:
        assert inputs.retrieval is not None
        return RankedPassages(inputs.retrieval, self)

    def score(self, answers: Sequence[Answer]) -> dict[str, Any]:
        return {**super().score(answers), "retrieval": score_retrieval(answers)}  # type: ignore[safe-super]


class RankedPassages:
    """Looks up a question's passages in a retrieval folder."""

    def __init__(self, folder: Path, task: OpenBookTask) -> None:
        self.folder, self.task = folder, task
        self.passages = list(read_jsonl(folder / "passages.jsonl", Passage))
        self.rankings = {ranking.question_id: ranking for ranking in read_jsonl(folder / "rankings.jsonl", Ranking)}

    def __call__(self, question: Question) -> RetrievedPassages:
        """Returns the passages for a question. Raises DataError if it has no ranking."""
        ranking = self.rankings.get(question.id)
        if ranking is None:
            raise DataError(f"{self.folder / 'rankings.jsonl'} has no ranking for {question.id}; remove that folder")
        selected = self.task.select_passages(ranking)
        return RetrievedPassages(
            [self.passages[index].text for index in selected],
            contains_article(selected, ranking),
            contains_evidence(selected, ranking),
        )


@dataclass(frozen=True, kw_only=True)
class OpenBook(OpenBookTask, ClosedBook):
    """Scores choices by likelihood. `context` is the template of each passage; the passages precede the prompt."""

    context: str = "{passage}\n\n"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "{passage}" not in self.context:
            raise ConfigError(f"evaluation context: {self.context!r} lacks {{passage}}")

    def format_passages(self, passages: Sequence[str]) -> str:
        return "".join(self.context.replace("{passage}", passage) for passage in passages)


@dataclass(frozen=True, kw_only=True)
class OpenBookCoT(OpenBookTask, ClosedBookCoT):
    """Samples chains of thought; the five few-shot examples have 1, 2, 3, 3 and 5 passages, as in the paper."""

    examples: str = "five_books_open"


@dataclass(frozen=True, kw_only=True)
class OpenBookFreeForm(OpenBookTask, FreeForm):
    """Asks for one short answer. The passages are placed between the examples and the question."""


def gold_passages(ranking: Ranking) -> set[int]:
    if ranking.evidence is not None:
        return {index for part in ranking.evidence for index in part}
    return set(ranking.article or ())


def score_retrieval(answers: Sequence[Answer]) -> dict[str, Any]:
    """Returns the recall of the passages in the prompts, and the accuracy with and without gold passages.

    Both are at `article` level, and at `evidence` level for questions whose evidence is known.
    """
    scores: dict[str, Any] = {"nothing_retrieved": sum(not answer.retrieved for answer in answers)}
    for name in ("article", "evidence"):
        has_gold = attrgetter(f"{name}_shown")
        labeled = [answer for answer in answers if has_gold(answer) is not None]
        with_gold = [answer for answer in labeled if has_gold(answer)]
        without_gold = [answer for answer in labeled if not has_gold(answer)]
        recall = mean_with_interval("recall", labeled, has_gold) if labeled else {"recall": None, "questions": 0}
        scores[name] = {
            **recall,
            "accuracy_shown": accuracy(with_gold) if with_gold else None,
            "accuracy_not_shown": accuracy(without_gold) if without_gold else None,
        }
    return scores
