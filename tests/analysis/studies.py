"""Studies as the stages leave them on disk, with accuracies that a test chooses."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from entigraph.analysis.base import AnalysisContext, analysis_output, run_analysis
from entigraph.analysis.scaling.scaling_curve import ScalingCurve
from entigraph.analysis.study_runs import StudyRun
from entigraph.config.fields import content_fields
from entigraph.storage.artifact import write_json
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Answer
from entigraph.tracking.base import Tracker

QUESTIONS = 200


def make_run(root: Path, augmenter: str, budget: int, seed: int, accuracy: float, rng: np.random.Generator) -> StudyRun:
    """Writes the artifacts of a run whose model answers each question correctly with the given probability."""
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
    entry = {
        "augmenter": augmenter,
        "budget": budget,
        "seed": seed,
        "label": None,
        "repeats": augmenter == "raw",
        **folders,
    }
    write_json(make_folder(root / "studies" / "s-00000000" / "runs") / f"{name}.json", entry)
    return StudyRun(root, entry)


def make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_study(root: Path, a: float, b: float, seeds: int = 2, noise_seed: int = 0) -> list[StudyRun]:
    rng = np.random.default_rng(noise_seed)
    budgets = (25_000, 50_000, 100_000, 200_000)
    return [
        make_run(root, "entigraph", budget, seed, a + b * math.log(budget), rng)
        for seed in range(seeds)
        for budget in budgets
    ]


def make_context(root: Path, study: Path | None = None, runs: list[StudyRun] | None = None) -> AnalysisContext:
    """A context whose configured run has no artifacts; `runs` replaces the finished runs of the study."""
    entry = {stage: f"{stage}/none-0" for stage in ("synthesis", "tokens", "evaluation")}
    configured = StudyRun(root, {**entry, "augmenter": "raw", "budget": 1, "seed": 0})
    context = AnalysisContext(root, study or root / "studies" / "none-0", configured, root / "cache")
    if runs is not None:
        context.__dict__["finished"] = (runs, [])
    return context


def study_folder(root: Path) -> Path:
    return root / "studies" / "s-00000000"


def run_scaling_curve(context: AnalysisContext, tracker: Tracker | None = None) -> list[str]:
    analysis = ScalingCurve(resamples=20)
    context = replace(context, tracker=tracker or Tracker())
    return run_analysis(analysis, analysis_output(analysis, context, content_fields(analysis)), context)
