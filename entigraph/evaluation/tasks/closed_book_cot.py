"""Multiple-choice questions answered by sampled chains of thought, closed book (paper §4.2, App. I.1)."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.base import (
    Engine,
    LookUp,
    Prompt,
    Retrieved,
    Sampled,
    Sampling,
    Source,
    closed,
    hash_of,
    told,
)
from entigraph.evaluation.parsing import ANSWER_LINE, CUT, LETTERS, NO_LINE, authors_choice_of, choice_of, choices_of
from entigraph.evaluation.question_selection import Asked, Titles
from entigraph.evaluation.scoring import scored_samples
from entigraph.storage.fingerprints import digest
from entigraph.storage.schemas import Answer, Choice, Question

QUESTIONS_AT_ONCE = 256  # drawn for one call of an engine
NEXT_EXAMPLE = "## Example"
# For chat models, before a prompt that a base model would simply go on with.
SYSTEM = (
    "Go on with the text in exactly the form of its examples: answer the last question only, with one paragraph of "
    'thought and then one line of the form "Answer: {form}.", and write nothing after it.'
)
ONE, SEVERAL = "X", "X, Y"


class Protocol(StrEnum):
    """`paper`: 64 samples, one of the valid ones drawn at random, all questions in the denominator.

    `authors_code`: what the published code does: 8 samples, the first valid one, the last four fifths of the titles,
    and questions without a valid sample leave the denominator.
    """

    paper = "paper"
    authors_code = "authors_code"


SAMPLES = {Protocol.paper: 64, Protocol.authors_code: 8}


@dataclass(frozen=True, kw_only=True)
class ClosedBookCoT(Asked):
    """Five worked examples, then the question; each sample thinks in one paragraph and ends in "Answer: X.".

    `examples` names a file of evaluation/prompts, whose structure is the paper's, its quirks included (the first
    example says twice that one choice is right, the third writes "Choices:"). A question that may have several right
    answers stands behind `examples_several` instead, where all right choices are named: "Answer: X, Y."; the paper has
    such questions (App. A.3) and prints no prompt for them. `samples` and `titles` null: as the
    protocol has them. Temperature 0.1 and 300 tokens are those of the published code; the paper states neither.
    `texts_kept` of each question's samples stand in the answers, of the others only the letter. `seed` draws the
    sample that counts.
    """

    protocol: Protocol = Protocol.paper
    examples: str = "five_books"
    examples_several: str = "five_lessons"
    samples: int | None = None
    titles: Titles | None = None
    temperature: float = 0.1
    max_tokens: int = 300
    texts_kept: int = 4
    batch_tokens: int = runtime_field(65_536)
    seed: int = 0
    needs_likelihoods: ClassVar[bool] = False
    needs_retrieval: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples is not None and self.samples < 1:
            raise ConfigError(f"evaluation samples: {self.samples} found, at least 1 or null expected")
        if self.temperature < 0:
            raise ConfigError(f"evaluation temperature: {self.temperature} found, 0 or more expected")
        if min(self.max_tokens, self.batch_tokens) < 1 or self.texts_kept < 0:
            raise ConfigError("evaluation: max_tokens and batch_tokens must be at least 1, texts_kept at least 0")
        for key in ("examples", "examples_several"):
            if not examples_file(getattr(self, key)).is_file():
                raise ConfigError(f"evaluation {key}: no file evaluation/prompts/{getattr(self, key)}.txt")

    @property
    def cache_key(self) -> dict[str, str]:
        return {f"{key}_text": digest(examples(getattr(self, key))) for key in ("examples", "examples_several")}

    @property
    def documents_asked(self) -> Titles:
        return self.titles or (Titles.test if self.protocol is Protocol.authors_code else Titles.all)

    def questions(self, source: Source) -> list[Question]:
        found = super().questions(source)
        for question in found:
            if len(question.choices) > len(LETTERS):
                raise DataError(
                    f"{source.questions}: {question.id} has {len(question.choices)} choices, and there are "
                    f"{len(LETTERS)} letters to name them by; ask it by likelihood (evaluation=closed_book)"
                )
        return found

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

    def prompt(self, question: Question, passages: Sequence[str] = ()) -> str:
        """The examples, what was retrieved, the question. Passages stand before it: behind it they help less (§5)."""
        shown = [f"### Context {number}\n{passage.strip()}" for number, passage in enumerate(passages, 1)]
        options = "\n".join(f"{LETTERS[number]}. {choice}" for number, choice in enumerate(question.choices))
        asked = (
            f"### Question\n{question.text}\n### Choices\n{options}\n### Thought Process and Answer\nThought process:"
        )
        return "\n".join(
            [examples(self.examples_several if question.multiple_answers else self.examples), *shown, asked]
        )

    def answers(self, questions: Sequence[Question], engine: Engine, look_up: LookUp = closed) -> Iterator[Answer]:
        """Those behind the same examples together, which an engine then reads once."""
        for several in (False, True):
            yield from self.asked_alike(
                [each for each in questions if each.multiple_answers is several], engine, look_up
            )

    def asked_alike(self, questions: Sequence[Question], engine: Engine, look_up: LookUp) -> Iterator[Answer]:
        for start in range(0, len(questions), QUESTIONS_AT_ONCE):
            asked = questions[start : start + QUESTIONS_AT_ONCE]
            retrieved = [look_up(question) for question in asked]
            prompts = [
                Prompt(
                    f"{self.seed}/{question.id}",
                    self.prompt(question, found.passages if found else ()),
                    SYSTEM.format(form=SEVERAL if question.multiple_answers else ONE),
                )
                for question, found in zip(asked, retrieved, strict=True)
            ]
            for index, samples in engine.sample(prompts, self.sampling):
                yield self.answered(asked[index], prompts[index].text, samples, retrieved[index])

    def answered(
        self, question: Question, prompt: str, samples: Sequence[Sampled], retrieved: Retrieved | None = None
    ) -> Answer:
        said = [self.parsed(sample, question) for sample in samples]
        choices = [None if isinstance(choice, str) else choice for choice in said]
        choice = self.final([choice for choice in choices if choice is not None], question)
        return Answer(
            question_id=question.id,
            document_id=question.document_id,
            group=question.group,
            question=question.text,
            choices=question.choices,
            answer=question.answer,
            choice=choice,
            correct=choice == question.answer,
            overflowed=not samples,
            samples=choices,
            unparsed=dict(Counter(reason for reason in said if isinstance(reason, str))),
            texts=[sample.text for sample in samples[: self.texts_kept]],
            prompt_hash=hash_of(prompt),
            **told(retrieved),
        )

    def parsed(self, sample: Sampled, question: Question) -> Choice | str:
        """An answer that never came, or that was cut before its line, says so itself."""
        one: Callable[[str, int], Choice | str] = (
            authors_choice_of if self.protocol is Protocol.authors_code else choice_of
        )
        found = (choices_of if question.multiple_answers else one)(sample.text, len(question.choices))
        if not isinstance(found, str) or sample.finish_reason == "stop":
            return found
        return CUT if sample.finish_reason == "length" and found == NO_LINE else sample.finish_reason

    def final(self, valid: Sequence[Choice], question: Question) -> Choice | None:
        if not valid:
            return None
        if self.protocol is Protocol.authors_code:
            return valid[0]
        return random.Random(f"{self.seed}/{question.id}").choice(valid)

    def scored(self, answers: Iterable[Answer]) -> dict[str, Any]:
        return scored_samples(list(answers), parsed_only=self.protocol is Protocol.authors_code)


def examples_file(name: str) -> Any:
    return resources.files(__package__).joinpath(f"prompts/{name}.txt")


@cache
def examples(name: str) -> str:
    """Up to the heading of the example that is to come."""
    text: str = examples_file(name).read_text(encoding="utf-8")
    return text.strip()
