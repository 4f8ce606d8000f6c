"""Short free-form answers: exact match and F1 as in SQuAD, and optionally the verdicts of an LLM judge."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError
from entigraph.evaluation.base import (
    Backend,
    Generation,
    PassageLookup,
    Prompt,
    RetrievedPassages,
    Sampling,
    TaskInputs,
)
from entigraph.evaluation.calibration import answer_confidences, score_calibration
from entigraph.evaluation.scoring import score_free_form
from entigraph.evaluation.tasks.base import TaskContext, UsageEstimate
from entigraph.evaluation.tasks.prompt_files import examples_file, read_examples
from entigraph.evaluation.tasks.question_task import QuestionTask, answer_fields, read_without_texts
from entigraph.llm.answer_judge import judge_answers, judge_cache_key, judge_name, judge_prompt, with_verdict
from entigraph.storage.data_losses import DataLoss
from entigraph.storage.fingerprints import digest
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Answer, AnswerLikelihood, Question
from entigraph.text.answer_matching import best_f1, exact_match
from entigraph.text.writing_systems import CHARACTERS_PER_TOKEN

VERDICT_TOKENS = 60  # of a judge's reply
# For chat models; a base model continues the examples.
SYSTEM = "Answer the last question with the answer alone: a name, a number or a few words, and no sentence around it."


@dataclass(frozen=True, kw_only=True)
class FreeForm(QuestionTask):
    """Asks for one short answer by greedy decoding, including multiple-choice questions, without their choices.

    `prompt` contains {question}; `examples` names a file in evaluation/tasks/prompts that precedes it, null for none.
    The answer is the text up to one of the `stop` strings. `judge` is any writer (conf/llm): its verdicts then
    determine what is correct, and exact match and F1 are reported too. `calibration` also computes the likelihood of
    each answer, which an endpoint does not report.
    """

    examples: str | None = "five_short_answers"
    prompt: str = "Question: {question}\nAnswer:"
    stop: list[str] = field(default_factory=lambda: ["\n"])
    max_tokens: int = 32
    judge: Any = None
    calibration: bool = True
    batch_tokens: int = runtime_field(65_536)
    headline_keys: ClassVar[Sequence[str]] = ("accuracy", "questions", "overflowed", "scored_by")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_minimum(max_tokens=1, batch_tokens=1)
        if "{question}" not in self.prompt:
            raise ConfigError(f"evaluation prompt: {self.prompt!r} lacks {{question}}")
        if self.examples is not None and not examples_file(self.examples).is_file():
            raise ConfigError(f"evaluation examples: no file evaluation/tasks/prompts/{self.examples}.txt")
        if self.judge is not None and not hasattr(self.judge, "connect"):
            raise ConfigError(
                f"evaluation judge must be a writer, got {self.judge!r}; set llm@evaluation.free_form.judge=openai"
            )

    @property
    def cache_key(self) -> dict[str, Any]:
        examples = {"examples_text": digest(read_examples(self.examples))} if self.examples else {}
        return {**examples, **judge_cache_key(self.judge)}

    def check(self) -> None:
        if self.judge is not None:
            self.judge.check()

    def load_questions(self, inputs: TaskInputs) -> list[Question]:
        """Returns the questions without choices, so that neither a prompt nor a retrieval query contains the answer."""
        return [
            replace(question, choices=(), answer=[], accepted=question.accepted_answers)
            for question in super().load_questions(inputs)
        ]

    @property
    def question_selection(self) -> dict[str, Any]:
        return {**super().question_selection, "choices": False}

    def question_problem(self, question: Question) -> str | None:
        if not any(text.strip() for text in question.accepted_answers):
            return "has no accepted answer"
        if question.multiple_answers and len(question.accepted) == 0:
            return "may have several correct choices; free_form needs a single answer, use evaluation=closed_book_cot"
        return None

    @property
    def sampling(self) -> Sampling:
        return Sampling(max_tokens=self.max_tokens, stop=tuple(self.stop), batch_tokens=self.batch_tokens)

    def estimate_usage(self, inputs: TaskInputs) -> UsageEstimate:
        questions = self.load_questions(inputs)
        characters = sum(len(self.build_prompt(question)) for question in questions)
        longest = len(questions) * self.max_tokens
        return UsageEstimate(f"{len(questions):,} questions", characters, len(questions), longest)

    def estimate_judge_usage(self, inputs: TaskInputs) -> UsageEstimate | None:
        if self.judge is None:
            return None
        questions = self.load_questions(inputs)
        per_question = len(judge_prompt()) + CHARACTERS_PER_TOKEN * self.max_tokens
        characters = sum(len(question.text) + sum(map(len, question.accepted_answers)) for question in questions)
        characters += round(per_question * len(questions))
        return UsageEstimate("answers", characters, len(questions), VERDICT_TOKENS * len(questions))

    def build_prompt(self, question: Question, passages: Sequence[str] = ()) -> str:
        """Returns examples, passages and question, in this order."""
        examples = [read_examples(self.examples)] if self.examples else []
        contexts = [f"Passage: {passage.strip()}" for passage in passages]
        return "\n\n".join([*examples, *contexts, self.prompt.replace("{question}", question.text)])

    def answer_batch(
        self, questions: Sequence[Question], retrieved: Sequence[RetrievedPassages | None], backend: Backend
    ) -> Iterator[Answer]:
        prompts = [
            Prompt(question.id, self.build_prompt(question, passages.passages if passages else ()), SYSTEM)
            for question, passages in zip(questions, retrieved, strict=True)
        ]
        for index, samples in backend.sample(prompts, self.sampling):
            yield build_answer(questions[index], prompts[index].text, samples, retrieved[index])

    def evaluate(self, context: TaskContext) -> dict[str, Any]:
        scores = super().evaluate(context)
        if not self.calibration:
            return scores
        file = context.folder / f"answers-{context.name}.jsonl"
        answers = {answer.question_id: answer for answer in read_without_texts(file) if answer.response}

        def measure_missing(missing: set[str]) -> Iterator[AnswerLikelihood]:
            questions = [question for question in self.load_questions(context.inputs) if question.id in missing]
            return self.answer_likelihoods(questions, answers, context.backend(), self.passage_lookup(context.inputs))

        context.write_records(
            "confidences", AnswerLikelihood, list(answers), measure_missing, id_field="question_id", unit="answers"
        )
        return self.score_records(file)

    def answer_likelihoods(
        self, questions: Sequence[Question], answers: Mapping[str, Answer], backend: Backend, look_up: PassageLookup
    ) -> Iterator[AnswerLikelihood]:
        """Yields the likelihood of each answer of the model; None if its backend computes no likelihoods."""
        for batch in self.batches(questions):
            pairs = []
            for question in batch:
                retrieved = look_up(question)
                prompt = self.build_prompt(question, retrieved.passages if retrieved else ())
                pairs.append((prompt, f" {answers[question.id].response}"))
            unknown: Iterator[tuple[int, float | None]] = ((index, None) for index in range(len(pairs)))
            scores = backend.loglikelihoods(pairs, self.batch_tokens) if backend.has_likelihoods else unknown
            for index, score in scores:
                yield AnswerLikelihood(
                    question_id=batch[index].id,
                    document_id=batch[index].document_id,
                    nats=None if score is None else -score,
                    bytes=len(pairs[index][1].encode()),
                )

    def score_records(self, file: Path) -> dict[str, Any]:
        scores = super().score_records(file)
        confidences = file.with_name(file.name.replace("answers-", "confidences-", 1))
        if not confidences.exists():
            return scores
        likelihoods = read_jsonl(confidences, AnswerLikelihood)
        return {**scores, **score_calibration(read_without_texts(file), answer_confidences(likelihoods))}

    def judge_records(self, context: TaskContext, scores: Mapping[str, Any]) -> Mapping[str, Any]:
        """Adds the verdicts of the judge to the stored answers."""
        if self.judge is None:
            return scores
        file = context.folder / f"answers-{context.name}.jsonl"
        answers = list(read_without_texts(file))
        with context.progress.bar("judge", len(answers), "answers") as advance:
            judged = judge_answers(answers, self.judge, context.response_cache, context.progress.notify, advance)
        stored = read_jsonl(file, Answer)
        write_jsonl(file, (with_verdict(answer, result) for answer, result in zip(stored, judged, strict=True)))
        return self.score_records(file)

    def score(self, answers: Sequence[Answer]) -> dict[str, Any]:
        return score_free_form(answers, judge_name(self.judge) if self.judge is not None else None)

    def data_losses(self, scores: Mapping[str, Any]) -> Sequence[DataLoss]:
        total = scores["questions"]
        missing = scores.get("judged", {}).get("missing", {})
        return (
            DataLoss("prompts exceed the model's context (counted as incorrect)", scores["overflowed"], total),
            DataLoss("answers are empty (counted as incorrect)", scores["empty"], total),
            DataLoss("answers have no verdict of the judge (counted as incorrect)", sum(missing.values()), total),
        )

    def describe(self, scores: Mapping[str, Any]) -> str:
        text = (
            f"exact match {scores['exact_match']['accuracy']:.3f}, F1 {scores['f1']['accuracy']:.3f} over "
            f"{scores['questions']:,} questions"
        )
        judged = scores.get("judged")
        if not judged:
            return text
        return f"{text}; {judged['judge']}: {scores['accuracy']:.3f} correct, {judged['attempt_rate']:.1%} attempted"


def build_answer(
    question: Question, prompt: str, samples: Sequence[Generation], retrieved: RetrievedPassages | None
) -> Answer:
    """Returns the answer from a greedy generation. An empty list means that the prompt exceeds the context."""
    text = samples[0].text if samples else ""
    accepted = list(question.accepted_answers)
    response = text.strip()
    return Answer(
        **answer_fields(question, prompt, retrieved),
        choices=(),
        answer=[],
        choice=None,
        accepted=accepted,
        response=response,
        correct=exact_match(response, accepted),
        f1=best_f1(response, accepted),
        overflowed=not samples,
        unparsed={samples[0].finish_reason: 1}
        if samples and samples[0].finish_reason not in ("stop", "length")
        else {},
    )
