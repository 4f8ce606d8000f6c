"""Closed-book multiple choice by the likelihood of each choice, for models too small for chains of thought."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.base import Backend, Prompt, RetrievedPassages, Sampling, TaskInputs
from entigraph.evaluation.calibration import choice_confidences, score_calibration
from entigraph.evaluation.scoring import score_likelihoods
from entigraph.evaluation.tasks.question_task import QuestionTask, answer_fields
from entigraph.storage.schemas import Answer, Question

PLACEHOLDERS = {
    "prompt": ("{question}",),
    "thought_prompt": ("{question}",),
    "thought_answer": ("{prompt}", "{thought}"),
}


@dataclass(frozen=True, kw_only=True)
class ClosedBook(QuestionTask):
    """Scores each choice as a continuation of the prompt, like lm-eval: by its log-likelihood (`accuracy`), and by its
    log-likelihood divided by its length in characters (`accuracy_norm`, lm-eval's acc_norm).

    `prompt` contains {question}. For a question with an intermediate thought, the thought is first generated greedily
    from `thought_prompt` up to a period, and then inserted into `thought_answer` (placeholders {prompt} and {thought}).
    """

    prompt: str = "Question: {question} Answer:"
    thought_prompt: str = "Question: {question} Thought:"
    thought_answer: str = "{prompt}{thought}. Answer:"
    thought_tokens: int = 8
    batch_tokens: int = runtime_field(8_192)
    needs_likelihoods: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, placeholders in PLACEHOLDERS.items():
            check_placeholders(key, getattr(self, key), placeholders)

    def load_questions(self, inputs: TaskInputs) -> list[Question]:
        """Returns the questions. Raises DataError if one may have several correct choices: likelihoods select one."""
        questions = super().load_questions(inputs)
        multiple = [question.id for question in questions if question.multiple_answers]
        if multiple:
            raise DataError(
                f"{inputs.questions}: {len(multiple):,} of {len(questions):,} questions may have several correct "
                f"choices ({multiple[0]}), and likelihoods select only one; use samples: "
                f"evaluation={'open' if self.needs_retrieval else 'closed'}_book_cot"
            )
        return questions

    def format_passages(self, passages: Sequence[str]) -> str:
        """Returns the text of the retrieved passages that precedes the prompt."""
        return ""

    def answer_batch(
        self, questions: Sequence[Question], retrieved: Sequence[RetrievedPassages | None], backend: Backend
    ) -> Iterator[Answer]:
        contexts = [self.format_passages(result.passages) if result else "" for result in retrieved]
        prompts, thoughts = self.build_prompts(questions, contexts, backend)
        pairs = [
            (prompt, f" {choice}")
            for prompt, question in zip(prompts, questions, strict=True)
            for choice in question.choices
        ]
        counts = [len(question.choices) for question in questions]
        indices = [(index, choice) for index, count in enumerate(counts) for choice in range(count)]
        scores: list[dict[int, float | None]] = [{} for _ in questions]
        for pair, score in backend.loglikelihoods(pairs, self.batch_tokens):
            index, choice = indices[pair]
            scores[index][choice] = score
            if len(scores[index]) == counts[index]:
                ordered = [value for _, value in sorted(scores[index].items())]
                yield choose_by_likelihood(questions[index], thoughts[index], ordered, retrieved[index], prompts[index])

    def build_prompts(
        self, questions: Sequence[Question], contexts: Sequence[str], backend: Backend
    ) -> tuple[list[str], list[str]]:
        """Returns the prompt of each question up to the answer, and the generated thoughts ("" for no thought)."""
        thought_prompts = {
            index: contexts[index] + self.thought_prompt.format(question=question.text)
            for index, question in enumerate(questions)
            if question.thought
        }
        indices = list(thought_prompts)
        sampling = Sampling(max_tokens=self.thought_tokens, stop=(".",))
        thoughts = {
            indices[position]: samples[0].text if samples else ""  # the choices will exceed the context too
            for position, samples in backend.sample(
                [Prompt(questions[i].id, thought_prompts[i]) for i in indices], sampling
            )
        }
        prompts = [
            self.thought_answer.format(prompt=thought_prompts[index], thought=thoughts[index])
            if index in thoughts
            else contexts[index] + self.prompt.format(question=question.text)
            for index, question in enumerate(questions)
        ]
        return prompts, [thoughts.get(index, "").strip() for index in range(len(questions))]

    def score(self, answers: Sequence[Answer]) -> dict[str, Any]:
        return {**score_likelihoods(answers), **score_calibration(answers, choice_confidences(answers))}


def check_placeholders(key: str, template: str, placeholders: Sequence[str]) -> None:
    """Raises ConfigError if a template lacks a placeholder, or has an unknown one."""
    missing = [placeholder for placeholder in placeholders if placeholder not in template]
    if missing:
        raise ConfigError(f"evaluation prompt {key}: {template!r} lacks {', '.join(missing)}")
    try:
        template.format(question="", prompt="", thought="")
    except (KeyError, ValueError, IndexError) as error:
        raise ConfigError(f"evaluation prompt {key}: {template!r} has an unknown placeholder: {error}") from None


def choose_by_likelihood(
    question: Question,
    thought: str,
    scores: Sequence[float | None],
    retrieved: RetrievedPassages | None = None,
    prompt: str = "",
) -> Answer:
    """Returns the answer with the most likely choice, or without a choice if a score is None (context exceeded)."""
    loglikelihoods = [score for score in scores if score is not None]
    overflowed = len(loglikelihoods) < len(scores)
    by_sum = by_length = None
    if not overflowed:
        by_sum = argmax(loglikelihoods)
        by_length = argmax([score / len(text) for score, text in zip(loglikelihoods, question.choices, strict=True)])
    return Answer(
        **answer_fields(question, prompt, retrieved),
        thought=thought,
        choices=question.choices,
        overflowed=overflowed,
        scores=[] if overflowed else loglikelihoods,
        choice=by_sum,
        choice_norm=by_length,
        answer=question.answer,
        correct=by_sum == question.answer,
        correct_norm=by_length == question.answer,
    )


def argmax(scores: Sequence[float]) -> int:
    """Returns the index of the highest score, the first one if several are equal."""
    return max(range(len(scores)), key=scores.__getitem__)
