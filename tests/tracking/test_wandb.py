"""What W&B holds: read back from the files that it writes offline, and as a stand-in for its server receives it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb.util import get_core_path

from entigraph.storage.artifact import read_manifest
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document
from tests.commands import RunningCommand, run_command
from tests.conftest import TINY, Command, curve_of, study_of
from tests.polling import wait_for
from tests.tracking.wandb_server import Service, served

NAMED_KEY = "llm.api_key_env=OPENAI_API_KEY"
SECRETS = {"WANDB_API_KEY": "sekret-wandb-0123456789abcdef0123456789abcd", "OPENAI_API_KEY": "sekret-openai"}


def read_run(file: Path) -> dict[str, Any]:
    """One offline run by W&B's own reader: its identity, configuration, history, summary and artifacts."""
    # What `wandb leet inspect` starts, without half a second of imports for each file.
    options = ["--no-observability", "--json", "--run-file", str(file), str(file.parents[1])]
    output = subprocess.run(
        [get_core_path(), "leet", "inspect", *options], capture_output=True, text=True, check=True
    ).stdout
    result: dict[str, Any] = {"history": [], "summary": {}, "config": {}, "used": [], "made": []}
    for record in map(json.loads, output.splitlines()):
        content = record.get(record["type"], {})
        if record["type"] == "run":
            result |= {key: value for key, value in content.items() if key != "config"}
            result["config"] |= content["config"]["update"]
        if record["type"] == "config":
            result["config"] |= content["update"]
        if record["type"] == "history":
            result["history"].append(content.get("item", content))
        if record["type"] == "summary":
            result["summary"] |= content.get("update", {})
        if record["type"] == "artifact":
            result["used" if content.get("use_after_commit") else "made"].append(content)
    return result


def read_runs(root: Path, job_type: str = "") -> list[dict[str, Any]]:
    """In the order in which they were begun."""
    runs = [read_run(file) for file in sorted((root / "wandb").glob("offline-run-*/*.wandb"))]
    return [run for run in runs if job_type in ("", run["job_type"])]


@pytest.fixture(scope="module")
def runs(smoke: Path) -> list[dict[str, Any]]:
    return read_runs(smoke)


def test_each_job_has_one_run_with_training_and_scores(runs: list[dict[str, Any]]) -> None:
    jobs = [run for run in runs if run["run_group"].startswith("smoke-") and run["job_type"] == "train"]
    assert len(jobs) == 6 and len({run["run_id"] for run in jobs}) == 6 and len({run["run_group"] for run in jobs}) == 1
    for run in jobs:
        steps = [line["training/step"] for line in run["history"] if "training/loss" in line]
        assert steps and steps == sorted(steps)
        assert {"accuracy", "synthetic_tokens", "augmenter"} <= {*run["summary"]}
        assert run["summary"]["augmenter"] == run["config"]["augmenter"] and run["config"]["augmenter"] in run["tags"]
        assert run["config"]["data"]["replay_rate"] == 0.1
    names = {run["display_name"] for run in jobs}
    assert {"raw-4k-seed0", "entigraph-8k-seed0"} <= names and len(names) == 6
    assert all(re.fullmatch(re.escape(run["display_name"]) + "-[0-9a-f]{8}", run["run_id"]) for run in jobs)


def test_shared_artifacts_are_one_group(runs: list[dict[str, Any]], smoke: Path) -> None:
    """A project's list of runs, grouped, shows its studies and one row with all runs that are only bookkeeping."""
    groups = {
        run["run_group"]: {other["job_type"] for other in runs if other["run_group"] == run["run_group"]}
        for run in runs
    }
    assert groups[study_of(smoke).name] == {"train", "analysis"}
    assert {"corpus", "tokens", "synthesis", "evaluation"} <= groups["artifacts"]
    assert len(runs) == len({run["run_id"] for run in runs}), "a run for each artifact, however many jobs share it"


def test_every_number_of_the_scores_is_in_summary_and_table(runs: list[dict[str, Any]], smoke: Path) -> None:
    expected = {"closed_book/accuracy", "closed_book/accuracy_norm", "closed_book/chance", "closed_book/questions"}
    for run in runs:
        if run["job_type"] == "train" and run["run_group"] == study_of(smoke).name:
            assert expected <= {*run["summary"]}
            assert any(name.startswith("closed_book/groups/") for name in run["summary"])
    (table,) = (smoke / "wandb").glob("offline-run-*-analysis/files/media/table/curve_*.table.json")
    content = json.loads(table.read_text())
    assert expected <= {*content["columns"]} and all(len(row) == len(content["columns"]) for row in content["data"])
    for run_row in curve_of(smoke)["runs"]:
        assert run_row["scores"]["closed_book/accuracy"] == run_row["accuracy"]
    assert "All " in (page := (study_of(smoke) / "report.html").read_text()) and "closed_book/chance" in page


