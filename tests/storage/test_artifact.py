"""Building, finalizing, verifying and identifying artifacts."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from entigraph.errors import ArtifactError
from entigraph.storage import artifact, fingerprints
from entigraph.storage.artifact import Artifact
from tests.commands import ForkedProcess
from tests.polling import wait_for


def letters_artifact(root: Path, cache_key: dict[str, object] | None = None, **inputs: Path) -> Artifact:
    return Artifact(root, "corpus", "letters", cache_key or {"seed": 0}, inputs)


def write_letters(out: Path) -> dict[str, int]:
    (out / "letters.txt").write_text("abc")
    return {"letters": 3}


def test_artifact_is_built_once_and_manifest_holds_cache_key(tmp_path: Path) -> None:
    letters = letters_artifact(tmp_path)
    manifest = artifact.build_artifact(letters, write_letters)
    assert manifest["cache_key"] == {"seed": 0} and manifest["counts"] == {"letters": 3}
    assert manifest["files"]["letters.txt"]["bytes"] == 3
    rerun = artifact.build_artifact(letters, lambda out: pytest.fail("built a second time"))
    assert rerun == manifest


def test_folder_depends_on_cache_key_and_inputs(tmp_path: Path) -> None:
    one = letters_artifact(tmp_path)
    assert one.folder == letters_artifact(tmp_path).folder
    assert one.folder != letters_artifact(tmp_path, {"seed": 1}).folder
    assert one.folder != letters_artifact(tmp_path, source=tmp_path / "tokens" / "x-00000000").folder


def test_unfinished_folder_is_rebuilt(tmp_path: Path) -> None:
    letters = letters_artifact(tmp_path)
    letters.folder.mkdir(parents=True)
    (letters.folder / "half-a-file").write_text("?")
    artifact.build_artifact(letters, write_letters)
    assert not (letters.folder / "half-a-file").exists()


def test_damaged_input_is_reported_with_remedy(tmp_path: Path) -> None:
    letters = letters_artifact(tmp_path)
    artifact.build_artifact(letters, write_letters)
    (letters.folder / "letters.txt").write_text("ab")
    later = Artifact(tmp_path, "tokens", "later", {}, {"corpus": letters.folder})
    with pytest.raises(ArtifactError, match=r"letters.txt must have 3 bytes, got 2; remove .* run the same"):
        artifact.build_artifact(later, write_letters)
    (letters.folder / "letters.txt").unlink()
    with pytest.raises(ArtifactError, match="letters.txt is missing"):
        artifact.verify(letters.folder)


def test_truncated_manifest_is_reported(tmp_path: Path) -> None:
    letters = letters_artifact(tmp_path)
    artifact.build_artifact(letters, write_letters)
    manifest = letters.folder / "manifest.json"
    manifest.write_text(manifest.read_text()[:40])
    with pytest.raises(ArtifactError, match=r"manifest.json is damaged; remove"):
        artifact.build_artifact(letters, write_letters)


def test_changed_cache_key_is_reported_by_key(tmp_path: Path) -> None:
    letters = letters_artifact(tmp_path)
    artifact.build_artifact(letters, write_letters)
    manifest = json.loads((letters.folder / "manifest.json").read_text())
    manifest["cache_key"]["seed"] = 7
    (letters.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"built from something else:\n  - cache_key.seed: 7 then, 0 now"):
        artifact.build_artifact(letters, write_letters)


def test_rebuilt_input_is_detected(tmp_path: Path) -> None:
    source = letters_artifact(tmp_path)
    artifact.build_artifact(source, write_letters)
    later = Artifact(tmp_path, "tokens", "later", {}, {"corpus": source.folder})
    artifact.build_artifact(later, write_letters)
    (source.folder / "manifest.json").unlink()
    artifact.build_artifact(source, lambda out: {"letters": (out / "letters.txt").write_text("xyz")})
    with pytest.raises(ArtifactError, match="inputs.corpus: .* was rebuilt since"):
        artifact.build_artifact(later, write_letters)


def build_slowly(root: Path, log: Path) -> None:
    def write(out: Path) -> dict[str, int]:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.5)
        return write_letters(out)

    artifact.build_artifact(letters_artifact(root), write)


def test_concurrent_processes_build_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    builders = [ForkedProcess(build_slowly, tmp_path, log) for _ in range(3)]
    assert [builder.wait() for builder in builders] == [0, 0, 0]
    assert log.read_text() == "built\n"


def build_forever(root: Path) -> None:
    def write(out: Path) -> dict[str, int]:
        (out / "letters.txt").write_text("a")
        time.sleep(600)
        return {}

    artifact.build_artifact(letters_artifact(root), write)


def test_killed_build_is_not_complete(tmp_path: Path) -> None:
    builder = ForkedProcess(build_forever, tmp_path)
    letters = letters_artifact(tmp_path)
    wait_for((artifact.build_folder(letters.folder, "1") / "letters.txt").exists, process=builder)
    builder.kill()
    builder.wait()
    assert not letters.complete
    assert artifact.build_artifact(letters, write_letters)["counts"] == {"letters": 3}


def test_full_disk_prints_one_message(tmp_path: Path) -> None:
    """A file size limit fails like a full disk; the artifact stays unfinished."""
    code = f"""
