"""`explain_difference`: the fields in which an artifact differs from the nearest finished one."""

from pathlib import Path
from typing import Any

from entigraph.pipeline.differences import explain_difference
from entigraph.storage.artifact import Artifact, build_artifact


def make_artifact(root: Path, **cache_key: Any) -> Artifact:
    return Artifact(root, "tokenizer", "trained", cache_key, {})


def test_nothing_finished_and_finished(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path, vocabulary=100)
    assert explain_difference(artifact) == ["no finished tokenizer artifact exists"]
    build_artifact(artifact, lambda out: {})
    assert explain_difference(artifact) == []


def test_fields_that_differ_from_the_nearest(tmp_path: Path) -> None:
    near, far = (
        make_artifact(tmp_path, vocabulary=100, options={"seed": 0}),
        make_artifact(tmp_path, vocabulary=200, options={"seed": 9}),
    )
    for artifact in (near, far):
        build_artifact(artifact, lambda out: {})
    lines = explain_difference(make_artifact(tmp_path, vocabulary=100, options={"seed": 1}, code="x"))
    assert lines == [
        f"nearest finished: {near.folder.name}",
        "code: not set → 'x'",
        "options.seed: 0 → 1",
    ]


def test_changed_files_are_named_up_to_a_limit(tmp_path: Path) -> None:
    before, after = ([[f"{name:02}.txt", content] for name in range(30)] for content in ("11", "22"))
    build_artifact(make_artifact(tmp_path, sources=before), lambda out: {})
    lines = explain_difference(make_artifact(tmp_path, sources=after))
    assert lines[1] == "sources.00.txt: '11' → '22'" and lines[-1] == "and 10 more fields" and len(lines) == 22


def test_damaged_manifests_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "tokenizer" / "broken-00000000").mkdir(parents=True)
    (tmp_path / "tokenizer" / "broken-00000000" / "manifest.json").write_text("{")
    assert explain_difference(make_artifact(tmp_path)) == ["no finished tokenizer artifact exists"]


def test_of_equally_near_artifacts_the_one_with_the_similar_name_is_shown(tmp_path: Path) -> None:
    finished = {
        name: Artifact(tmp_path, "tokens", name, {"budget": 1}, {}) for name in ("notes-entigraph", "notes-raw")
    }
    for artifact in finished.values():
        build_artifact(artifact, lambda out: {})
    lines = explain_difference(Artifact(tmp_path, "tokens", "notes-raw", {"budget": 2}, {}))
    assert lines[0] == f"nearest finished: {finished['notes-raw'].folder.name}"
