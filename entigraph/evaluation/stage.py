"""Stage 5: a model and questions → answers-<task>.jsonl, scores.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entigraph.artefact import write_json
from entigraph.errors import DataError
from entigraph.evaluation.multiple_choice import ClosedBook
from entigraph.evaluation.score import scored
from entigraph.progress import Progress
from entigraph.records import write_jsonl


def run(
    model: str,
    tokenizer: Path,
    out: Path,
    *,
    tasks: Mapping[str, ClosedBook],
    corpora: Mapping[str, Path],
    bos_id: int | None,
    accelerator: str,
    threads: int | None,
    progress: Progress,
) -> dict[str, Any]:
    """Ask every task's questions. Raises DataError where a task finds none."""
    questions = {name: task.questions(corpora[name]) for name, task in tasks.items()}
    for name, found in questions.items():
        if not found:
            raise DataError(
                f"evaluation.{name}: {corpora[name]} holds no questions"
                f"{f' of the split {tasks[name].split!r}' if tasks[name].split else ''}; without questions there is no "
                "accuracy: give some (corpus.questions), or leave the task out (evaluation=none)"
            )
    scores: dict[str, Any] = {}
    if tasks:
        from entigraph.evaluation.engine import Engine
        from entigraph.hardware import has_native_bf16, pick_accelerator

        device = pick_accelerator(accelerator)
        engine = Engine(model, tokenizer, bos_id, device, has_native_bf16(device), threads)
        for name, task in tasks.items():
            answers = task.answers(questions[name], engine, progress)
            write_jsonl(out / f"answers-{name}.jsonl", answers)
            scores[name] = scored(answers)
    write_json(out / "scores.json", scores)
    return {name: {"accuracy": score["accuracy"], "questions": score["questions"]} for name, score in scores.items()}
