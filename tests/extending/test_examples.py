"""Every example of docs/extending.md runs from a package outside the source tree and has the effect it describes."""

import json

import pytest

from tests.extending.examples import EXAMPLES, Project


@pytest.mark.parametrize("title", EXAMPLES)
def test_example_is_complete_and_short(title: str) -> None:
    example = EXAMPLES[title]
    assert example.commands
    for path, text in example.files.items():
        assert len(text.splitlines()) <= 40, path


def test_corpus_reader(project: Project) -> None:
    project.run("Corpus reader")
    documents = project.newest("corpus/glossary-*/documents.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in documents] == ["Heddle", "Shuttle", "Treadle"]
    assert json.loads(project.newest("evaluation/*/scores.json").read_text())["closed_book"]["questions"] == 3


def test_writer(project: Project) -> None:
    project.run("Writer")
    manifest = json.loads(project.newest("synthesis/*/manifest.json").read_text())
    assert manifest["counts"]["texts"] > 0


def test_evaluation_task(project: Project) -> None:
    project.run("Evaluation task")
    scores = json.loads(project.newest("evaluation/*/scores.json").read_text())
    assert set(scores["titles"]["metrics"]) == {"title_recall"}


def test_metric(project: Project) -> None:
    project.run("Metric")
    scores = json.loads(project.newest("evaluation/*/scores.json").read_text())
    assert 0 <= scores["closed_book"]["metrics"]["first_option"] <= 1
