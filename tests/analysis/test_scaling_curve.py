import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entigraph.analysis.document_bootstrap import Resampling
from entigraph.analysis.scaling.forecast import fit_augmenters
from entigraph.analysis.scaling.scaling_curve import ScalingCurve, describe_settings
from entigraph.analysis.study_runs import finished_runs
from entigraph.errors import ConfigError, DataError
from entigraph.reporting.disclaimers import PIPELINE_CHECK
from entigraph.storage.artifact import write_json
from tests.analysis.studies import make_context, make_run, make_study, run_scaling_curve
from tests.chromium import HOSTILE, needs_chromium, render_page
from tests.conftest import study_of


def test_fit_recovers_the_generating_line(tmp_path: Path) -> None:
    (fit,) = fit_augmenters(make_study(tmp_path, -1.0, 0.14, seeds=3), Resampling())
    assert fit["parameters"]["b"] == pytest.approx(0.14, abs=0.03) and fit["parameters"]["a"] == pytest.approx(
        -1.0, abs=0.35
    )
    assert fit["r2"] > 0.85 and fit["runs"] == 12
    assert fit["gain_per_doubling"] == pytest.approx(fit["parameters"]["b"] * math.log(2))


def test_interval_has_its_stated_coverage(tmp_path: Path) -> None:
    """Over the noise of questions: 90% intervals of one seed's slope, in 60 studies."""
    covered = 0
    for number in range(60):
        runs = make_study(tmp_path / str(number), -1.0, 0.14, seeds=1, noise_seed=number)
        (fit,) = fit_augmenters(runs, Resampling(resamples=300))
        low, high = fit["interval"]["b"]
        covered += low <= 0.14 <= high
    assert 46 <= covered <= 60


def test_fit_uses_only_budgets_in_the_stated_range(tmp_path: Path) -> None:
    (fit,) = fit_augmenters(make_study(tmp_path, -1.0, 0.14), Resampling(), from_tokens=50_000)
    assert fit["tokens"] == [50_000, 200_000] and fit["runs"] == 6
    with pytest.raises(ConfigError, match="must be below fit_to_tokens"):
        ScalingCurve(fit_from_tokens=10, fit_to_tokens=5)


def test_missing_fit_states_its_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    two = [make_run(tmp_path / "two", "raw", budget, 0, 0.3, rng) for budget in (1000, 2000)]
    assert "a line and a residual need three" in fit_augmenters(two, Resampling())[0]["missing"]
    flat = [make_run(tmp_path / "flat", "raw", budget, 0, 1.0, rng) for budget in (1000, 2000, 4000)]
    assert fit_augmenters(flat, Resampling())[0]["missing"] == "every run has the same accuracy"


def test_falling_accuracy_has_a_negative_slope(tmp_path: Path) -> None:
    (fit,) = fit_augmenters(make_study(tmp_path, 2.0, -0.14), Resampling())
    assert fit["parameters"]["b"] < -0.1


def test_study_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no finished run"):
        run_scaling_curve(make_context(tmp_path))


