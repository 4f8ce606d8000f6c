"""Studies as the stages leave them on disk, with accuracies that a test chose."""

import math
from pathlib import Path

import numpy as np

from entigraph.analysis.study_runs import FinishedRun
from entigraph.storage.artifact import write_json
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Answer

QUESTIONS = 200


def a_run(root: Path, augmenter: str, budget: int, seed: int, accuracy: float, rng: np.random.Generator) -> FinishedRun:
    """What the stages leave of a run whose model answers each question right with a given probability."""
    name = f"{augmenter}-{budget}-{seed}"
    folders = {part: f"{part}/{name}" for part in ("evaluation", "tokens", "training")}
    for folder in folders.values():
        (root / folder).mkdir(parents=True)
        write_json(root / folder / "manifest.json", {"counts": {"synthetic_tokens": budget, "passes": 1.0}})
    correct = rng.random(QUESTIONS) < accuracy
    answers = [
        Answer(
            question_id=f"q{number:03}",
            document_id=f"d{number % 10}",
            group="g",
            question="?",
            thought="",
            choices=["a", "b"],
            scores=[0.0, 0.0],
            choice=0,
            choice_norm=0,
            answer=0,
            correct=bool(right),
            correct_norm=bool(right),
        )
        for number, right in enumerate(correct)
    ]
    write_jsonl(root / folders["evaluation"] / "answers-closed_book.jsonl", answers)
    share = {"accuracy": float(correct.mean()), "stderr": 0.02, "questions": QUESTIONS, "accuracy_norm": 0.5}
    scores = {"closed_book": {**share, "chance": 0.5, "groups": {"g": share}}}
    write_json(root / folders["evaluation"] / "scores.json", scores)
    member = {
        "augmenter": augmenter,
        "budget": budget,
        "seed": seed,
        "label": None,
        "repeats": False,
        **folders,
    }
    write_json(made(root / "studies" / "s-00000000" / "runs") / f"{name}.json", member)
    return FinishedRun(root, member)


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def a_study(root: Path, a: float, b: float, seeds: int = 2, noise_seed: int = 0) -> list[FinishedRun]:
    rng = np.random.default_rng(noise_seed)
    budgets = (25_000, 50_000, 100_000, 200_000)
    return [
        a_run(root, "entigraph", budget, seed, a + b * math.log(budget), rng)
        for seed in range(seeds)
        for budget in budgets
    ]
