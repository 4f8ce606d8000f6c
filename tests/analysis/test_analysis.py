import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entigraph.analysis.scaling import stage
from entigraph.analysis.scaling.log_linear import fits
from entigraph.analysis.settings import ScalingCurve
from entigraph.analysis.study_runs import finished, points
from entigraph.errors import ConfigError, DataError
from entigraph.reporting.disclaimers import PLUMBING
from entigraph.storage.artifact import FORMAT_VERSIONS, read_manifest, write_json
from entigraph.storage.fingerprints import digest
from entigraph.tracking.base import NoTracker
from tests.analysis.studies import QUESTIONS, a_run, a_study, made


def test_the_fit_recovers_what_made_the_points(tmp_path: Path) -> None:
    (fit,) = fits(a_study(tmp_path, -1.0, 0.14, seeds=3), ScalingCurve())
    assert fit["parameters"]["b"] == pytest.approx(0.14, abs=0.03) and fit["parameters"]["a"] == pytest.approx(
        -1.0, abs=0.35
    )
    assert fit["r2"] > 0.85 and fit["runs"] == 12
    assert fit["gain_per_doubling"] == pytest.approx(fit["parameters"]["b"] * math.log(2))


def test_the_interval_covers_as_often_as_it_says(tmp_path: Path) -> None:
    """Over the noise of questions: 90 % intervals of one seed's slope, in 60 studies."""
    covered = 0
    for number in range(60):
        runs = a_study(tmp_path / str(number), -1.0, 0.14, seeds=1, noise_seed=number)
        (fit,) = fits(runs, ScalingCurve(resamples=300))
        low, high = fit["interval"]["b"]
        covered += low <= 0.14 <= high
    assert 46 <= covered <= 60


def test_the_range_of_the_fit_is_the_stated_one(tmp_path: Path) -> None:
    (fit,) = fits(a_study(tmp_path, -1.0, 0.14), ScalingCurve(fit_from_tokens=50_000))
    assert fit["tokens"] == [50_000, 200_000] and fit["runs"] == 6
    with pytest.raises(ConfigError, match="below fit_to_tokens"):
        ScalingCurve(fit_from_tokens=10, fit_to_tokens=5)


def test_where_there_can_be_no_fit_it_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    two = [a_run(tmp_path / "two", "raw", budget, 0, 0.3, rng) for budget in (1000, 2000)]
    assert "a line and a residual need three" in fits(two, ScalingCurve())[0]["missing"]
    flat = [a_run(tmp_path / "flat", "raw", budget, 0, 1.0, rng) for budget in (1000, 2000, 4000)]
    assert fits(flat, ScalingCurve())[0]["missing"] == "every run has the same accuracy"


def test_falling_accuracy_is_a_negative_slope(tmp_path: Path) -> None:
    (fit,) = fits(a_study(tmp_path, 2.0, -0.14), ScalingCurve())
    assert fit["parameters"]["b"] < -0.1


def test_points_are_means_over_seeds_with_their_spread(tmp_path: Path) -> None:
    runs = a_study(tmp_path, -1.0, 0.14, seeds=3)
    found = points(runs)
    assert [(point.synthetic_tokens, point.seeds, point.questions) for point in found] == [
        (budget, 3, 3 * QUESTIONS) for budget in (25_000, 50_000, 100_000, 200_000)
    ]
    own = [run.score["accuracy"] for run in runs if run.budget == 25_000]
    assert found[0].accuracy == pytest.approx(np.mean(own))
    assert found[0].stderr == pytest.approx(np.std(own, ddof=1) / math.sqrt(3))
    assert points(a_study(tmp_path / "one", -1.0, 0.14, seeds=1))[0].stderr == 0.02, "one seed: clustered by document"


def test_unfinished_runs_are_left_out_by_name(tmp_path: Path) -> None:
    runs = a_study(tmp_path, -1.0, 0.14)
    (runs[0].folder("training") / "manifest.json").unlink()
    whole, left_out = finished(tmp_path / "studies" / "s-00000000", tmp_path)
    assert len(whole) == 7 and left_out == [f"{runs[0].name} is not finished"]


