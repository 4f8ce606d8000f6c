"""The Python API."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

import entigraph
from entigraph.errors import ArtifactError, ConfigError
from tests.conftest import TINY, study_of

RUN = [*(override for override in TINY if not override.startswith("trainer.")), "trainer.max_steps=2", "augmenter=raw"]


def test_import_is_fast_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time\nstart = time.process_time()\nimport entigraph\nseconds = time.process_time() - start\n"
        "heavy = {'torch', 'hydra', 'pandas', 'transformers', 'lightning'} & {*sys.modules}\n"
        "print(seconds < 0.2, heavy, entigraph.errors.EntigraphError.__name__)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout == "True set() EntigraphError\n", process.stdout + process.stderr


def test_plan_reads_every_artifact_and_writes_nothing(tmp_path: Path) -> None:
    GlobalHydra.instance().clear()
    config = entigraph.compose([f"paths.root={tmp_path}/outputs", "experiment=smoke"])
    plan = entigraph.plan(config)
    assert set(plan.artifacts.values()) == {"to do"} and "training" in str(plan) and "entigraph run" in repr(plan)
    assert not list(tmp_path.iterdir()) and not GlobalHydra.instance().is_initialized()


def test_invalid_configuration_raises_one_error() -> None:
    with pytest.raises(ConfigError, match="seed must be at least 0, got -1"):
        entigraph.plan(entigraph.compose(["seed=-1"]))


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("augmenter=raw,rephrase", "several values need a sweep"),
        ("augmenter=entigrph", "did you mean entigraph"),
        ("sed=1", "did you mean seed"),
        ("optim={", "not in Hydra's syntax"),
    ],
)
def test_overrides_that_hydra_refuses_raise_one_error(override: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        entigraph.compose([override])
    assert "\n" not in str(caught.value)


def test_config_dir_adds_options(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    config = entigraph.compose(["experiment=mine"], config_dir=tmp_path)
    assert config.seed == 7 and str(config.hydra.searchpath[0]) == f"file://{tmp_path}"


def test_experiments_needed_from_config_dir(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    first = "defaults: [/experiments/base/smoke]\nseed: 5\n"
    later = "defaults: [{{override /model: pretrained}}]\nneeds: [{{experiment: {0}}}]\n"
    later += "model: {{path: '${{output:{0},training}}/model'}}\n"
    for name, text in (("first", first), ("second", later.format("first")), ("third", later.format("second"))):
        (tmp_path / "experiments" / f"{name}.yaml").write_text(f"# @package _global_\n{text}")
    config = entigraph.compose(["experiments=third", f"paths.root={tmp_path}/outputs"], config_dir=tmp_path)
    assert sum(folder.parent.name == "training" for folder in entigraph.plan(config).artifacts) == 3


def test_run_returns_accuracy_model_and_report_inside_a_running_loop(tmp_path: Path) -> None:
    async def in_notebook() -> "entigraph.api.Result":  # type: ignore[name-defined]
        return entigraph.run(entigraph.compose([*RUN, f"paths.root={tmp_path}/outputs"]))

    result = asyncio.run(in_notebook())
    assert result.accuracy is not None and 0 <= result.accuracy <= 1
    assert (result.model_path / "config.json").exists() and result.report is not None and result.report.exists()
    assert result.disclaimer is not None and "simulated" in result.disclaimer.lower()
    config = entigraph.compose([*RUN, f"paths.root={tmp_path}/outputs"])
    assert set(entigraph.plan(config).artifacts.values()) == {"done"}
    rerun = entigraph.run(config)
    assert rerun == result


def test_study_is_found_by_name(smoke: Path, tmp_path: Path) -> None:
    folder = study_of(smoke)
    for name in ("", "smoke", folder.name):
        study = entigraph.Study.find(name, smoke)
        assert study.folder == folder.resolve() and study.root == smoke.resolve()
    assert len(study.finished_runs) == 6
    assert {run.augmenter for run in study.runs_with_graphs} == {"entigraph"}
    with pytest.raises(ArtifactError, match=f"smoky: not found in .*; studies with a curve: {folder.name}"):
        entigraph.Study.find("smoky", smoke)
    with pytest.raises(ArtifactError, match="no study with a curve; run one first"):
        entigraph.Study.find("", tmp_path)


def test_study_points_are_a_data_frame(smoke: Path) -> None:
    study = entigraph.Study.open(study_of(smoke))
    points = study.points
    assert len(points) == len(json.loads((study_of(smoke) / "curve.json").read_text())["points"])
    assert {"augmenter", "synthetic_tokens", "accuracy", "stderr", "seeds"} <= {*points.columns}
    assert len(study.runs) == 6 and points.accuracy.between(0, 1).all()


def test_folder_without_curve_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no curve.json"):
        entigraph.Study.open(os.fspath(tmp_path))


def test_compose_inside_another_hydra_program_leaves_it_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("lr: 1\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert "augmenter" in entigraph.compose(["experiments=smoke"])
        assert hydra.compose("config") == {"lr": 1}
