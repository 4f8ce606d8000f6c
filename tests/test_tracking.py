"""What W&B holds, read back from the files that it writes offline."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from entigraph.records import Document, read_jsonl


def read_run(file: Path) -> dict[str, Any]:
    """One offline run by W&B's own reader: its identity, configuration, history and summary."""
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    printed = subprocess.run(reader, capture_output=True, text=True, check=True).stdout
    found: dict[str, Any] = {"history": [], "summary": {}, "config": {}}
    for record in map(json.loads, printed.splitlines()):
        content = record.get(record["type"], {})
        if record["type"] == "run":
            found |= {key: value for key, value in content.items() if key != "config"}
            found["config"] |= content["config"]["update"]
        if record["type"] == "history":
            found["history"].append(content.get("item", content))
        if record["type"] == "summary":
            found["summary"] |= content.get("update", {})
    return found


@pytest.fixture(scope="module")
def runs(smoke: Path) -> list[dict[str, Any]]:
    return [read_run(file) for file in sorted((smoke / "wandb").glob("offline-run-*/*.wandb"))]


def test_one_run_a_job_holds_training_and_scores(runs: list[dict[str, Any]]) -> None:
    jobs = [run for run in runs if run["run_group"].startswith("smoke-") and run["job_type"] == "train"]
    assert len(jobs) == 6 and len({run["run_id"] for run in jobs}) == 6 and len({run["run_group"] for run in jobs}) == 1
    for run in jobs:
        steps = [line["training/step"] for line in run["history"] if "training/loss" in line]
        assert steps and steps == sorted(steps)
        assert {"accuracy", "synthetic_tokens", "augmenter"} <= {*run["summary"]}
        assert run["summary"]["augmenter"] == run["config"]["augmenter"] and run["config"]["augmenter"] in run["tags"]
        assert run["config"]["data"]["replay_rate"] == 0.1


def test_the_analysis_logs_the_lines_as_a_table_and_an_image(runs: list[dict[str, Any]]) -> None:
    (analysis,) = [run for run in runs if run["job_type"] == "analysis"]
    logged = {key for line in analysis["history"] for key in line}
    for name in ("curve", "scaling_curve", "paired", "changed_questions"):
        assert any(key.startswith(name) for key in logged), name


def test_no_document_text_is_in_anything_that_would_be_uploaded(smoke: Path) -> None:
    documents = [d for file in (smoke / "corpus").rglob("documents.jsonl") for d in read_jsonl(file, Document)]
    sentences = {document.text.split(". ")[0].encode() for document in documents}
    files = [file for file in (smoke / "wandb").rglob("*") if file.is_file() and not file.is_symlink()]
    assert len(sentences) > 50 and len(files) > 8
    for file in files:
        content = file.read_bytes()
        assert not any(sentence in content for sentence in sentences), file
