import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entigraph.errors import ArtifactError
from entigraph.storage import artifact
from entigraph.storage.artifact import Artifact


def an_artifact(root: Path, cache_key: dict[str, object] | None = None, **inputs: Path) -> Artifact:
    return Artifact(root, "corpus", "letters", cache_key or {"seed": 0}, inputs)


def write_letters(out: Path) -> dict[str, int]:
    (out / "letters.txt").write_text("abc")
    return {"letters": 3}


def test_made_once_and_sealed_with_what_decided_it(tmp_path: Path) -> None:
    found = an_artifact(tmp_path)
    manifest = artifact.build_artifact(found, write_letters)
    assert manifest["cache_key"] == {"seed": 0} and manifest["counts"] == {"letters": 3}
    assert manifest["files"]["letters.txt"]["bytes"] == 3
    again = artifact.build_artifact(found, lambda out: pytest.fail("made a second time"))
    assert again == manifest


def test_the_folder_follows_from_what_decides_it_and_from_the_inputs(tmp_path: Path) -> None:
    one = an_artifact(tmp_path)
    assert one.folder == an_artifact(tmp_path).folder
    assert one.folder != an_artifact(tmp_path, {"seed": 1}).folder
    assert one.folder != an_artifact(tmp_path, source=tmp_path / "tokens" / "x-00000000").folder


def test_an_unfinished_folder_is_begun_anew(tmp_path: Path) -> None:
    found = an_artifact(tmp_path)
    found.folder.mkdir(parents=True)
    (found.folder / "half-a-file").write_text("?")
    artifact.build_artifact(found, write_letters)
    assert not (found.folder / "half-a-file").exists()


def test_damage_is_named_with_the_remedy(tmp_path: Path) -> None:
    found = an_artifact(tmp_path)
    artifact.build_artifact(found, write_letters)
    (found.folder / "letters.txt").write_text("ab")
    later = Artifact(tmp_path, "tokens", "later", {}, {"corpus": found.folder})
    with pytest.raises(ArtifactError, match=r"letters.txt has 2 bytes, not the 3 .* remove .* run the same"):
        artifact.build_artifact(later, write_letters)
    (found.folder / "letters.txt").unlink()
    with pytest.raises(ArtifactError, match="letters.txt is missing"):
        artifact.verify(found.folder)


def test_a_truncated_manifest_is_named(tmp_path: Path) -> None:
    found = an_artifact(tmp_path)
    artifact.build_artifact(found, write_letters)
    manifest = found.folder / "manifest.json"
    manifest.write_text(manifest.read_text()[:40])
    with pytest.raises(ArtifactError, match=r"manifest.json is damaged; remove"):
        artifact.build_artifact(found, write_letters)


def test_a_folder_made_from_something_else_is_refused_key_by_key(tmp_path: Path) -> None:
    found = an_artifact(tmp_path)
    artifact.build_artifact(found, write_letters)
    manifest = json.loads((found.folder / "manifest.json").read_text())
    manifest["cache_key"]["seed"] = 7
    (found.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"made from something else:\n  - cache_key.seed: 7 then, 0 now"):
        artifact.build_artifact(found, write_letters)


def test_an_input_made_anew_is_noticed(tmp_path: Path) -> None:
    source = an_artifact(tmp_path)
    artifact.build_artifact(source, write_letters)
    later = Artifact(tmp_path, "tokens", "later", {}, {"corpus": source.folder})
    artifact.build_artifact(later, write_letters)
    (source.folder / "manifest.json").unlink()
    artifact.build_artifact(source, lambda out: {"letters": (out / "letters.txt").write_text("xyz")})
    with pytest.raises(ArtifactError, match="inputs.corpus: .* was made anew since"):
        artifact.build_artifact(later, write_letters)


def build_slowly(root: Path, log: Path) -> None:
    def work(out: Path) -> dict[str, int]:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.5)
        return write_letters(out)

    artifact.build_artifact(an_artifact(root), work)


def test_processes_that_want_the_same_build_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    builders = [context.Process(target=build_slowly, args=(tmp_path, log)) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(60)
        assert builder.exitcode == 0
    assert log.read_text() == "built\n"


def build_for_ever(root: Path) -> None:
    def work(out: Path) -> dict[str, int]:
        (out / "letters.txt").write_text("a")
        time.sleep(600)
        return {}

    artifact.build_artifact(an_artifact(root), work)


def test_a_killed_builder_leaves_nothing_that_is_trusted(tmp_path: Path) -> None:
    builder = multiprocessing.get_context("spawn").Process(target=build_for_ever, args=(tmp_path,))
    builder.start()
    found = an_artifact(tmp_path)
    while not (found.folder / "letters.txt").exists():
        time.sleep(0.05)
    os.kill(builder.pid or 0, signal.SIGKILL)
    builder.join()
    assert not found.complete
    assert artifact.build_artifact(found, write_letters)["counts"] == {"letters": 3}


def test_a_file_that_cannot_grow_ends_in_one_message(tmp_path: Path) -> None:
    """The kernel refuses the write as a full disk does; nothing half-written is sealed."""
    code = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_artifact import an_artifact
from entigraph.storage import artifact
from entigraph.errors import ArtifactError
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
def work(out):
    (out / "big").write_bytes(bytes(100_000))
    return {{}}
try:
    artifact.build_artifact(an_artifact(Path({str(tmp_path)!r})), work)
except ArtifactError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "cannot write" in done.stdout and "run the same command" in done.stdout, done.stderr
    assert not an_artifact(tmp_path).complete
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20000


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot write below .*file"):
        artifact.build_artifact(an_artifact(tmp_path / "file"), write_letters)


def test_identify_names_our_own_and_reads_what_is_not(tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    assert artifact.identify_path(root / "training" / "x-12345678" / "model", root) == "training/x-12345678/model"
    assert artifact.identify_path("meta-llama/Meta-Llama-3-8B", root) == "meta-llama/Meta-Llama-3-8B"
    for folder in (tmp_path / "data", root / "notes"):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text("one")
        before = artifact.identify_path(folder, root)
        (folder / "a.txt").write_text("two")
        assert artifact.identify_path(folder, root) != before, "what is not ours goes by content, wherever it lies"
