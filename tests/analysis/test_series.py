"""Runs of one study that differ in a setting are lines of their own, and what differs is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from entigraph.analysis.scaling.series import differences, in_series
from entigraph.analysis.scaling.stage import described
from entigraph.analysis.settings import ScalingCurve
from entigraph.analysis.study_runs import finished, points
from tests.analysis.studies import a_run


def member(augmenter: str, **varies: Any) -> dict[str, Any]:
    return {"augmenter": augmenter, "varies": varies}


def names(*members: dict[str, Any]) -> list[str]:
    return [found["augmenter"] for found in in_series(members)]


def test_what_differs_between_augmenters_only_changes_no_name() -> None:
    assert names(member("raw", epochs=4), member("entigraph", epochs=2)) == ["raw", "entigraph"]
    assert names({"augmenter": "raw"}, {"augmenter": "raw"}) == ["raw", "raw"]


def test_what_differs_within_an_augmenter_names_its_lines() -> None:
    two = names(member("raw", **{"trainer.max_epochs": 4}), member("raw", **{"trainer.max_epochs": 2}))
    assert two == ["raw max_epochs=4", "raw max_epochs=2"]


def test_writers_are_told_apart_by_their_model_alone() -> None:
    llama = {"name": "vllm", "model": "llama", "dtype": "auto"}
    gpt = {"name": "openai", "model": "gpt", "max_tokens": None}
    assert names(member("entigraph", llm=llama), member("entigraph", llm=gpt)) == [
        "entigraph model=llama",
        "entigraph model=gpt",
    ]


def test_a_grid_is_told_apart_by_both_of_its_keys() -> None:
    grid = [member("raw", rate=rate, epochs=epochs) for rate in (0.0, 0.1) for epochs in (1, 2)]
    assert names(*grid)[0] == "raw epochs=1 rate=0.0" and len({*names(*grid)}) == 4


def test_runs_that_differ_are_never_seeds_of_one_point(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for seed, epochs in ((0, 2), (1, 4)):
        name = a_run(tmp_path, "raw", 1000, seed, 0.5, rng).name
        file = tmp_path / "studies" / "s-00000000" / "runs" / f"{name}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "varies": {"trainer.max_epochs": epochs}}))
    runs, left_out = finished(file.parent.parent, tmp_path)
    assert [(point.augmenter, point.seeds) for point in points(runs)] == [
        ("raw max_epochs=2", 1),
        ("raw max_epochs=4", 1),
    ]
    curve = described(file.parent.parent, runs, left_out, ScalingCurve())
    assert curve["varies"] == ["trainer.max_epochs"]
    assert any(note.startswith("trainer.max_epochs is not the same in all runs: 2 for raw") for note in curve["notes"])


def test_each_difference_says_whose_it_is() -> None:
    members = [member("entigraph", epochs=2, lr=1), member("rephrase", epochs=2, lr=1), member("raw", epochs=4, lr=1)]
    assert list(differences(members)) == ["epochs is not the same in all runs: 2 for entigraph, rephrase; 4 for raw."]
