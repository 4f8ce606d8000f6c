"""Focal Rewriting and question-answer pairs (Synthetic Mixed Training, arXiv 2603.23562)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from entigraph.config.fields import check_minimums
from entigraph.llm.offline.offline_prompt import OfflinePrompt
from entigraph.llm.offline.offline_tasks import offline_task
from entigraph.llm.offline.outline import connections, question_about, topics
from entigraph.synthesis.augmenters.item_lists import pick_item
from entigraph.synthesis.augmenters.rounds import KindsAugmenter
from entigraph.synthesis.base import Steps, WritingTask
from entigraph.text.json_answers import array_schema, object_schema

DOCUMENT, ANSWERS = "focal_document", "focal_answers"


@dataclass(frozen=True, kw_only=True)
class Focal(KindsAugmenter):
    """Rewrites each document with one question in focus per text, or writes question-answer pairs about it (`kinds`).

    From the paper (its abstract and secondary descriptions; no code is published): documents conditioned on a question,
    and training on as many tokens of question-answer pairs as of documents (augmenter=focal_mixed). Ours: the prompts;
    the questions come from the writer, `questions` at a time for each document, and a new list is asked for when those
    of one are used up; one answer holds several question-answer pairs.
    """

    name: str = "focal"
    kinds: list[str] = field(default_factory=lambda: [DOCUMENT])
    questions: int = 20
    known_kinds: ClassVar[Sequence[str]] = (DOCUMENT, ANSWERS)

    def __post_init__(self) -> None:
        check_minimums(self, "augmenter.", questions=1)
        super().__post_init__()

    @property
    def prompt_names(self) -> Sequence[str]:
        return ["focal_questions", *self.kinds] if DOCUMENT in self.kinds else self.kinds

    @property
    def list_lengths(self) -> Mapping[str, int]:
        return {DOCUMENT: self.questions}

    def write(self, task: WritingTask) -> Steps[Sequence[str | None]]:
        details = ""
        if task.kind == DOCUMENT:
            questions = yield self.build_request(
                task.document,
                "focal_questions",
                f"### Number of questions\n{self.questions}",
                sample=task.list_number,
                json_schema=object_schema(questions=array_schema()),
            )
            details = f"### Question in focus\n{pick_item(questions, 'questions', task.sample)}"
        text = yield self.build_request(task.document, task.kind, details, sample=task.sample)
        return [text]


@offline_task("list questions about the document")
def list_questions(prompt: OfflinePrompt) -> str:
    questions = [question_about(pair) for pair, _ in connections(prompt)]
    questions += [f"What is there to know about {topic}?" for topic, _ in topics(prompt)]
    count = int(prompt.details["number of questions"])
    return json.dumps({"questions": prompt.rng.sample(questions, min(count, len(questions)))}, ensure_ascii=False)


@offline_task("rewrite the document with a question in focus", states_facts=True)
def rewrite_in_focus(prompt: OfflinePrompt) -> str:
    question = prompt.details["question in focus"]
    known = topics(prompt)
    focus = [topic for topic, _ in known if topic in question]
    text = [question, *(sentence for topic, sentences in known if topic in focus for sentence in sentences)]
    text += [sentence for pair, sentence in connections(prompt) if not set(pair).isdisjoint(focus)]
    return " ".join([*text, *(prompt.rng.choice(sentences) for topic, sentences in known if topic not in focus)])


@offline_task("write questions about the document with explained answers", states_facts=True)
def explain_answers(prompt: OfflinePrompt) -> str:
    pairs = [(question_about(pair), sentence) for pair, sentence in connections(prompt)]
    pairs += [(f"What is there to know about {topic}?", " ".join(sentences)) for topic, sentences in topics(prompt)]
    prompt.rng.shuffle(pairs)
    return "\n\n".join("\n".join(pair) for pair in pairs)
