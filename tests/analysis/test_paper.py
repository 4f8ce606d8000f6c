"""The paper's figures and tables, and a study's own results next to them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from entigraph.analysis.paper.histograms import write_histograms
from entigraph.analysis.paper.mixture_fit import write_mixture_fit
from entigraph.analysis.paper.paper_curve import PaperCurve, write_paper_curve
from entigraph.analysis.paper.rag_table import write_rag_table
from entigraph.analysis.study_runs import StudyRun, finished_runs
from entigraph.errors import ConfigError
from entigraph.storage.artifact import write_json
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import EntityGraph
from entigraph.tokenization.builders import ByteTokenizer
from tests.analysis.corpora import make_corpus, texts_about
from tests.analysis.studies import make_run
from tests.conftest import study_of


def read_rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_unknown_figure_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match="analysis.name must be one of scaling_with_baselines, weak_writer, coursera, qa"
    ):
        PaperCurve(name="fig_11")


def test_values_that_the_paper_only_draws_are_not_invented(tmp_path: Path) -> None:
    lines = write_paper_curve("weak_writer", [], tmp_path)
    assert any("Llama 3.1 8B, 334M tokens >0.5130" in line for line in lines), "no number is printed, only a bound"
    assert "only drawn, without numbers: EntiGraph and Rephrase by Llama 3.1 8B" in lines[-1]
    write_paper_curve("coursera", [], tmp_path)
    coursera = json.loads((tmp_path / "coursera.json").read_text())
    assert "fit" not in coursera["paper"], "that fit is of other questions"


def add_open_book(run: StudyRun, accuracy: float, recall: float) -> StudyRun:
    file = run.folder("evaluation") / "scores.json"
    closed = json.loads(file.read_text())["closed_book"]
    retrieval = {"article": {"recall": recall, "questions": 200}, "evidence": {"recall": None, "questions": 0}}
    open_book = {**closed, "accuracy": accuracy, "overflowed": 0, "retrieval": retrieval}
    write_json(file, {"closed_book": {**closed, "overflowed": 0}, "open_book": open_book})
    return StudyRun(run.root, run.entry)


def test_rag_table_has_the_rows_of_the_paper_and_of_the_study(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = [add_open_book(make_run(tmp_path / "root", "entigraph", 1000, seed, 0.5, rng), 0.75, 0.9) for seed in (0, 1)]
    lines = write_rag_table(runs, tmp_path)
    rows = read_rows(tmp_path / "rag_table.csv")
    assert [row["accuracy"] for row in rows] == ["0.626", "0.6035", "0.8609", "0.726", "0.75"]
    last_row = rows[-1]
    closed = np.mean([run.scores["closed_book"]["accuracy"] for run in runs])
    assert float(last_row["gain"]) == pytest.approx(0.75 - closed) and last_row["recall of articles"] == "0.9"
    assert last_row["questions"] == "200" and lines[-1] == "best of entigraph: entigraph, open_book: 0.7500"


def test_study_without_retrieval_has_a_hint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "root", "entigraph", 1000, 0, 0.5, np.random.default_rng(0))
    assert "no run of this study was evaluated with passages" in write_rag_table([run], tmp_path)[-1]


def test_histograms_count_tokens_and_entities_per_document(tmp_path: Path) -> None:
    folder = tmp_path / "bytes"
    folder.mkdir()
    ByteTokenizer().build(folder)
    texts = texts_about([("a", "pair", "x" * 10), ("a", "pair", "y" * 5), ("b", "pair", "z")])
    corpus = make_corpus(tmp_path / "c", {"a": "1234", "b": "123456", "c": "12"}, texts, folder)
    graphs = [("a#1", ["Ann", "Bob"]), ("a#2", ["bob", "Cy"]), ("b", ["Ann"])]
    write_jsonl(
        corpus.folder / "graphs.jsonl",
        [EntityGraph(document_id=name, summary="", entities=entities) for name, entities in graphs],
    )
    out = tmp_path / "out"
    out.mkdir()
    write_histograms([corpus], out)
    (counted,) = json.loads((out / "histograms.json").read_text())["corpora"].values()
    assert counted["source_tokens"] == {"a": 5, "b": 7, "c": 3}, "the tokenizer begins a text with a space"
    assert counted["entities"] == {"a": 3, "b": 1, "c": 0}, "the graphs of a document's parts are merged"
    assert counted["synthetic_tokens"] == {"a": 15, "b": 1, "c": 0}, "a document without texts counts"


def test_paper_figures_include_the_study(smoke: Path, tmp_path: Path) -> None:
    runs, _ = finished_runs(study_of(smoke), smoke)
    lines = [*write_mixture_fit(12, runs, tmp_path), *write_paper_curve("scaling_with_baselines", runs, tmp_path)]
    assert "this study: exponentials_3: 7 parameters need more than 2 budgets" in lines
    assert "This study" in (tmp_path / "mixture_fit.svg").read_text()
    assert "tiny model" in (tmp_path / "scaling_with_baselines.svg").read_text()
    assert json.loads((tmp_path / "mixture_fit.json").read_text())["largest_relative_error"] < 1e-6