def test_output_contains_no_hints_of_libraries(smoke: Path) -> None:
    printed = (smoke.parent / "printed.txt").read_text().lower()
    assert not any(word in printed for word in ("wandb:", "view run", "litlogger", "tip:", "try installing"))


def test_analysis_logs_table_chart_and_image(runs: list[dict[str, Any]], smoke: Path) -> None:
    (analysis,) = [run for run in runs if run["job_type"] == "analysis"]
    logged = {key.split(".")[0] for line in analysis["history"] for key in line}
    assert {"curve", "accuracy_by_tokens_table", "scaling_curve", "paired", "changed_questions"} <= logged
    chart = analysis["config"]["_wandb.visualize.accuracy_by_tokens"]
    fields = {"x": "log10_tokens", "y": "accuracy", "stroke": "augmenter"}
    assert chart["panel_config"]["fieldSettings"] == fields
    (table,) = (smoke / "wandb").glob("offline-run-*-analysis/files/media/table/curve_*.table.json")
    rows = json.loads(table.read_text())["data"]
    assert [row[:2] for row in rows] == [
        [point["augmenter"], point["synthetic_tokens"]]
        for point in json.loads((study_of(smoke) / "curve.json").read_text())["points"]
    ]


def test_lineage_from_corpus_to_curve(runs: list[dict[str, Any]], smoke: Path) -> None:
    producers = {item["name"]: run for run in runs for item in run["made"] if item["type"] != "run_table"}
    (curve,) = [name for name in producers if name.startswith("analysis-smoke-")]
    visited, pending = {}, [curve]
    while pending:
        name = pending.pop()
        if name not in visited:
            (artifact,) = [item for item in producers[name]["made"] if item["name"] == name]
            visited[name] = artifact
            stage, folder = name.split("-", 1)
            inputs = [used["name"] for used in producers[name]["used"]]
            if stage != "analysis":
                stated = read_manifest(smoke / stage / folder)["inputs"].values()
                assert {item["folder"] for item in stated} <= {one.split("-", 1)[1] for one in inputs}
            pending += inputs
    kinds = {artifact["type"] for artifact in visited.values()}
    assert kinds == {"corpus", "tokenizer", "texts", "tokens", "model", "scores", "curve"}
    for artifact in visited.values():
        (entry,) = artifact["manifest"]["contents"]
        file = Path(entry["ref"].removeprefix("file://"))
        assert file.name == "manifest.json" and int(entry["size"]) == file.stat().st_size and entry["digest"]
    scores = [json.loads(item["metadata"]) for item in visited.values() if item["type"] == "scores"]
    assert all("closed_book.accuracy" in item["counts"] for item in scores)


def test_uploads_contain_no_document_text(smoke: Path) -> None:
    documents = [d for file in (smoke / "corpus").rglob("documents.jsonl") for d in read_jsonl(file, Document)]
    sentences = {document.text.split(". ")[0].encode() for document in documents}
    files = [file for file in (smoke / "wandb").rglob("*") if file.is_file() and not file.is_symlink()]
    assert len(sentences) > 50 and len(files) > 8
    for file in files:
        content = file.read_bytes()
        assert not any(sentence in content for sentence in sentences), file


def test_files_contain_no_secrets(command: Command, tmp_path: Path) -> None:
    """As a job with a key in its environment and a paid writer in its configuration: nothing is asked of it."""
    settings = [one for one in TINY if one != "logger=none"]
    result = command("run", *settings, "augmenter=raw", "llm=openai", "llm.model=gpt-4o-mini", NAMED_KEY, **SECRETS)
    assert result.returncode == 0, result.stderr
    files = [file for file in (tmp_path / "outputs").rglob("*") if file.is_file()]
    (job,) = read_runs(tmp_path / "outputs", "train")
    assert job["config"]["llm"]["api_key_env"] == "OPENAI_API_KEY"
    for file in files:
        content = file.read_bytes()
        assert not any(secret.encode() in content for secret in SECRETS.values()), file


# --- continued ---

SLOWLY = ["run", *(one for one in TINY if not one.startswith(("logger", "trainer"))), "augmenter=raw"]
SLOWLY += ["trainer.max_steps=150", "trainer.log_every_n_steps=1", "trainer.checkpoint_every_n_steps=7"]


