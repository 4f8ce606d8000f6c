import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from entigraph.analysis.study_runs import StudyRun, accuracy_label, build_points, finished_runs, summarize_base_model
from entigraph.storage.artifact import FORMAT_VERSIONS, read_manifest, write_json
from entigraph.storage.fingerprints import digest
from tests.analysis.studies import QUESTIONS, make_run, make_study, study_folder
from tests.conftest import study_of


def test_points_are_means_over_seeds(tmp_path: Path) -> None:
    runs = make_study(tmp_path, -1.0, 0.14, seeds=3)
    points = build_points(runs)
    assert [(point.synthetic_tokens, point.seeds, point.questions) for point in points] == [
        (budget, 3, QUESTIONS) for budget in (25_000, 50_000, 100_000, 200_000)
    ]
    accuracies = [run.score["accuracy"] for run in runs if run.budget == 25_000]
    assert points[0].accuracy == pytest.approx(np.mean(accuracies))
    assert points[0].stderr == pytest.approx(np.std(accuracies, ddof=1) / math.sqrt(3))
    assert build_points(make_study(tmp_path / "one", -1.0, 0.14, seeds=1))[0].stderr == 0.02, (
        "one seed: clustered by document"
    )


def test_questions_and_base_model_count_once_if_seeds_share_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = [make_run(tmp_path, "raw", 1000, seed, 0.5, rng) for seed in (0, 1)]
    for run in runs:
        run.entry["baseline"] = runs[0].entry["evaluation"]
    base = summarize_base_model(runs)
    assert base is not None and (base["seeds"], base["stderr"], base["questions"]) == (1, 0.02, QUESTIONS)
    for run in runs:
        run.entry.update({"corpus": f"corpus/fictional-{run.seed}", "baseline": run.entry["evaluation"]})
    own = summarize_base_model(runs)
    assert own is not None and (own["seeds"], own["questions"]) == (2, 2 * QUESTIONS)
    assert build_points(runs)[0].questions == 2 * QUESTIONS


@pytest.mark.parametrize(
    ("task", "score", "label"),
    [
        ("closed_book_cot", {}, "closed-book accuracy"),
        ("free_form", {"scored_by": "exact match"}, "exact match"),
        ("free_form", {"scored_by": "gpt-4o"}, "free form accuracy, judged by gpt-4o"),
        ("open_book_cot", {}, "open book cot accuracy"),
    ],
)
def test_axis_names_what_is_measured(task: str, score: dict[str, str], label: str, tmp_path: Path) -> None:
    run = make_run(tmp_path, "raw", 1000, 0, 0.5, np.random.default_rng(0))
    write_json(run.folder("evaluation") / "scores.json", {task: {**run.score, **score}})
    assert accuracy_label(StudyRun(run.root, run.entry)) == label


def test_unfinished_runs_are_excluded(tmp_path: Path) -> None:
    runs = make_study(tmp_path, -1.0, 0.14)
    (runs[0].folder("training") / "manifest.json").unlink()
    complete, excluded = finished_runs(study_folder(tmp_path), tmp_path)
    assert len(complete) == 7 and excluded == [f"{runs[0].name} is not finished"]


def test_newest_of_two_runs_with_the_same_seed_counts(tmp_path: Path) -> None:
    """Two runs of one augmenter, budget and seed (with different pools of texts, say) are not two seeds."""
    runs = make_study(tmp_path, -1.0, 0.14, seeds=1)
    twin = make_run(tmp_path / "twin", "entigraph", 25_000, 0, 0.9, np.random.default_rng(1))
    for part in ("evaluation", "tokens", "training"):
        moved = tmp_path / part / "twin"
        shutil.copytree(twin.folder(part), moved)
        write_json(moved / "manifest.json", {**json.loads((moved / "manifest.json").read_text()), "created": "2030"})
    entry = {**twin.entry, **{part: f"{part}/twin" for part in ("evaluation", "tokens", "training")}}
    write_json(study_folder(tmp_path) / "runs" / "twin.json", entry)
    complete, excluded = finished_runs(study_folder(tmp_path), tmp_path)
    assert (
        len(complete) == len(runs) and build_points(complete)[0].seeds == 1 and build_points(complete)[0].accuracy > 0.8
    )
    assert excluded == [f"{runs[0].name}: twin is newer, with the same augmenter, budget and seed"]


def test_run_of_another_version_is_excluded(smoke: Path, tmp_path: Path) -> None:
    """After an update that changes what a stage writes, its old folders have other keys."""
    root = tmp_path / "moved"
    shutil.copytree(smoke, root)
    study = study_of(root)
    assert finished_runs(study, root)[1] == []
    (old,) = (root / "tokens").glob("fictional-raw-8000-*")
    manifest = read_manifest(old)
    inputs = {name: made["folder"] for name, made in manifest["inputs"].items()}
    key = {
        "stage": "tokens",
        "cache_key": manifest["cache_key"],
        "inputs": inputs,
        "format": FORMAT_VERSIONS["tokens"] - 1,
    }
    write_json(old / "manifest.json", {**manifest, "key": digest(key)})
    complete, excluded = finished_runs(study, root)
    (named,) = excluded
    assert len(complete) == 5 and named.startswith("fictional-raw-8000-seed0-")
    assert named.endswith(": another version of entigraph made its tokens")


def test_user_defined_metrics_are_averaged_over_seeds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = [make_run(tmp_path, "raw", 1000, seed, 0.5, rng) for seed in (0, 1)]
    for run, values in zip(runs, ({"brier": 0.2, "only_here": 1.0}, {"brier": 0.4}), strict=True):
        scores = {"closed_book": {**run.score, "metrics": values}}
        write_json(run.folder("evaluation") / "scores.json", scores)
    (point,) = build_points([StudyRun(run.root, run.entry) for run in runs])
    assert point.metrics == {"closed_book/brier": pytest.approx(0.3)}