import resource, sys
from pathlib import Path
from tests.storage.test_artifact import letters_artifact
from entigraph.storage import artifact
from entigraph.errors import ArtifactError
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
def write(out):
    (out / "big").write_bytes(bytes(100_000))
    return {{}}
try:
    artifact.build_artifact(letters_artifact(Path({str(tmp_path)!r})), write)
except ArtifactError as error:
    print(error)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert "cannot write" in process.stdout and "run the same command" in process.stdout, process.stderr
    assert not letters_artifact(tmp_path).complete
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20000


def test_disk_error_of_a_library_raises_one_error(tmp_path: Path) -> None:
    def write(out: Path) -> dict[str, Any]:
        Tokenizer(WordLevel()).save(str(out))
        return {}

    with pytest.raises(ArtifactError, match=r"cannot write .*: Is a directory \(os error 21\); check the disk"):
        artifact.build_artifact(letters_artifact(tmp_path), write)


def test_unwritable_root_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot write under .*file"):
        artifact.build_artifact(letters_artifact(tmp_path / "file"), write_letters)


def test_identify_path_names_artifacts_and_fingerprints_other_files(tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    assert artifact.identify_path(root / "training" / "x-12345678" / "model", root) == "training/x-12345678/model"
    assert artifact.identify_path("meta-llama/Meta-Llama-3-8B", root) == "meta-llama/Meta-Llama-3-8B"
    for folder in (tmp_path / "data", root / "notes"):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text("one")
        before = artifact.identify_path(folder, root)
        (folder / "a.txt").write_text("two")
        assert artifact.identify_path(folder, root) != before, "files outside artifacts are identified by content"


def test_large_files_of_text_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "WHOLE_WEIGHTS_BYTES", 1000)
    monkeypatch.setattr(fingerprints, "WHOLE_FILE_BYTES", 3000)
    monkeypatch.setattr(fingerprints, "SAMPLED_BYTES", 1)
    sizes = {"corpus.jsonl": 2000, "replay.jsonl": 4000, "model.safetensors": 4000}  # read whole, and sampled
    changed = {}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(b"2023" * (size // 4))
        os.utime(tmp_path / name, ns=(0, 0))
        before = fingerprints.fingerprint(tmp_path / name)
        (tmp_path / name).write_bytes(b"2023" * (size // 4 - 1) + b"2033")
        changed[name] = fingerprints.fingerprint(tmp_path / name) != before
    assert changed == {"corpus.jsonl": True, "replay.jsonl": True, "model.safetensors": False}


def test_manifest_in_an_unknown_form_is_from_another_version(tmp_path: Path) -> None:
    letters = letters_artifact(tmp_path)
    manifest = artifact.build_artifact(letters, write_letters)
    assert not artifact.is_from_another_version(manifest)
    assert artifact.is_from_another_version({**manifest, "key": "00000000"})
    former = {name: value for name, value in manifest.items() if name != "cache_key"}
    assert artifact.is_from_another_version({**former, "decides": {"seed": 0}})
