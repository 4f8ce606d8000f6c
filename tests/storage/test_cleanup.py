"""Listing artifacts with their users, and removing only those that nothing needs."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entigraph.config.schema import Stage
from entigraph.errors import ArtifactError
from entigraph.pipeline import execution
from entigraph.pipeline.run import Run
from entigraph.runtime.progress import SilentProgress
from entigraph.storage import artifact, cleanup, locks
from entigraph.storage.artifact import Artifact
from tests.conftest import TINY, Command, study_of


@pytest.fixture
def root(smoke: Path, tmp_path: Path) -> Path:
    """A copy of a finished study that a test may change."""
    copy = tmp_path / "outputs"
    shutil.copytree(smoke, copy)
    return copy


def artifact_names(root: Path) -> set[str]:
    return {stored.name for stored in cleanup.take_inventory(root).artifacts}


def unneeded(root: Path) -> set[str]:
    return {f"{stored.stage}/{stored.name}" for stored in cleanup.take_inventory(root).unneeded}


def test_list_shows_users(root: Path, command_here: Command) -> None:
    process = command_here("list", "experiments=smoke")
    assert process.returncode == 0 and "28 artifacts under" in process.stdout and "0 unfinished" in process.stdout
    lines = process.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("training") and "raw-4000" in line)
    assert f"studies/{study_of(root).name}, evaluation/fictional-raw-4000-seed0-" in lines[at + 1]


def test_artifacts_of_the_same_name_show_differing_values(root: Path) -> None:
    (one,) = root.glob("training/fictional-raw-4000-*")
    other = one.with_name(one.name[:-8] + "0123abcd")
    shutil.copytree(one, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["cache_key"]["optim"]["lr"] = 0.5
    (other / "manifest.json").write_text(json.dumps(manifest))
    differences = cleanup.describe_differences(cleanup.take_inventory(root).artifacts)
    assert differences[other.name] == "optim.lr=0.5" and differences[one.name].startswith("optim.lr=")


def test_corpora_of_the_same_name_show_the_files_that_differ(tmp_path: Path) -> None:
    for digest, sources in (("00000001", [["a.txt", "11"], ["b.txt", "22"]]), ("00000002", [["a.txt", "33"]])):
        folder = tmp_path / "corpus" / f"notes-{digest}"
        folder.mkdir(parents=True)
        artifact.finalize(folder, {"stage": "corpus", "key": digest, "cache_key": {"sources": sources}, "inputs": {}})
    differences = cleanup.describe_differences(cleanup.take_inventory(tmp_path).artifacts)
    assert differences == {
        "notes-00000001": "sources.a.txt=11 sources.b.txt=22",
        "notes-00000002": "sources.a.txt=33",
    }


def test_finished_study_is_needed(root: Path, command_here: Command) -> None:
    assert unneeded(root) == set()
    assert "nothing to remove: all 28" in command_here("clean", "clean=true").stdout and len(artifact_names(root)) == 28


def test_clean_removes_only_artifacts_of_a_removed_study(root: Path, command_here: Command) -> None:
    shutil.rmtree(study_of(root))
    (root / "notes").mkdir()
    (root / "training" / "mine").mkdir()
    (root / "response_cache.sqlite").write_text("answers")
    listing = command_here("clean")
    assert "28 of 28 artifacts not needed" in listing.stdout, listing.stderr
    assert "nothing was removed" in listing.stdout and len(artifact_names(root)) == 28
    base = next(root.glob("training/fictional_background-*")).name
    process = command_here("clean", "clean=true")
    assert process.returncode == 0 and "removed " in process.stdout, process.stderr
    assert base not in artifact_names(root) and not (root / ".removed").exists()
    assert (
        (root / "notes").exists()
        and (root / "training" / "mine").exists()
        and (root / "response_cache.sqlite").exists()
    )


def test_removed_run_frees_artifacts_that_only_it_used(root: Path) -> None:
    (member,) = (study_of(root) / "runs").glob("fictional-raw-4000-*")
    parts = json.loads(member.read_text())
    member.unlink()
    assert unneeded(root) == {parts["tokens"], parts["training"], parts["evaluation"]}


def test_model_without_evaluation_is_kept(root: Path) -> None:
    shutil.rmtree(study_of(root))
    for folder in root.glob("evaluation/fictional-raw-4000-*"):
        shutil.rmtree(folder)
    (model,) = root.glob("training/fictional-raw-4000-*")
    (base,) = root.glob("training/fictional_background-*")
    left = artifact_names(root) - {name.split("/")[1] for name in unneeded(root)}
    assert {model.name, base.name} <= left
    assert not any("rephrase" in name for name in left)


def test_unfinished_build_is_removed_unless_it_is_running(root: Path) -> None:
    unfinished = root / "tokens" / "fictional-raw-99-0123abcd"
    unfinished.mkdir()
    (unfinished / "shard-00000.bin").write_bytes(b"x" * 5000)
    assert unneeded(root) == {"tokens/fictional-raw-99-0123abcd"}
    with locks.lock(unfinished, root):
        assert "being built now" in "\n".join(cleanup.render_inventory(cleanup.take_inventory(root)))
        with pytest.raises(ArtifactError, match="is being built"):
            list(cleanup.clean(root, remove=True))
    assert "5.0 kB" in "\n".join(cleanup.clean(root, remove=False)) and unfinished.exists()
    assert list(cleanup.clean(root, remove=True)) and not unfinished.exists()
    assert len(artifact_names(root)) == 28


def test_nothing_is_removed_while_a_command_runs_even_between_its_builds(root: Path) -> None:
    shutil.rmtree(study_of(root))
    with locks.running_command(root):
        for remove in (False, True):
            with pytest.raises(ArtifactError, match="a command is running under"):
                list(cleanup.clean(root, remove))
    killed = root / ".locks" / "commands-0123" / "1"
    killed.parent.mkdir()
    killed.write_bytes(json.dumps({"host": locks.host(), "pid": 2**22 + 1, "started": "1", "released": False}).encode())
    assert "28 of 28 artifacts not needed" in "\n".join(cleanup.clean(root, remove=False))
    assert list(cleanup.clean(root, remove=True)) and not artifact_names(root) and not killed.parent.exists()


def test_artifacts_of_an_unfinished_run_are_kept_until_it_is_given_up(configured: Callable[..., Run]) -> None:
    run = configured(*TINY)

    class Interrupting(SilentProgress):
        def notify(self, line: str) -> None:
            if line.startswith("tokens"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execution.run_pipeline(run, Interrupting())
    folders = artifact_names(run.root)
    assert any(".building-" in name for name in folders) and len(folders) > 1
    lines = list(cleanup.clean(run.root, remove=True))
    assert artifact_names(run.root) == folders, "the same command continues from them"
    assert f"{len(folders)} artifacts of unfinished runs kept under {run.root}" in lines[0]
    listing = "\n".join(cleanup.render_inventory(cleanup.take_inventory(run.root)))
    assert listing.count(f"unfinished run {run.readable_name}") == len(folders) and "1 unfinished" in listing
    assert f"the unfinished runs: {run.readable_name}; unfinished=true lists these too" in lines[1]
    assert list(cleanup.clean(run.root, remove=True, keep_runs=False)) and not artifact_names(run.root)
    assert not cleanup.take_inventory(run.root).unfinished_runs


def example(root: Path, name: str, stage: str = "tokens", **inputs: Artifact) -> Artifact:
    return Artifact(root, stage, name, {}, {role: other.folder for role, other in inputs.items()})


def interrupt(root: Path, finished: list[Artifact], started: list[Artifact]) -> None:
    """A command that finishes artifacts and is then interrupted, in the middle of one if any are only started."""

    def write(out: Path) -> dict[str, Any]:
        (out / "part").write_text("written")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), cleanup.keep_until_finished(root, "run", [*finished, *started]):
        for kept in finished:
            artifact.build_artifact(kept, lambda out: {})
        for kept in started:
            artifact.build_artifact(kept, write)
        raise KeyboardInterrupt


def finish(root: Path, *artifacts: Artifact) -> None:
    with cleanup.keep_until_finished(root, "run", artifacts):
        for kept in artifacts:
            artifact.build_artifact(kept, lambda out: {})


def test_inputs_that_other_runs_made_are_kept_for_an_unfinished_run(tmp_path: Path) -> None:
    earlier = example(tmp_path, "earlier")
    later = example(tmp_path, "later", changed_since=earlier)
    artifact.build_artifact(earlier, lambda out: {})
    interrupt(tmp_path, [], [later])
    list(cleanup.clean(tmp_path, remove=True))
    assert earlier.complete and later.unfinished
    finish(tmp_path, later)
    assert not [*(tmp_path / ".runs").iterdir()] and len(unneeded(tmp_path)) == 2


def test_run_that_another_command_has_finished_is_not_unfinished(tmp_path: Path) -> None:
    one, two, three = (example(tmp_path, name) for name in ("one", "two", "three"))
    interrupt(tmp_path, [one], [two])
    finish(tmp_path, two, three)
    (file,) = cleanup.take_inventory(tmp_path).runs
    assert not cleanup.take_inventory(tmp_path).unfinished_runs and len(unneeded(tmp_path)) == 3
    assert list(cleanup.clean(tmp_path, remove=True)) and not artifact_names(tmp_path) and not file.exists()


def test_finishing_a_run_ends_its_interrupted_commands(tmp_path: Path) -> None:
    one, two, three = (example(tmp_path, name) for name in ("one", "two", "three"))
    interrupt(tmp_path, [one], [two])
    interrupt(tmp_path, [one], [two])
    assert len(cleanup.take_inventory(tmp_path).runs) == 2
    assert "the unfinished runs: run; unfinished=true" in "\n".join(cleanup.clean(tmp_path, remove=False))
    finish(tmp_path, one, two, three)
    assert not cleanup.take_inventory(tmp_path).runs


def test_evaluation_is_kept_until_it_is_in_a_study(tmp_path: Path) -> None:
    model = example(tmp_path, "model", "training")
    scores = example(tmp_path, "scores", "evaluation", training=model)
    artifact.build_artifact(model, lambda out: {})
    with pytest.raises(KeyboardInterrupt), cleanup.keep_until_finished(tmp_path, "run", [model, scores]):
        artifact.build_artifact(scores, lambda out: {"closed_book": {"accuracy": 0.5}})
        raise KeyboardInterrupt
    list(cleanup.clean(tmp_path, remove=True))
    assert model.complete and scores.complete
    entry = tmp_path / "studies" / "scaling" / "runs" / "run.json"
    entry.parent.mkdir(parents=True)
    entry.write_text(json.dumps({"evaluation": scores.folder.name}))
    assert not cleanup.take_inventory(tmp_path).unfinished_runs and not unneeded(tmp_path)


def test_command_that_writes_nothing_leaves_only_the_unfinished_runs_of_others(tmp_path: Path) -> None:
    corpus, tokens = example(tmp_path, "corpus", "corpus"), example(tmp_path, "tokens")
    artifact.build_artifact(corpus, lambda out: {})
    with cleanup.keep_until_finished(tmp_path, "run", [corpus, tokens]):
        with pytest.raises(ArtifactError), cleanup.keep_until_finished(tmp_path, "run", [corpus, tokens]):
            raise ArtifactError("invalid input")
        assert len(cleanup.take_inventory(tmp_path).unfinished_runs) == 1
    assert not cleanup.take_inventory(tmp_path).runs


@pytest.mark.parametrize("content", ['["corpus-', "{}", "[1]"])
def test_damaged_file_of_an_unfinished_run_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / ".runs").mkdir()
    file = tmp_path / ".runs" / "run-0123abcd.json"
    file.write_text(content)
    with pytest.raises(ArtifactError, match=f"{file} is damaged: .*; delete the file"):
        cleanup.take_inventory(tmp_path)
    with pytest.raises(ArtifactError, match="is damaged"):
        list(cleanup.clean(tmp_path, remove=True))
    finish(tmp_path, example(tmp_path, "tokens"))
    assert file.exists(), "only list and clean report it"


def test_run_counts_as_a_running_command_until_it_ends(configured: Callable[..., Run]) -> None:
    run = configured(*TINY)
    running: list[set[Path]] = []

    class Recording(SilentProgress):
        def notify(self, line: str) -> None:
            running.append(locks.held(locks.command_names(run.root), run.root))

    execution.run_stage(run, Stage.corpus, Recording())
    assert running and all(len(commands) == 1 for commands in running) and not locks.command_names(run.root)


def test_damaged_artifact_is_kept(root: Path) -> None:
    (folder,) = root.glob("tokens/fictional-raw-4000-*")
    (folder / "manifest.json").write_text("{")
    assert unneeded(root) == set()
    assert f"{folder.name}  damaged" in "\n".join(cleanup.render_inventory(cleanup.take_inventory(root)))


def test_texts_written_by_a_model_are_kept(configured: Callable[..., object]) -> None:
    offline, paid = configured(*TINY), configured(*TINY, "llm=openai")
    for run in (offline, paid):
        for step in (run.artifacts.corpus, run.artifacts.tokenizer, run.artifacts.synthesis):  # type: ignore[attr-defined]
            if not step.complete:
                artifact.build_artifact(step, lambda out: {})
    assert unneeded(paid.root) == {f"synthesis/{offline.artifacts.synthesis.folder.name}"}  # type: ignore[attr-defined]


def test_killed_removal_is_finished_by_the_next_clean(root: Path) -> None:
    (root / ".removed" / "tokens-half").mkdir(parents=True)
    script = (
        f"import pathlib; from entigraph.storage.cleanup import clean; print(*clean(pathlib.Path({str(root)!r}), True))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert not (root / ".removed").exists()


def test_manifest_of_another_version_is_listed_and_kept_like_any_other(root: Path) -> None:
    (folder,) = root.glob("training/fictional-raw-4000-*")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["decides"] = manifest.pop("cache_key")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert f"{folder.name}  made by another version" in "\n".join(
        cleanup.render_inventory(cleanup.take_inventory(root))
    )
    assert unneeded(root) == set()