@pytest.mark.parametrize("stop_signal", [signal.SIGKILL, signal.SIGTERM])
def test_interrupted_job_resumes_the_same_run(stop_signal: signal.Signals, tmp_path: Path) -> None:
    running = RunningCommand(*SLOWLY, cwd=tmp_path)
    root = tmp_path / "outputs"
    pattern = "training/*/checkpoints/step-*"
    wait_for(lambda: any(int(step.name[5:]) >= 30 for step in root.glob(pattern)), process=running)
    running.send_signal(stop_signal)
    running.wait()
    result = run_command(*SLOWLY, cwd=tmp_path, timeout=600)
    assert result.returncode == 0, result.stderr
    first, second = read_runs(root, "train")
    assert first["run_id"] == second["run_id"] and first["history"] and second["history"]
    for key in ("_step", "training/step"):
        logged = [line[key] for run in (first, second) for line in run["history"]]
        assert logged == sorted({*logged}), "none twice, none backwards"
    (metrics,) = root.glob("training/*/metrics.jsonl")
    measured = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert logged == measured == [*range(1, 151)], "and none is missing"
    assert "accuracy" in second["summary"]


# --- online ---


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))
    with served() as server:
        yield server


def test_sync_uploads_lineage_without_texts(service: Service, smoke: Path, tmp_path: Path) -> None:
    shutil.copytree(smoke / "wandb", tmp_path / "wandb", symlinks=True)
    folders = sorted(str(folder) for folder in (tmp_path / "wandb").glob("offline-run-*"))
    result = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", "--yes", *folders],
        cwd=tmp_path,  # where it leaves a log of its own
        env={**os.environ, **service.environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    grouped = [run for run in service.runs.values() if run["group"] == study_of(smoke).name]
    assert sum("accuracy" in run["summary"] for run in grouped) == 6
    names = [item["artifactCollectionName"] for item in service.artifacts]
    for stage in ("corpus", "synthesis", "tokens", "training", "evaluation"):
        assert any(name.startswith(f"{stage}-fictional-") for name in names)
    used = {(use["runName"], names[int(use["artifactID"].rpartition("-")[2]) - 1]) for use in service.used}
    (texts,) = {name for name in names if name.startswith("synthesis-fictional-entigraph-")}
    assert {run for run, name in used if name == texts} == {
        f"tokens-{folder.name}" for folder in (smoke / "tokens").glob("fictional-entigraph-*")
    }
    documents = [d for file in (smoke / "corpus").rglob("documents.jsonl") for d in read_jsonl(file, Document)]
    uploaded = b"\n".join(service.received)
    assert len(uploaded) > 100_000 and not any(
        document.text.split(". ")[0].encode() in uploaded for document in documents
    )


def test_online_analysis_creates_and_updates_one_report(
    service: Service, smoke: Path, command: Command, tmp_path: Path
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(smoke, root, symlinks=True)
    analysis = ["analyze", "experiments=smoke", f"paths.root={root}"]
    assert "W&B report" not in command(*analysis).stdout, "offline nothing is published"
    for confidence in (0.9, 0.8):
        result = command(*analysis, f"analysis.confidence={confidence}", **service.environment)
        assert result.returncode == 0 and f"W&B report  {service.url}/lab/entigraph/reports/" in result.stdout, (
            result.stdout
        )
    (report,) = service.reports
    study = study_of(root)
    spec = json.loads(report["spec"])
    grids = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    chosen = [{one["key"]["name"]: one["value"] for one in grid["runSets"][0]["filters"]["filters"]} for grid in grids]
    assert report["displayName"] == study.name
    assert chosen == [{"group": study.name, "jobType": kind} for kind in ("analysis", "train")]
    panels = [panel["viewType"] for grid in grids for panel in grid["panelBankSectionConfig"]["panels"]]
    assert panels == ["Media Browser", "Scatter Plot", "Run History Line Plot", "Run Comparer"]
    text = "\n".join(block["content"] for block in spec["blocks"] if block["type"] == "markdown-block")
    curve = json.loads((study / "curve.json").read_text())
    for point in curve["points"]:
        assert f"| {point['augmenter']} | {point['synthetic_tokens']:,} | {point['accuracy']:.3f} |" in text
    assert all(note in text for note in [*curve["notes"], *curve["summary"]])
    assert f"{study.name}-analysis" in service.runs, "the redrawn curve is logged to the study's own analysis run"


def test_rejected_report_is_reported_and_figures_are_written(
    service: Service, smoke: Path, command: Command, tmp_path: Path
) -> None:
    service.refused = "upsertView"
    root = tmp_path / "copy"
    shutil.copytree(smoke, root, symlinks=True)
    result = command("analyze", "experiments=smoke", f"paths.root={root}", **service.environment)
    assert result.returncode == 0 and "W&B report: not published" in result.stdout, result.stdout + result.stderr
    assert "permission denied" in result.stdout and str(study_of(root) / "report.html") in result.stdout
