"""Runs of a study that differ in a setting form separate series, and notes state the difference."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from entigraph.analysis.scaling.scaling_curve import ScalingCurve, build_curve
from entigraph.analysis.series import describe_differences, name_series
from entigraph.analysis.study_runs import build_points
from tests.analysis.studies import make_context, make_run, study_folder


def entry(augmenter: str, **varies: Any) -> dict[str, Any]:
    return {"augmenter": augmenter, "varies": varies}


def names(*entries: dict[str, Any]) -> list[str]:
    return [named["augmenter"] for named in name_series(entries)]


def test_difference_between_augmenters_changes_no_name() -> None:
    assert names(entry("raw", epochs=4), entry("entigraph", epochs=2)) == ["raw", "entigraph"]
    assert names({"augmenter": "raw"}, {"augmenter": "raw"}) == ["raw", "raw"]


def test_difference_within_an_augmenter_names_its_series() -> None:
    two = names(entry("raw", **{"trainer.max_epochs": 4}), entry("raw", **{"trainer.max_epochs": 2}))
    assert two == ["raw max_epochs=4", "raw max_epochs=2"]


def test_writers_are_distinguished_by_model_alone() -> None:
    llama = {"name": "vllm", "model": "llama", "dtype": "auto"}
    gpt = {"name": "openai", "model": "gpt", "max_tokens": None}
    assert names(entry("entigraph", llm=llama), entry("entigraph", llm=gpt)) == [
        "entigraph model=llama",
        "entigraph model=gpt",
    ]


def test_grid_is_distinguished_by_both_keys() -> None:
    grid = [entry("raw", rate=rate, epochs=epochs) for rate in (0.0, 0.1) for epochs in (1, 2)]
    assert names(*grid)[0] == "raw epochs=1 rate=0.0" and len({*names(*grid)}) == 4


def test_runs_that_differ_are_never_averaged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for seed, epochs in ((0, 2), (1, 4)):
        name = make_run(tmp_path, "raw", 1000, seed, 0.5, rng).name
        file = study_folder(tmp_path) / "runs" / f"{name}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "varies": {"trainer.max_epochs": epochs}}))
    context = make_context(tmp_path, study_folder(tmp_path))
    assert [(point.augmenter, point.seeds) for point in build_points(context.runs)] == [
        ("raw max_epochs=2", 1),
        ("raw max_epochs=4", 1),
    ]
    curve = build_curve(context, ScalingCurve())
    assert curve["varies"] == ["trainer.max_epochs"]
    assert any(note.startswith("trainer.max_epochs differs between runs: 2 for raw") for note in curve["notes"])


def test_note_lists_the_augmenters_of_each_value() -> None:
    entries = [entry("entigraph", epochs=2, lr=1), entry("rephrase", epochs=2, lr=1), entry("raw", epochs=4, lr=1)]
    assert list(describe_differences(entries)) == ["epochs differs between runs: 2 for entigraph, rephrase; 4 for raw."]


def test_other_options_of_an_augmenter_are_another_series() -> None:
    """Options differ between augmenters as a matter of course; within one, they would be averaged as seeds."""
    options = [{"name": "spa", "kinds": ["lesson"], "prompts": {"lesson": digest}} for digest in ("a1", "b2")]
    entries = [{"augmenter": "spa", "seed": seed, "options": options[seed > 1]} for seed in range(3)]
    entries.append({"augmenter": "qa", "seed": 0, "options": {"name": "qa"}})
    named = name_series(entries)
    assert [run["augmenter"] for run in named] == ["spa lesson=a1", "spa lesson=a1", "spa lesson=b2", "qa"]
    assert list(describe_differences(named)) == [
        "augmenter.prompts.lesson differs between runs: a1 for spa lesson=a1; b2 for spa lesson=b2."
    ]
    assert [run["augmenter"] for run in name_series(entries[:2])] == ["spa", "spa"]
