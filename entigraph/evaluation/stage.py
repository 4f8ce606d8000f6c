"""Stage 5: a model and questions → answers-<task>.jsonl (or losses-, or summaries-<task>.jsonl), scores.json."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from entigraph.errors import DataError
from entigraph.evaluation.base import Engine, LookUp, Measure, Source, Subject, Task, closed
from entigraph.evaluation.tasks.open_book import Library, Showing
from entigraph.runtime.progress import Progress
from entigraph.storage.artifact import CHECKPOINTS, write_json
from entigraph.storage.jsonl import ResumableJsonLines, read_jsonl, write_jsonl
from entigraph.storage.schemas import Answer, Question


def run(
    subject: Subject,
    out: Path,
    *,
    tasks: Mapping[str, Task | Measure],
    sources: Mapping[str, Source],
    progress: Progress,
) -> dict[str, Any]:
    """Ask every task's questions. Raises DataError where a task finds none.

    What was answered before a kill is in the scratch folder, and not asked again.
    """
    asked = {name: found(cast(Task, task), name, sources[name]) for name, task in tasks.items() if task.asks}
    scores: dict[str, Any] = {}
    (out / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        engines: list[Engine] = []

        def engine() -> Engine:
            """Loaded by the first task that has something to ask."""
            if not engines:
                engines.append(stack.enter_context(subject.connect(progress.say)))
            return engines[0]

        for name, task in tasks.items():
            if task.asks:
                scores[name] = answered(cast(Task, task), name, asked[name], sources[name], engine, out, progress)
            else:
                scores[name] = cast(Measure, task).measured(name, sources[name], engine, out, progress)
    write_json(out / "scores.json", scores)
    return {name: headline(score) for name, score in scores.items()}


def answered(
    task: Task,
    name: str,
    questions: Sequence[Question],
    source: Source,
    engine: Callable[[], Engine],
    out: Path,
    progress: Progress,
) -> dict[str, Any]:
    kept = ResumableJsonLines(out / CHECKPOINTS / f"answers-{name}.jsonl", Answer, "question_id")
    todo = [question for question in questions if question.id not in kept]
    if todo:
        with kept, progress.bar("evaluation", len(questions), "questions") as advance:
            advance(len(questions) - len(todo))
            for answer in task.answers(todo, engine(), look_up(task, source)):
                kept.write(answer)
                advance(1)
    write_jsonl(out / f"answers-{name}.jsonl", in_order(kept, questions))
    return task.scored(without_texts(out / f"answers-{name}.jsonl"))


def found(task: Task, name: str, source: Source) -> list[Question]:
    try:
        questions = task.questions(source)
    except DataError as error:
        raise DataError(f"evaluation.{name}: {error}") from None
    if len({question.id for question in questions}) < len(questions):
        raise DataError(f"evaluation.{name}: {source.questions} holds two questions of one id; ids must be unique")
    return questions


def look_up(task: Task, source: Source) -> LookUp:
    """Read when a task has something to ask."""
    if not task.needs_retrieval:
        return closed
    assert source.retrieval is not None and isinstance(task, Showing)
    return Library(source.retrieval, task)


def in_order(kept: "ResumableJsonLines[Answer]", questions: Sequence[Question]) -> Iterator[Answer]:
    return (kept.read(question.id) for question in questions)


def without_texts(file: Path) -> Iterator[Answer]:
    """What scores are made of: of thousands of questions the texts would not fit into memory."""
    for answer in read_jsonl(file, Answer):
        yield Answer(**{**vars(answer), "texts": (), "passages": ()})


def headline(score: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "accuracy",
        "questions",
        "asked",
        "parse_rate",
        "nats_per_token",
        "bits_per_byte",
        "documents",
        "tokens",
        "tasks",
        "summaries",
        "empty",
    )
    return {name: score[name] for name in names if name in score}


def told(score: Mapping[str, Any]) -> str:
    """A loss, summaries, or an accuracy with the questions that it is a share of, and how many gave no choice."""
    if "tasks" in score:
        return "; ".join(f"{task}: {named(metrics)}" for task, metrics in score["tasks"].items())
    if "summaries" in score:
        return f"{score['summaries']:,} summaries, {score['empty']:,} empty (judge: stage=analysis analysis=summaries)"
    if "accuracy" not in score:
        losses = f"{score['nats_per_token']:.4f} nats a token, {score['bits_per_byte']:.4f} bits a byte"
        return f"{losses} over {score['tokens']:,} tokens of {score['documents']:,} documents"
    parsed = f", {score['parse_rate']:.1%} of {score['asked']:,} answered" if "parse_rate" in score else ""
    lost = score.get("overflowed", 0)
    too_long = f"; {lost:,} prompts did not fit the model's context and count as wrong" if lost else ""
    return f"accuracy {score['accuracy']:.3f} over {score['questions']:,} questions{parsed}{too_long}"


def named(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
