"""What there is, who uses it, and that only what nothing needs goes away."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from entigraph.errors import ArtifactError
from entigraph.storage import artifact, cleanup, locks
from tests.conftest import TINY, Command, study_of


@pytest.fixture
def root(smoke: Path, tmp_path: Path) -> Path:
    """A finished study of one's own."""
    copy = tmp_path / "outputs"
    shutil.copytree(smoke, copy)
    return copy


def names(root: Path) -> set[str]:
    return {entry.name for entry in cleanup.taken(root).entries}


def unneeded(root: Path) -> set[str]:
    return {f"{entry.stage}/{entry.name}" for entry in cleanup.taken(root).unneeded}


def test_the_list_says_who_uses_what(root: Path, command: Command) -> None:
    done = command("experiments=smoke", "stage=list")
    assert done.returncode == 0 and "28 artifacts below" in done.stdout and "0 unfinished" in done.stdout
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("training") and "raw-4000" in line)
    assert f"studies/{study_of(root).name}, evaluation/fictional-raw-4000-seed0-" in lines[at + 1]
    assert command("stage=list", "paths.root=nowhere").stdout.startswith("0 artifacts below")


def test_namesakes_are_told_apart_by_what_decided_them(root: Path) -> None:
    (one,) = root.glob("training/fictional-raw-4000-*")
    other = one.with_name(one.name[:-8] + "0123abcd")
    shutil.copytree(one, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["cache_key"]["optim"]["lr"] = 0.5
    (other / "manifest.json").write_text(json.dumps(manifest))
    told = cleanup.told_apart(cleanup.taken(root).entries)
    assert told[other.name] == "optim.lr=0.5" and told[one.name].startswith("optim.lr=")


def test_all_of_a_finished_study_is_needed(root: Path, command: Command) -> None:
    assert unneeded(root) == set()
    assert "nothing to remove: all 28" in command("stage=clean", "clean=true").stdout and len(names(root)) == 28


def test_what_led_to_a_removed_study_goes_and_nothing_else(root: Path, command: Command) -> None:
    shutil.rmtree(study_of(root))
    (root / "notes").mkdir()
    (root / "training" / "mine").mkdir()
    (root / "response_cache.sqlite").write_text("answers")
    shown = command("stage=clean")
    assert "28 of 28 artifacts that nothing needs" in shown.stdout, shown.stderr
    assert "nothing was removed" in shown.stdout and len(names(root)) == 28
    base = next(root.glob("training/fictional_background-*")).name
    done = command("stage=clean", "clean=true")
    assert done.returncode == 0 and "removed " in done.stdout, done.stderr
    assert base not in names(root) and not (root / ".removed").exists()
    assert (
        (root / "notes").exists()
        and (root / "training" / "mine").exists()
        and (root / "response_cache.sqlite").exists()
    )


def test_a_run_that_left_its_study_goes_with_what_only_it_used(root: Path) -> None:
    (member,) = (study_of(root) / "runs").glob("fictional-raw-4000-*")
    parts = json.loads(member.read_text())
    member.unlink()
    assert unneeded(root) == {parts["tokens"], parts["training"], parts["evaluation"]}


def test_a_model_that_nobody_asked_is_wanted_for_itself(root: Path) -> None:
    shutil.rmtree(study_of(root))
    for folder in root.glob("evaluation/fictional-raw-4000-*"):
        shutil.rmtree(folder)
    (model,) = root.glob("training/fictional-raw-4000-*")
    (base,) = root.glob("training/fictional_background-*")
    left = names(root) - {name.split("/")[1] for name in unneeded(root)}
    assert {model.name, base.name} <= left
    assert not any("rephrase" in name for name in left)


def test_an_unfinished_build_goes_unless_somebody_builds_it(root: Path) -> None:
    unfinished = root / "tokens" / "fictional-raw-99-0123abcd"
    unfinished.mkdir()
    (unfinished / "shard-00000.bin").write_bytes(b"x" * 5000)
    assert unneeded(root) == {"tokens/fictional-raw-99-0123abcd"}
    with FileLock(locks.lock_file(unfinished, root)):
        assert "being made now" in "\n".join(cleanup.listing(cleanup.taken(root)))
        with pytest.raises(ArtifactError, match="is being made"):
            list(cleanup.clean(root, remove=True))
    assert "5.0 kB" in "\n".join(cleanup.clean(root, remove=False)) and unfinished.exists()
    assert list(cleanup.clean(root, remove=True)) and not unfinished.exists()
    assert len(names(root)) == 28


def test_a_damaged_artifact_is_not_ours_to_remove(root: Path) -> None:
    (folder,) = root.glob("tokens/fictional-raw-4000-*")
    (folder / "manifest.json").write_text("{")
    assert unneeded(root) == set()
    assert f"{folder.name}  damaged" in "\n".join(cleanup.listing(cleanup.taken(root)))


def test_texts_of_a_model_are_kept_and_those_of_no_model_are_not(configured: Callable[..., object]) -> None:
    offline, paid = configured(*TINY), configured(*TINY, "llm=openai")
    for run in (offline, paid):
        for made in (run.documents, run.tokenizer_files, run.synthesis):  # type: ignore[attr-defined]
            if not made.complete:
                artifact.build_artifact(made, lambda out: {})
    assert unneeded(paid.root) == {f"synthesis/{offline.synthesis.folder.name}"}  # type: ignore[attr-defined]


def test_a_removal_that_was_killed_is_finished_by_the_next(root: Path) -> None:
    (root / ".removed" / "tokens-half").mkdir(parents=True)
    script = (
        f"import pathlib; from entigraph.storage.cleanup import clean; print(*clean(pathlib.Path({str(root)!r}), True))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert not (root / ".removed").exists()
