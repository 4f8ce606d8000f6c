"""Closed-book multiple choice with sampled chains of thought (paper §4.2, App. I.1)."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.base import Backend, Generation, Prompt, RetrievedPassages, Sampling, TaskInputs
from entigraph.evaluation.calibration import choice_confidences, score_calibration
from entigraph.evaluation.parsing import (
    ANSWER_LINE,
    LETTERS,
    NO_LINE,
    TRUNCATED,
    parse_choice,
    parse_choice_as_authors,
    parse_choices,
)
from entigraph.evaluation.scoring import score_samples
from entigraph.evaluation.tasks.base import UsageEstimate
from entigraph.evaluation.tasks.prompt_files import examples_file, read_examples
from entigraph.evaluation.tasks.question_task import QuestionTask, TitleSplit, answer_fields
from entigraph.storage.fingerprints import digest
from entigraph.storage.schemas import Answer, Choice, Question, choice_set

NEXT_EXAMPLE = "## Example"
# The system prompt of chat models; a base model continues the examples without one.
SYSTEM = (
    "Go on with the text in exactly the form of its examples: answer the last question only, with one paragraph of "
    'thought and then one line of the form "Answer: {form}.", and write nothing after it.'
)
ONE_LETTER, SEVERAL_LETTERS = "X", "X, Y"


class AnswerProtocol(StrEnum):
    """`paper`: 64 samples, one of the valid ones selected at random, all questions in the denominator.

    `authors_code` follows the published code: 8 samples, the first valid one selected, only the last four fifths of
    the titles, and questions without a valid sample excluded from the denominator.
    """

    paper = "paper"
    authors_code = "authors_code"


SAMPLES = {AnswerProtocol.paper: 64, AnswerProtocol.authors_code: 8}


@dataclass(frozen=True, kw_only=True)
class ClosedBookCoT(QuestionTask):
    """Five-shot prompts; each sample reasons in one paragraph and ends with "Answer: X.".

    `examples` names a file in evaluation/tasks/prompts. It has the structure of the paper's prompt including its quirks
    (the first example says twice that one choice is correct, the third writes "Choices:"). Questions that may have
    several correct choices use `examples_several`, with answers like "Answer: X, Y."; the paper has such questions
    (App. A.3) but prints no prompt for them. `samples` and `titles` default to the protocol's values. Temperature 0.1
    and 300 tokens are from the published code; the paper states neither. `texts_kept` is the number of samples per
    question whose text is saved; of the others, only the choice is. `seed` selects the scored sample.
    """

    protocol: AnswerProtocol = AnswerProtocol.paper
    examples: str = "five_books"
    examples_several: str = "five_lessons"
    samples: int | None = None
    titles: TitleSplit | None = None
    temperature: float = 0.1
    max_tokens: int = 300
    texts_kept: int = 4
    batch_tokens: int = runtime_field(65_536)
    seed: int = 0
    questions_per_call: ClassVar[int] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_minimum(samples=1, temperature=0, max_tokens=1, batch_tokens=1, texts_kept=0)
        for key in ("examples", "examples_several"):
            if not examples_file(getattr(self, key)).is_file():
                raise ConfigError(f"evaluation {key}: no file evaluation/tasks/prompts/{getattr(self, key)}.txt")

    @property
    def cache_key(self) -> dict[str, Any]:
        return {f"{key}_text": digest(read_examples(getattr(self, key))) for key in ("examples", "examples_several")}

    @property
    def title_split(self) -> TitleSplit:
        authors = self.protocol is AnswerProtocol.authors_code
        return self.titles or (TitleSplit.test if authors else TitleSplit.all)

    @property
    def sampling(self) -> Sampling:
        return Sampling(
            samples=self.samples or SAMPLES[self.protocol],
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            stop=(NEXT_EXAMPLE,),
            until=ANSWER_LINE,
            batch_tokens=self.batch_tokens,
        )

    def load_questions(self, inputs: TaskInputs) -> list[Question]:
        questions = super().load_questions(inputs)
        for question in questions:
            if len(question.choices) > len(LETTERS):
                raise DataError(
                    f"{inputs.questions}: {question.id} must have at most {len(LETTERS)} choices, got "
                    f"{len(question.choices)}; likelihoods have no such limit (evaluation=closed_book)"
                )
        return questions

    def estimate_usage(self, inputs: TaskInputs) -> UsageEstimate:
        questions = self.load_questions(inputs)
        samples = len(questions) * self.sampling.samples
        characters = sum(len(self.build_prompt(question)) for question in questions)
        return UsageEstimate(f"{len(questions):,} questions", characters, samples, samples * self.max_tokens)

    def build_prompt(self, question: Question, passages: Sequence[str] = ()) -> str:
        """Returns examples, passages and question, in this order: passages after the question help less (paper §5)."""
        contexts = [f"### Context {number}\n{passage.strip()}" for number, passage in enumerate(passages, 1)]
        choices = "\n".join(f"{LETTERS[index]}. {choice}" for index, choice in enumerate(question.choices))
        last = (
            f"### Question\n{question.text}\n### Choices\n{choices}\n### Thought Process and Answer\nThought process:"
        )
        return "\n".join(
            [read_examples(self.examples_several if question.multiple_answers else self.examples), *contexts, last]
        )

    def batches(self, questions: Sequence[Question]) -> Iterator[Sequence[Question]]:
        """Yields batches with the same few-shot examples, so that a backend computes the shared prefix once."""
        for multiple in (False, True):
            yield from super().batches([question for question in questions if question.multiple_answers is multiple])

    def answer_batch(
        self, questions: Sequence[Question], retrieved: Sequence[RetrievedPassages | None], backend: Backend
    ) -> Iterator[Answer]:
        prompts = [
            Prompt(
                f"{self.seed}/{question.id}",
                self.build_prompt(question, passages.passages if passages else ()),
                SYSTEM.format(form=SEVERAL_LETTERS if question.multiple_answers else ONE_LETTER),
            )
            for question, passages in zip(questions, retrieved, strict=True)
        ]
        for index, samples in backend.sample(prompts, self.sampling):
            yield self.build_answer(questions[index], prompts[index].text, samples, retrieved[index])

    def build_answer(
        self, question: Question, prompt: str, samples: Sequence[Generation], retrieved: RetrievedPassages | None = None
    ) -> Answer:
        parsed = [self.parse(sample, question) for sample in samples]
        choices = [None if isinstance(choice, str) else choice for choice in parsed]
        choice = self.select_choice([choice for choice in choices if choice is not None], question)
        return Answer(
            **answer_fields(question, prompt, retrieved),
            choices=question.choices,
            answer=question.answer,
            choice=choice,
            correct=choice is not None and choice_set(choice) == choice_set(question.answer),
            overflowed=not samples,
            samples=choices,
            unparsed=dict(Counter(reason for reason in parsed if isinstance(reason, str))),
            texts=[sample.text for sample in samples[: self.texts_kept]],
        )

    def parse(self, sample: Generation, question: Question) -> Choice | str:
        """Returns a sample's choice, or the reason why it has none, such as truncation or the backend's error."""
        parse_one: Callable[[str, int], Choice | str] = (
            parse_choice_as_authors if self.protocol is AnswerProtocol.authors_code else parse_choice
        )
        choice = (parse_choices if question.multiple_answers else parse_one)(sample.text, len(question.choices))
        if not isinstance(choice, str) or sample.finish_reason == "stop":
            return choice
        return TRUNCATED if sample.finish_reason == "length" and choice == NO_LINE else sample.finish_reason

    def select_choice(self, valid: Sequence[Choice], question: Question) -> Choice | None:
        if not valid:
            return None
        if self.protocol is AnswerProtocol.authors_code:
            return valid[0]
        return random.Random(f"{self.seed}/{question.id}").choice(valid)

    def score(self, answers: Sequence[Answer]) -> dict[str, Any]:
        scores = score_samples(answers, parsed_only=self.protocol is AnswerProtocol.authors_code)
        return {**scores, **score_calibration(answers, choice_confidences(answers))}
