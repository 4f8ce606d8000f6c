"""Listing artifacts with their users, and removing only those that nothing needs."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from entigraph.config.schema import Stage
from entigraph.errors import ArtifactError
from entigraph.pipeline import execution
from entigraph.pipeline.run import Run
from entigraph.runtime.progress import SilentProgress
from entigraph.storage import artifact, cleanup, locks
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
    assert process.returncode == 0 and "28 artifacts below" in process.stdout and "0 unfinished" in process.stdout
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
            with pytest.raises(ArtifactError, match="a command is running below"):
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
    assert f"{len(folders)} artifacts of unfinished runs kept below {run.root}" in lines[0]
    assert f"the unfinished runs: {run.readable_name}; unfinished=true" in lines[1]
    assert list(cleanup.clean(run.root, remove=True, keep_runs=False)) and not artifact_names(run.root)
    assert not cleanup.take_inventory(run.root).unfinished_runs


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
