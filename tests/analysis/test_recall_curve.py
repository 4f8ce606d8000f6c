"""Accuracy against recall: the curve of known scores, and a whole study by the command."""

import json
from pathlib import Path
from typing import Any

import pytest

from entigraph.analysis.scaling.recall_curve import build_recall_curve, draw_recall_curve, recall_lines
from entigraph.analysis.study_runs import StudyRun
from entigraph.storage.artifact import write_json
from tests.conftest import TINY, Command


def scores(closed: float, *opened: tuple[float, float]) -> dict[str, Any]:
    """Returns scores of a closed-book task, and of open-book tasks by recall and accuracy."""

    def score(accuracy: float) -> dict[str, Any]:
        return {"accuracy": accuracy, "stderr": 0.02, "questions": 100, "chance": 0.25, "overflowed": 0, "groups": {}}

    scores = {"closed_book": score(closed)}
    for number, (recall, accuracy) in enumerate(opened):
        shares = {"evidence": {"recall": recall}, "article": {"recall": 1.0}, "nothing_retrieved": 0}
        scores[f"open_{number}"] = {**score(accuracy), "retrieval": shares}
    return scores


def write_run(
    root: Path, augmenter: str, budget: int, seed: int, model_line: dict[str, Any], base: dict[str, Any]
) -> StudyRun:
    entry = {"augmenter": augmenter, "budget": budget, "seed": seed}
    for part, scores in (("evaluation", model_line), ("baseline", base)):
        folder = root / part / f"{augmenter}-{budget}-{seed}"
        folder.mkdir(parents=True)
        write_json(folder / "manifest.json", {"counts": {}})
        write_json(folder / "scores.json", scores)
        entry[part] = str(folder.relative_to(root))
    return StudyRun(root, entry)


def test_largest_budget_is_averaged_over_seeds(tmp_path: Path) -> None:
    base = scores(0.25, (0.8, 0.7), (0.4, 0.5))
    runs = [
        write_run(tmp_path, "entigraph", 100, 0, scores(0.4, (0.8, 0.1), (0.4, 0.1)), base),
        write_run(tmp_path, "entigraph", 200, 0, scores(0.6, (0.8, 0.9), (0.4, 0.7)), base),
        write_run(tmp_path, "entigraph", 200, 1, scores(0.8, (0.6, 0.7), (0.2, 0.5)), base),
    ]
    curve = build_recall_curve(runs)
    assert curve is not None and curve["recall_of"] == "evidence"
    base_line, model_line = curve["models"]
    assert base_line["name"] == "base" and base_line["closed"]["accuracy"] == 0.25
    assert [(point["recall"], point["accuracy"]) for point in base_line["open"]] == [(0.4, 0.5), (0.8, 0.7)]
    assert model_line["closed"]["accuracy"] == pytest.approx(0.7) and model_line["closed"]["seeds"] == 2
    assert [(point["recall"], point["accuracy"]) for point in model_line["open"]] == [
        (pytest.approx(0.3), pytest.approx(0.6)),
        (pytest.approx(0.7), pytest.approx(0.8)),
    ]
    draw_recall_curve(curve, tmp_path, "a study", "")
    svg = (tmp_path / "recall.svg").read_text()
    assert "EntiGraph, closed book" in svg and "Base model, open book" in svg and "evidence" in svg
    assert (tmp_path / "recall.png").stat().st_size > 10_000
    assert "0.250" in recall_lines(curve)[2] and "0.700" in recall_lines(curve)[3]


def test_study_without_open_book_has_no_recall_curve(tmp_path: Path) -> None:
    assert build_recall_curve([write_run(tmp_path, "raw", 1, 0, scores(0.5), scores(0.2))]) is None


def test_command_evaluates_open_and_closed_book(command_here: Command, tmp_path: Path) -> None:
    options = [
        *TINY,
        "evaluation=[closed_book,open_book_recalls]",
        "evaluation.open_book_drop_0.limit=8",
        "evaluation.open_book_drop_0.k=1",
        "retriever.characters=256",
    ]
    result = command_here("run", *options)
    assert result.returncode == 0, result.stderr
    assert "recall@8:" in result.stdout and "open_book_drop_100: accuracy" in result.stdout
    svg = command_here("analyze", *options)
    assert svg.returncode == 0 and "accuracy at recall" in svg.stdout, svg.stderr
    (study,) = (tmp_path / "outputs" / "studies").iterdir()
    (model_line,) = json.loads((study / "recall.json").read_text())["models"]
    recalls = [point["recall"] for point in model_line["open"]]
    assert recalls == sorted(recalls) and recalls[0] == 0.0 and len(recalls) == 5
    assert "open-book accuracy against the recall" in (study / "report.html").read_text()
    assert {"recall.png", "recall.svg"} <= {*json.loads((study / "manifest.json").read_text())["files"]}
