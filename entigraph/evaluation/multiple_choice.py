"""Multiple-choice questions asked closed book, the option chosen by likelihood (for models too small to reason)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from entigraph.errors import ConfigError, DataError
from entigraph.progress import Progress
from entigraph.records import Answer, Question, read_jsonl

if TYPE_CHECKING:
    from entigraph.evaluation.engine import Engine


@dataclass(frozen=True, kw_only=True)
class ClosedBook:
    """Each option is scored as a continuation of the prompt, as lm-eval does: by its tokens' summed log-likelihood
    (`accuracy`), and by that sum over the option's length in characters (`accuracy_norm`, lm-eval's acc_norm).

    `prompt` holds {question}. A question with an intermediate thought is first continued from `thought_prompt`,
    greedily up to a full stop, and then asked with `thought_answer`, which holds {prompt} and {thought}.
    `corpus` names whose questions: null for the run's own. `limit` draws that many, the same ones for every model.
    """

    corpus: str | None = None
    split: str | None = None
    limit: int | None = None
    prompt: str = "Question: {question} Answer:"
    thought_prompt: str = "Question: {question} Thought:"
    thought_answer: str = "{prompt}{thought}. Answer:"
    thought_tokens: int = 8
    batch_tokens: int = 8_192

    def __post_init__(self) -> None:
        for key, slots in (
            ("prompt", "{question}"),
            ("thought_prompt", "{question}"),
            ("thought_answer", "{prompt} {thought}"),
        ):
            missing = [slot for slot in slots.split() if slot not in getattr(self, key)]
            if missing:
                raise ConfigError(f"evaluation prompt {key}: {getattr(self, key)!r} lacks {', '.join(missing)}")
            try:
                getattr(self, key).format(question="", prompt="", thought="")
            except (KeyError, ValueError, IndexError) as error:
                raise ConfigError(
                    f"evaluation prompt {key}: {getattr(self, key)!r} has a slot of no meaning: {error}"
                ) from None
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"evaluation limit: {self.limit} found, at least 1 or null expected")

    def questions(self, corpus: Path) -> list[Question]:
        """Raises DataError for a question whose document is not in the corpus, where it keeps documents by id."""
        found = list(read_jsonl(corpus / "questions.jsonl", Question))
        if self.split is not None:
            found = [question for question in found if question.split == self.split]
        if self.limit is not None and self.limit < len(found):
            found = random.Random(f"limit/{self.limit}").sample(found, self.limit)
        for question in found:
            if not 0 <= question.answer < len(question.choices):
                raise DataError(f"{corpus / 'questions.jsonl'}: {question.id} has no choice number {question.answer}")
        return found

    def answers(self, questions: Sequence[Question], engine: "Engine", progress: Progress) -> list[Answer]:
        prompts, thoughts = self.prompts(questions, engine)
        options = [
            (prompt, f" {choice}")
            for prompt, question in zip(prompts, questions, strict=True)
            for choice in question.choices
        ]
        with progress.bar("evaluation", len(options), "options") as advance:
            scores = engine.loglikelihoods(options, self.batch_tokens, advance)
        answers, position = [], 0
        for question, thought in zip(questions, thoughts, strict=True):
            own = scores[position : position + len(question.choices)]
            position += len(own)
            answers.append(answered(question, thought, own))
        return answers

    def prompts(self, questions: Sequence[Question], engine: "Engine") -> tuple[list[str], list[str]]:
        """Each question's prompt up to the answer, and its generated thought ("" where it has none)."""
        thinking = [index for index, question in enumerate(questions) if question.thought]
        openings = {index: self.thought_prompt.format(question=questions[index].text) for index in thinking}
        generated = engine.greedy([openings[index] for index in thinking], self.thought_tokens, stop=".")
        thoughts = dict(zip(thinking, generated, strict=True))
        prompts = [
            self.thought_answer.format(prompt=openings[index], thought=thoughts[index])
            if index in thoughts
            else self.prompt.format(question=question.text)
            for index, question in enumerate(questions)
        ]
        return prompts, [thoughts.get(index, "").strip() for index in range(len(questions))]


def answered(question: Question, thought: str, scores: Sequence[float | None]) -> Answer:
    """None among the scores: an option did not fit the model's context; the question then counts as not answered."""
    known = [score for score in scores if score is not None]
    whole = len(known) == len(scores)
    by_sum = best(known) if whole else None
    by_length = (
        best([score / len(choice) for score, choice in zip(known, question.choices, strict=True)]) if whole else None
    )
    return Answer(
        question_id=question.id,
        document_id=question.document_id,
        group=question.group,
        question=question.text,
        thought=thought,
        choices=question.choices,
        scores=known if whole else [],
        choice=by_sum,
        choice_norm=by_length,
        answer=question.answer,
        correct=by_sum == question.answer,
        correct_norm=by_length == question.answer,
    )


def best(scores: Sequence[float]) -> int:
    """The first of the highest."""
    return max(range(len(scores)), key=scores.__getitem__)
