"""Active Reading (arXiv 2508.09494): the writer invents study strategies for a document, then carries each out."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from entigraph.config.fields import check_minimums
from entigraph.errors import ConfigError, LLMError
from entigraph.llm.offline.offline_prompt import OfflinePrompt
from entigraph.llm.offline.offline_tasks import offline_task
from entigraph.llm.offline.outline import connections, topics
from entigraph.storage.schemas import Document
from entigraph.synthesis.augmenters.item_lists import pick_item
from entigraph.synthesis.augmenters.rounds import RoundsAugmenter, rounds
from entigraph.synthesis.base import Graphs, Steps, WritingTask
from entigraph.text.json_answers import array_schema, object_schema

KIND = "active_reading"


class ReadingVariant(StrEnum):
    """`agnostic`: strategies that fit the document. `task`: strategies for readers with a stated purpose."""

    agnostic = "agnostic"
    task = "task"


@dataclass(frozen=True, kw_only=True)
class ActiveReading(RoundsAugmenter):
    """Asks for `strategies` study strategies for each document and writes one text with each; then asks for new ones.

    From the paper (its abstract and secondary descriptions; no code is published): strategies invented for each
    document, one text per strategy with the document shown, and a task variant, which first imagines what readers will
    have to know. Ours: the prompts, the number of strategies per list, and that a new list is asked for, with another
    sample of the same request, when the strategies of one are used up.

    `purpose` is a sentence about what readers of the texts will have to know. It must not quote an evaluation question.
    """

    name: str = "active_reading"
    variant: ReadingVariant = ReadingVariant.agnostic
    purpose: str = ""
    strategies: int = 10

    def __post_init__(self) -> None:
        check_minimums(self, "augmenter.", strategies=1)
        if (self.variant == ReadingVariant.task) != bool(self.purpose.strip()):
            raise ConfigError(
                "augmenter.purpose must be a sentence that says what readers will have to know with variant=task, and "
                f"empty with variant=agnostic, got {self.purpose!r} with augmenter.variant={self.variant}"
            )
        super().__post_init__()

    @property
    def prompt_names(self) -> Sequence[str]:
        return [f"strategies_{self.variant}", "study"]

    @property
    def user_texts(self) -> Mapping[str, str]:
        return {**super().user_texts, "purpose": self.purpose}

    def tasks(self, documents: Iterable[Document], graphs: Graphs, seed: int) -> Iterator[WritingTask]:
        return rounds(documents, [KIND], self.rounds, {KIND: self.strategies})

    def write(self, task: WritingTask) -> Steps[Sequence[str | None]]:
        details = f"### Number of strategies\n{self.strategies}"
        if self.variant == ReadingVariant.task:
            details = f"### Purpose of the readers\n{self.purpose.strip()}\n\n{details}"
        strategies = yield self.build_request(
            task.document,
            f"strategies_{self.variant}",
            details,
            sample=task.list_number,
            json_schema=object_schema(strategies=array_schema()),
        )
        strategy = pick_item(strategies, "strategies", task.sample)
        text = yield self.build_request(task.document, "study", f"### Study strategy\n{strategy}", sample=task.sample)
        return [text]


RECALL, CONNECT = "Recall everything about", "Work out how"


@offline_task("list strategies for studying the document")
def list_strategies(prompt: OfflinePrompt) -> str:
    strategies = [f"{RECALL} {topic}." for topic, _ in topics(prompt)]
    strategies += [f"{CONNECT} {one} bears on {other}." for (one, other), _ in connections(prompt)]
    count = int(prompt.details["number of strategies"])
    return json.dumps({"strategies": prompt.rng.sample(strategies, min(count, len(strategies)))}, ensure_ascii=False)


@offline_task("list strategies for readers with a purpose")
def list_strategies_for_purpose(prompt: OfflinePrompt) -> str:
    raise LLMError(
        "the offline writer cannot relate a document to a purpose: set augmenter.variant=agnostic, or choose another "
        "writer (llm=openai, llm=vllm)"
    )


@offline_task("study the document with a strategy", states_facts=True)
def study(prompt: OfflinePrompt) -> str:
    strategy = prompt.details["study strategy"]
    text = [strategy]
    text += [sentence for topic, sentences in topics(prompt) if topic in strategy for sentence in sentences]
    text += [sentence for pair, sentence in connections(prompt) if any(name in strategy for name in pair)]
    return " ".join(text)