def test_another_setting_is_not_another_seed(tmp_path: Path) -> None:
    """Two runs of one augmenter, budget and seed (of another pool of texts, say) are no two seeds: the newer counts."""
    runs = a_study(tmp_path, -1.0, 0.14, seeds=1)
    twin = a_run(tmp_path / "twin", "entigraph", 25_000, 0, 0.9, np.random.default_rng(1))
    for part in ("evaluation", "tokens", "training"):
        moved = tmp_path / part / "twin"
        shutil.copytree(twin.folder(part), moved)
        write_json(moved / "manifest.json", {**json.loads((moved / "manifest.json").read_text()), "created": "2030"})
    member = {**twin.member, **{part: f"{part}/twin" for part in ("evaluation", "tokens", "training")}}
    write_json(tmp_path / "studies" / "s-00000000" / "runs" / "twin.json", member)
    whole, left_out = finished(tmp_path / "studies" / "s-00000000", tmp_path)
    assert len(whole) == len(runs) and points(whole)[0].seeds == 1 and points(whole)[0].accuracy > 0.8
    assert left_out == [f"{runs[0].name}: twin is newer, of the same augmenter, budget and seed"]


def test_a_run_of_another_version_is_left_out_by_name(smoke: Path, tmp_path: Path) -> None:
    """As after an update that changed what a stage writes: its folders stand beside the new ones, with other keys."""
    root = tmp_path / "moved"
    shutil.copytree(smoke, root)
    (study,) = (root / "studies").glob("smoke-*")
    assert finished(study, root)[1] == []
    (old,) = (root / "tokens").glob("fictional-raw-8000-*")
    manifest = read_manifest(old)
    made_from = {name: made["folder"] for name, made in manifest["inputs"].items()}
    decided = {
        "stage": "tokens",
        "cache_key": manifest["cache_key"],
        "inputs": made_from,
        "format": FORMAT_VERSIONS["tokens"] - 1,
    }
    write_json(old / "manifest.json", {**manifest, "key": digest(decided)})
    whole, left_out = finished(study, root)
    (named,) = left_out
    assert len(whole) == 5 and named.startswith("fictional-raw-8000-seed0-")
    assert named.endswith(": another version of entigraph made its tokens")


def test_a_study_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no finished run"):
        stage.run(made(tmp_path / "studies" / "none-0"), tmp_path, settings=ScalingCurve(), tracker=NoTracker())


def smoke_study(smoke: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of the finished smoke run, somewhere else: everything in it is found relative to its root."""
    root = tmp_path / "moved"
    shutil.copytree(smoke, root)
    (study,) = (root / "studies").glob("smoke-*")
    (study / "manifest.json").unlink()
    stage.run(study, root, settings=ScalingCurve(resamples=20), tracker=NoTracker())
    return study, json.loads((study / "curve.json").read_text())


def test_curve_and_page_of_a_study_that_was_moved(smoke: Path, tmp_path: Path) -> None:
    study, curve = smoke_study(smoke, tmp_path)
    assert {*curve} >= {"points", "base", "fits"}
    assert {*curve["points"][0]} >= {"augmenter", "synthetic_tokens", "accuracy", "stderr", "seeds", "questions"}
    assert {point["augmenter"] for point in curve["points"]} == {"raw", "rephrase", "entigraph"} and len(
        curve["points"]
    ) == 6
    assert curve["base"]["questions"] == 60 and 0 < curve["base"]["accuracy"] < 1
    page = (study / "report.html").read_text()
    addresses = {*re.findall(r"(?:src|href)=[\"']?(https?:[^\"' >]+)", page)}
    assert not addresses, "the page fetches nothing"
    for part in (
        "Simulated at small scale",
        "no independent evidence",
        "source: Chronicle 0",
        "of 190 pairs have a text",
    ):
        assert part in page
    drawn = (study / "curve.svg").read_text()
    assert all(label in drawn for label in ("Chance", "Base model", "EntiGraph", "Rephrase", "Raw"))
    assert str(smoke) not in page and (study / "curve.png").stat().st_size > 20_000


def test_an_offline_writer_on_real_documents_is_a_plumbing_check(smoke: Path, tmp_path: Path) -> None:
    root = tmp_path / "moved"
    shutil.copytree(smoke, root)
    (study,) = (root / "studies").glob("smoke-*")
    for file in (study / "runs").glob("*.json"):
        write_json(file, {**json.loads(file.read_text()), "label": PLUMBING})
    stage.run(study, root, settings=ScalingCurve(resamples=20), tracker=NoTracker())
    curve = json.loads((study / "curve.json").read_text())
    assert curve["fits"] == [] and "A plumbing check" in curve["notes"][0]
    assert (
        "A plumbing check" in (study / "report.html").read_text()
        and "plumbing check" in (study / "curve.svg").read_text()
    )
