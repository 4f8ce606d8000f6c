"""Multiple-choice questions asked closed book, the option chosen by likelihood (for models too small to reason)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.base import Engine, LookUp, Prompt, Retrieved, Sampling, Source, closed, hash_of, told
from entigraph.evaluation.question_selection import Asked
from entigraph.evaluation.scoring import scored_likelihoods
from entigraph.storage.schemas import Answer, Question

QUESTIONS_AT_ONCE = 512  # between two of which a killed evaluation goes on


@dataclass(frozen=True, kw_only=True)
class ClosedBook(Asked):
    """Each option is scored as a continuation of the prompt, as lm-eval does: by its tokens' summed log-likelihood
    (`accuracy`), and by that sum over the option's length in characters (`accuracy_norm`, lm-eval's acc_norm).

    `prompt` holds {question}. A question with an intermediate thought is first continued from `thought_prompt`,
    greedily up to a full stop, and then asked with `thought_answer`, which holds {prompt} and {thought}.
    """

    prompt: str = "Question: {question} Answer:"
    thought_prompt: str = "Question: {question} Thought:"
    thought_answer: str = "{prompt}{thought}. Answer:"
    thought_tokens: int = 8
    batch_tokens: int = runtime_field(8_192)
    needs_likelihoods: ClassVar[bool] = True
    needs_retrieval: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
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

    def questions(self, source: Source) -> list[Question]:
        """Raises DataError for one with several right answers: no likelihood says how many options are right."""
        found = super().questions(source)
        several = [question.id for question in found if question.multiple_answers]
        if several:
            raise DataError(
                f"{source.questions}: {len(several):,} of {len(found):,} questions may have several right answers "
                f"({several[0]}), and likelihoods choose one; ask by samples: "
                f"evaluation={'open' if self.needs_retrieval else 'closed'}_book_cot"
            )
        return found

    def opening(self, passages: Sequence[str]) -> str:
        """What stands before the prompt of a question for which these were retrieved."""
        return ""

    def answers(self, questions: Sequence[Question], engine: Engine, look_up: LookUp = closed) -> Iterator[Answer]:
        for start in range(0, len(questions), QUESTIONS_AT_ONCE):
            asked = questions[start : start + QUESTIONS_AT_ONCE]
            retrieved = [look_up(question) for question in asked]
            before = [self.opening(found.passages) if found else "" for found in retrieved]
            prompts, thoughts = self.prompts(asked, before, engine)
            options = [
                (prompt, f" {choice}")
                for prompt, question in zip(prompts, asked, strict=True)
                for choice in question.choices
            ]
            scores = engine.loglikelihoods(options, self.batch_tokens)
            position = 0
            for question, prompt, thought, found in zip(asked, prompts, thoughts, retrieved, strict=True):
                own = scores[position : position + len(question.choices)]
                position += len(own)
                yield answered(question, thought, own, found, hash_of(prompt))

    def prompts(
        self, questions: Sequence[Question], before: Sequence[str], engine: Engine
    ) -> tuple[list[str], list[str]]:
        """Each question's prompt up to the answer, and its generated thought ("" where it has none)."""
        thinking = [index for index, question in enumerate(questions) if question.thought]
        openings = {
            index: before[index] + self.thought_prompt.format(question=questions[index].text) for index in thinking
        }
        asked = [Prompt(questions[index].id, openings[index]) for index in thinking]
        sampling = Sampling(max_tokens=self.thought_tokens, stop=(".",))
        thoughts = {
            thinking[place]: samples[0].text if samples else ""  # no room for it: the options will not fit either
            for place, samples in engine.sample(asked, sampling)
        }
        prompts = [
            self.thought_answer.format(prompt=openings[index], thought=thoughts[index])
            if index in thoughts
            else before[index] + self.prompt.format(question=question.text)
            for index, question in enumerate(questions)
        ]
        return prompts, [thoughts.get(index, "").strip() for index in range(len(questions))]

    def scored(self, answers: Iterable[Answer]) -> dict[str, Any]:
        return scored_likelihoods(list(answers))


def answered(
    question: Question,
    thought: str,
    scores: Sequence[float | None],
    retrieved: Retrieved | None = None,
    prompt_hash: str = "",
) -> Answer:
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
        overflowed=not whole,
        scores=known if whole else [],
        choice=by_sum,
        choice_norm=by_length,
        answer=question.answer,
        correct=by_sum == question.answer,
        correct_norm=by_length == question.answer,
        prompt_hash=prompt_hash,
        **told(retrieved),
    )


def best(scores: Sequence[float]) -> int:
    """The first of the highest."""
    return max(range(len(scores)), key=scores.__getitem__)
