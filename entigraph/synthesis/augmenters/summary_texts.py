"""Summaries, atomic facts and checked question-answer pairs, after the knowledge tuning flows of SDG Hub."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from entigraph.config.fields import check_minimums
from entigraph.llm.offline.offline_prompt import OfflinePrompt, split_sentences
from entigraph.llm.offline.offline_tasks import offline_task
from entigraph.llm.offline.outline import ask_about_statement, is_supported, topics
from entigraph.synthesis.augmenters.item_lists import pick_item, read_items, read_object
from entigraph.synthesis.augmenters.rounds import KindsAugmenter, check_kinds
from entigraph.synthesis.base import RejectedText, Steps, WritingTask
from entigraph.text.json_answers import STRING, array_schema, object_schema

DETAILED, EXTRACTIVE, FACTS, PAIRS = KINDS = ("summary_detailed", "summary_extractive", "summary_facts", "summary_qa")
CHECK = "summary_check"


@dataclass(frozen=True, kw_only=True)
class Summaries(KindsAugmenter):
    """Writes texts of the `kinds` about each document, with an equal share of the token budget for each kind.
    Each question-answer text covers one fact of a list of `facts` facts. Texts of the kinds in `checked` are kept only
    if the writer, given the document, judges every claim supported; rejected texts count as failures.

    From SDG Hub's flows for knowledge tuning (github.com/Red-Hat-AI-Innovation-Team/sdg_hub): detailed summaries,
    extractive summaries with the context and relevance of each passage, lists of atomic facts, several question-answer
    pairs for each fact written from the fact alone, and a check of answers against the document. In SDG Hub, the
    numbers of summaries are set by hand and every summary is turned into questions too, whose relevance is rated.
    Ours: the prompts, one request for a fact's pairs, equal tokens of the kinds, and which of them are checked.
    """

    name: str = "summaries"
    kinds: list[str] = field(default_factory=lambda: list(KINDS))
    facts: int = 20
    checked: list[str] = field(default_factory=lambda: [PAIRS])
    known_kinds: ClassVar[Sequence[str]] = KINDS

    def __post_init__(self) -> None:
        if self.checked:
            check_kinds(self.checked, KINDS, "checked")
        check_minimums(self, "augmenter.", facts=1)
        super().__post_init__()

    @property
    def prompt_names(self) -> Sequence[str]:
        listed = [FACTS] if PAIRS in self.kinds and FACTS not in self.kinds else []
        return [*self.kinds, *listed, *([CHECK] if self.checked else [])]

    @property
    def list_lengths(self) -> Mapping[str, int]:
        return {PAIRS: self.facts}

    def write(self, task: WritingTask) -> Steps[Sequence[str | None]]:
        if task.kind in (FACTS, PAIRS):
            text = yield from self.write_facts(task)
        else:
            text = yield self.build_request(task.document, task.kind, sample=task.sample)
        if task.kind in self.checked:
            answer = yield self.build_request(
                task.document,
                CHECK,
                f"### Text to check\n{text}",
                temperature=0.0,
                json_schema=object_schema(reason=STRING, supported={"type": "boolean"}),
            )
            if read_object(answer, "supported")["supported"] is not True:
                raise RejectedText("judged not supported by the document")
        return [text]

    def write_facts(self, task: WritingTask) -> Steps[str]:
        """Returns steps whose result is a list of facts, or the question-answer pairs about one fact."""
        facts = yield self.build_request(
            task.document,
            FACTS,
            f"### Number of facts\n{self.facts}",
            sample=task.sample if task.list_number is None else task.list_number,
            json_schema=object_schema(facts=array_schema()),
        )
        if task.kind == FACTS:
            return "\n".join(read_items(facts, "facts"))
        details = f"### Fact\n{pick_item(facts, 'facts', task.sample)}"
        return (yield self.build_request(task.document, PAIRS, details, show_text=False, sample=task.sample))


@offline_task("summarize the document in detail", states_facts=True)
def summarize_in_detail(prompt: OfflinePrompt) -> str:
    return " ".join(prompt.rng.choice(sentences) for _, sentences in topics(prompt))


@offline_task("summarize the document by its passages", states_facts=True)
def extract_passages(prompt: OfflinePrompt) -> str:
    size = max(1, len(prompt.sentences) // 2)
    chosen = sorted(prompt.rng.sample(range(len(prompt.sentences)), size))
    return "\n".join(f'"{prompt.sentences[number]}"' for number in chosen)


@offline_task("list the atomic facts of the document", states_facts=True)
def list_facts(prompt: OfflinePrompt) -> str:
    facts = list(dict.fromkeys(sentence for _, sentences in topics(prompt) for sentence in sentences))
    count = int(prompt.details["number of facts"])
    return json.dumps({"facts": prompt.rng.sample(facts, min(count, len(facts)))}, ensure_ascii=False)


@offline_task("ask and answer questions about one fact", states_facts=True)
def ask_about_fact(prompt: OfflinePrompt) -> str:
    return "\n\n".join(
        f"Question: {question}\nAnswer: {answer}" for question, answer in ask_about_statement(prompt.details["fact"])
    )


@offline_task("check that the document supports a text")
def check_support(prompt: OfflinePrompt) -> str:
    text = prompt.details["text to check"]
    sentences = [sentence for line in text.splitlines() for sentence in split_sentences(line)]
    unsupported = [
        sentence for sentence in sentences if not is_supported(sentence, prompt, before=text.partition(sentence)[0])
    ]
    return json.dumps({"reason": " ".join(unsupported), "supported": not unsupported})
