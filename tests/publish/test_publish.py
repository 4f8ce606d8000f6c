"""`entigraph publish`: what it lists is what it uploads, and documents leave the machine only on request."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from entigraph.errors import ArtifactError, ConfigError
from entigraph.publish.published_files import PublicationKind, collect_files
from entigraph.publish.results_card import render_results_card
from entigraph.storage.artifact import build_folder, read_json, write_json
from entigraph.storage.private_marks import mark_private
from tests.chat.finished_runs import DOCUMENTS, RUN, write_run
from tests.conftest import Command
from tests.publish.hub_server import Hub, hub_server

SYNTHESIS = "lamps-entigraph-00000002"
STUDY = "lamps-00000005"


@pytest.fixture(scope="module")
def model_outputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("publish") / "outputs"
    write_run(root, tiny_model)
    (root / "synthesis" / SYNTHESIS / "report.html").write_text(DOCUMENTS[0].text)
    runs = root / "studies" / STUDY / "runs"
    runs.mkdir(parents=True)
    write_json(runs / "a.json", {"training": f"training/{RUN}", "synthesis": f"synthesis/{SYNTHESIS}"})
    point = {"augmenter": "a|b <b>", "synthetic_tokens": 10, "accuracy": 0.5, "stderr": 0.1, "seeds": 1,
             "questions": 4, "groups": {}, "background": None, "metrics": {}}  # fmt: skip
    curve = {"base": None, "baselines": [], "points": [point], "notes": ["Simulated."], "summary": {"Significant": "-"}}
    write_json(root / "studies" / STUDY / "curve.json", curve)
    for name in ("report.html", "paired.json", "curve.png"):
        (root / "studies" / STUDY / name).write_text("x")
    return root


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_server() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))  # without a stored token
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs `entigraph ...` in a new interpreter, because huggingface_hub reads HF_ENDPOINT when it is imported."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "entigraph", *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


def names(root: Path, kind: PublicationKind, name: str, with_texts: bool = False) -> set[str]:
    return {file.name for file in collect_files(kind, name, root, with_texts).files}


def test_documents_are_published_on_request_only(model_outputs: Path) -> None:
    assert names(model_outputs, PublicationKind.corpus, "lamps-entigraph") == {"texts-00000.parquet", "graphs.jsonl"}
    assert "documents.jsonl" in names(model_outputs, PublicationKind.corpus, SYNTHESIS, with_texts=True)
    assert names(model_outputs, PublicationKind.results, "lamps") == {"README.md", "curve.json", "curve.png"}
    assert {"report.html", "paired.json"} <= names(model_outputs, PublicationKind.results, STUDY, with_texts=True)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names(model_outputs, PublicationKind.model, RUN)


def test_dry_run_lists_the_files_and_sends_nothing(command: Command, model_outputs: Path, hub: Hub) -> None:
    result = command("publish", "corpus", SYNTHESIS, "--to", "me/lamps", "--root", str(model_outputs))
    assert result.returncode == 0, result.stderr
    assert f"corpus {SYNTHESIS} to me/lamps, a dataset repository, private if it is new: 2 files" in result.stdout
    assert "  texts-00000.parquet  " in result.stdout and "excluded: report.html" in result.stdout
    assert "excluded: documents.jsonl" in result.stdout and "nothing was uploaded" in result.stdout
    assert not hub.tokens


def test_upload_sends_exactly_the_listed_files(command: Command, model_outputs: Path, hub: Hub) -> None:
    options = ["--to", "me/results", "--root", str(model_outputs), "--upload"]
    result = command("publish", "results", STUDY, *options, HF_TOKEN="hf_secret")
    assert result.returncode == 0, result.stderr
    assert f"published: {hub.url}/me/repo/commit/1" in result.stdout and "hf_secret" not in result.stdout
    assert {*hub.files} == {"README.md", "curve.json", "curve.png"}
    assert hub.files["curve.json"] == (model_outputs / "studies" / STUDY / "curve.json").read_bytes()
    ((repository,), (commit,)) = hub.created, hub.commits
    assert repository["visibility"] == "private" and repository["type"] == "dataset"
    assert "/api/datasets/me/results/" in commit
    assert hub.tokens == {"Bearer hf_secret"}


def test_missing_token_and_rejection_raise_one_error(command: Command, model_outputs: Path, hub: Hub) -> None:
    options = ["--to", "me/results", "--root", str(model_outputs), "--upload"]
    result = command("publish", "results", STUDY, *options)
    assert result.returncode == 1 and "no token for the Hub" in result.stderr and not hub.tokens
    hub.refuse = 403
    result = command("publish", "results", STUDY, *options, HF_TOKEN="hf_secret")
    assert result.returncode == 1 and "the Hub rejected me/results" in result.stderr
    assert result.stderr.count("error:") == 1 and "Traceback" not in result.stderr


def test_private_study_is_not_published(tiny_model: Path, tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    training = write_run(root, tiny_model)
    study = root / "studies" / STUDY
    study.mkdir(parents=True)
    write_json(study / "curve.json", {"base": None, "baselines": [], "points": [], "notes": []})
    mark_private([root / "synthesis" / SYNTHESIS, study], root, "lamps")
    for kind, name, root_option in (
        (PublicationKind.model, RUN, root),  # whose texts are private
        (PublicationKind.model, str(training), tmp_path / "elsewhere"),
        (PublicationKind.corpus, SYNTHESIS, root),
        (PublicationKind.results, STUDY, root),
    ):
        with pytest.raises(ConfigError, match="belongs to the private study lamps"):
            collect_files(kind, name, root_option, False)


def test_local_paths_are_replaced_in_the_card_and_warned_about_elsewhere(tiny_model: Path, tmp_path: Path) -> None:
    model = write_run(tmp_path, tiny_model) / "model"
    (model / "README.md").write_text(f"| base model | {tmp_path}/training/base-00000001/model |")
    (model / "notes.md").write_text(f"see {tmp_path}/notes")
    publication = collect_files(PublicationKind.model, RUN, tmp_path, False)
    (card,) = [file for file in publication.files if file.name == "README.md"]
    assert card.content == b"| base model | base-00000001 |"
    assert publication.warnings == [f"notes.md contains the path {tmp_path}"]


def test_hidden_files_and_links_elsewhere_are_not_published(tiny_model: Path, tmp_path: Path) -> None:
    model = write_run(tmp_path, tiny_model) / "model"
    (model / ".git").mkdir()
    (model / ".git" / "config").write_text("url = https://user:token@host")
    (model / ".env").write_text("KEY=1")
    (model / "link.txt").symlink_to("/etc/hostname")
    publication = collect_files(PublicationKind.model, RUN, tmp_path, False)
    assert not {".git/config", ".env", "link.txt"} & {file.name for file in publication.files}
    assert "link.txt (hidden, or a link to a file elsewhere)" in publication.excluded
    assert not any(line.startswith(".git/") for line in publication.excluded)


def test_files_of_the_hub_cache_are_published(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--me--x" / "snapshots" / "abc", tmp_path / "models--me--x" / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    (blobs / "1").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/1")
    assert names(tmp_path, PublicationKind.model, str(snapshot)) == {"config.json"}


def test_adapter_is_published_without_the_base_model(tiny_model: Path, tmp_path: Path) -> None:
    training = write_run(tmp_path, tiny_model)
    with pytest.raises(ConfigError, match="has no adapter; expected a run with model/adapter=lora"):
        collect_files(PublicationKind.adapter, RUN, tmp_path, False)
    (training / "adapter").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (training / "adapter" / name).write_text("{}")
    (training / "model" / "README.md").write_text("card")
    publication = collect_files(PublicationKind.adapter, RUN, tmp_path, False)
    assert {file.name for file in publication.files} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert publication.repo_type == "model"


def test_texts_that_quote_documents_need_with_texts(tiny_model: Path, tmp_path: Path) -> None:
    write_run(tmp_path, tiny_model)
    file = tmp_path / "synthesis" / SYNTHESIS / "manifest.json"
    manifest = read_json(file)
    for changes in (
        {"counts": manifest["counts"] | {"kinds": {"raw": 1}}},
        {"counts": manifest["counts"] | {"kinds": {"summary_extractive": 1, "pair": 3}}},
        {"cache_key": {"llm": {"name": "offline"}}},
    ):
        write_json(file, manifest | changes)
        with pytest.raises(ConfigError, match="contains sentences of the source documents"):
            collect_files(PublicationKind.corpus, SYNTHESIS, tmp_path, False)
        assert "documents.jsonl" in names(tmp_path, PublicationKind.corpus, SYNTHESIS, with_texts=True)


def test_wrong_names_are_errors(model_outputs: Path) -> None:
    for kind, name, message in (
        (PublicationKind.corpus, "lamps-entigraf", "did you mean lamps-entigraph"),
        (PublicationKind.results, "nothing", "not found in .*studies"),
        (PublicationKind.model, "meta-llama/Llama-3.2-1B", "is a Hub model already"),
    ):
        with pytest.raises(ConfigError, match=message):
            collect_files(kind, name, model_outputs, False)


def test_unfinished_synthesis_is_named(tmp_path: Path) -> None:
    build_folder(tmp_path / "synthesis" / SYNTHESIS, "1").mkdir(parents=True)
    with pytest.raises(ArtifactError, match=f"{SYNTHESIS} is not finished; run the same command to continue it"):
        collect_files(PublicationKind.corpus, "lamps-entigraph", tmp_path, False)


def test_results_card_escapes_markdown(model_outputs: Path) -> None:
    point = {"augmenter": "a|b <script>", "synthetic_tokens": 10, "accuracy": 0.5, "stderr": 0.1, "seeds": 2,
             "questions": 4, "groups": {}, "background": None, "metrics": {}}  # fmt: skip
    card = render_results_card("s", {"base": None, "baselines": [], "points": [point], "notes": ["Simulated."]})
    assert "| a\\|b \\<script\\> | 10 | 0.500 | 0.100 | 2 seeds |" in card and "> Simulated." in card