def rerun_smoke_study(smoke: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Runs the analysis again on a copy of the finished smoke study."""
    root = tmp_path / "moved"
    shutil.copytree(smoke, root)
    study = study_of(root)
    (study / "manifest.json").unlink()
    run_scaling_curve(make_context(root, study))
    return study, json.loads((study / "curve.json").read_text())


def test_curve_and_report_of_a_moved_study(smoke: Path, tmp_path: Path) -> None:
    study, curve = rerun_smoke_study(smoke, tmp_path)
    assert {*curve} >= {"points", "base", "fits"}
    assert {*curve["points"][0]} >= {"augmenter", "synthetic_tokens", "accuracy", "stderr", "seeds", "questions"}
    assert {point["augmenter"] for point in curve["points"]} == {"raw", "rephrase", "entigraph"} and len(
        curve["points"]
    ) == 6
    assert curve["base"]["questions"] == 60 and 0 < curve["base"]["accuracy"] < 1
    page = (study / "report.html").read_text()
    addresses = {*re.findall(r"(?:src|href)=[\"']?(https?:[^\"' >]+)", page)}
    assert not addresses, "the page loads nothing"
    assert "exact resume yes" in page and "resumed from" not in page
    for part in (
        "Simulated at small scale",
        "no independent evidence",
        "source: Chronicle 0",
        "of 190 pairs have a text",
    ):
        assert part in page
    figure = (study / "curve.svg").read_text()
    assert all(label in figure for label in ("Chance", "Base model", "EntiGraph", "Rephrase", "Raw"))
    assert str(smoke) not in page and (study / "curve.png").stat().st_size > 20_000


def test_published_settings_do_not_name_the_documents(tmp_path: Path) -> None:
    files = [["layoffs.txt", "12345678"], ["notes.txt", "9abcdef0"]]
    settings = {"corpus": {"name": "n", "sources": files}, "tokens": {"exclude_documents": ["layoffs.txt"]}}
    write_json(tmp_path / "settings.json", settings)
    described = describe_settings(tmp_path)
    assert described["corpus.name"] == "n" and described["corpus.sources"].startswith("2 names (")
    assert "layoffs" not in json.dumps(described)


@needs_chromium
def test_texts_on_the_study_page_do_not_run(smoke: Path, tmp_path: Path) -> None:
    root = tmp_path / "moved"
    shutil.copytree(smoke, root)
    for file in root.glob("corpus/*/documents.jsonl"):
        replace_values(file, title=HOSTILE, text=HOSTILE)
    for file in root.glob("evaluation/*/answers-closed_book.jsonl"):
        replace_values(file, question=HOSTILE, document_id=HOSTILE)
    study = study_of(root)
    (study / "manifest.json").unlink()
    run_scaling_curve(make_context(root, study))
    tree = render_page(study / "report.html", tmp_path / "browser")
    assert tree.xpath("//head/title/text()") == [study.name] and not list(tree.iter("script"))
    assert tree.text_content().count(HOSTILE) > 3, "in samples and in changed questions"
    assert not [link for link in tree.xpath("//img/@src | //a/@href") if not link.startswith(("data:image/", "../"))]


def replace_values(file: Path, **values: str) -> None:
    lines = [{**json.loads(line), **values} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_no_curve_is_fitted_to_a_check_of_the_pipeline(smoke: Path, tmp_path: Path) -> None:
    root = tmp_path / "moved"
    shutil.copytree(smoke, root)
    study = study_of(root)
    for file in (study / "runs").glob("*.json"):
        write_json(file, {**json.loads(file.read_text()), "label": PIPELINE_CHECK})
    run_scaling_curve(make_context(root, study))
    curve = json.loads((study / "curve.json").read_text())
    assert curve["fits"] == [] and "A check of the pipeline" in curve["notes"][0]
    assert (
        "A check of the pipeline" in (study / "report.html").read_text()
        and "a check of the pipeline, not a result" in (study / "curve.svg").read_text()
    )


def test_data_losses_are_shown_next_to_the_curve(smoke: Path, tmp_path: Path) -> None:
    root = tmp_path / "moved"
    shutil.copytree(smoke, root)
    study = study_of(root)
    (study / "manifest.json").unlink()
    runs, _ = finished_runs(study, root)
    for run, unanswered in zip(runs, (3, 7), strict=False):
        scores = dict(run.scores)
        scores[run.task]["data_losses"] = {"questions have no answer": {"count": unanswered, "total": 60}}
        write_json(run.folder("evaluation") / "scores.json", scores)
        base = run.base_model_scores
        base[run.task]["data_losses"] = {"prompts exceed the model's context": {"count": 5, "total": 60}}
        write_json(run.folder("baseline") / "scores.json", base)
    lines = run_scaling_curve(make_context(root, study))

    assert "data losses in a run: up to 7 of 60 questions have no answer" in lines
    of_base_model = "Data losses of the base model: 5 of 60 prompts exceed the model's context"
    assert f"note: {of_base_model}" in lines
    assert of_base_model.split("'")[0] in (study / "report.html").read_text(encoding="utf-8")
    curve = json.loads((study / "curve.json").read_text(encoding="utf-8"))
    counts = [point["data_losses"].get("questions have no answer", {}).get("count", 0) for point in curve["points"]]
    assert sorted(counts, reverse=True)[0] == 7 and 0 in counts
    assert "up to 7 of 60 questions have no answer" in curve["footer"]
    assert "up to 7 of 60" in (study / "curve.svg").read_text(encoding="utf-8")
    assert "tokens: 7 of 60 questions have no answer" in (study / "report.html").read_text(encoding="utf-8")
